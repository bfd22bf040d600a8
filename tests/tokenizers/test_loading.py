"""Finding and opening tokenizers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llmchat.errors import ModelLoadError
from llmchat.tokenizers.loading import find_tokenizer, load_tokenizer
from llmchat.tokenizers.sentencepiece import SentencePieceTokenizer
from llmchat.tokenizers.tokenizer_json import TokenizerJson
from tests.tokenizers.vocabularies import DATA, LLMBUILDER_1, LLMBUILDER_2, TINY


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (TINY, SentencePieceTokenizer),
        (TINY / "tokenizer.model", SentencePieceTokenizer),
        (LLMBUILDER_1 / "tok_sp", SentencePieceTokenizer),
        (LLMBUILDER_2 / "tokenizer_model.model", SentencePieceTokenizer),
        (LLMBUILDER_2 / "hf_bpe", TokenizerJson),
        (LLMBUILDER_1 / "tok_hf" / "tokenizer.json", TokenizerJson),
    ],
)
def test_kind_follows_from_the_files(path: Path, kind: type) -> None:
    """Every layout that llmbuilder writes opens, by directory and by file."""
    assert isinstance(load_tokenizer(path), kind)
    assert isinstance(load_tokenizer(str(path)), kind)


def test_tokenizer_json_goes_before_sentencepiece(tmp_path: Path) -> None:
    """In Hugging Face directories only tokenizer.json knows the added chat tokens."""
    shutil.copy(TINY / "tokenizer.model", tmp_path)
    shutil.copy(LLMBUILDER_2 / "hf_bpe" / "tokenizer.json", tmp_path)
    assert isinstance(load_tokenizer(tmp_path), TokenizerJson)


def test_sentencepiece_directories_say_whether_bos_is_added(tmp_path: Path) -> None:
    """A tokenizer_config.json beside a SentencePiece model is believed."""
    shutil.copy(TINY / "tokenizer.model", tmp_path)
    assert not load_tokenizer(tmp_path).adds_bos
    (tmp_path / "tokenizer_config.json").write_text('{"add_bos_token": true}')
    assert load_tokenizer(tmp_path).adds_bos


def test_missing_tokenizers_are_one_clear_error(tmp_path: Path) -> None:
    """The error names the place, and what it should hold."""
    with pytest.raises(ModelLoadError, match=r"sentencepiece\.model"):
        load_tokenizer(tmp_path)
    with pytest.raises(ModelLoadError, match="There is no tokenizer at"):
        load_tokenizer(tmp_path / "gone")


@pytest.mark.parametrize(
    ("checkpoint", "tokenizer"),
    [
        ("model/model.pt", "model/tokenizer.model"),
        ("model/model.pt", "model/tokenizer/tokenizer.json"),
        ("model/model.pt", "tokenizer/tokenizer.model"),
        ("out/checkpoints/best_checkpoint.pt", "out/tokenizer/tokenizer.model"),
        ("out/checkpoints/best_checkpoint.pt", "out/tokenizer.model"),
        ("exports/checkpoints/best_model.pt", "tokenizer/sentencepiece.model"),
    ],
)
def test_tokenizers_are_found_where_llmbuilder_puts_them(tmp_path: Path, checkpoint: str, tokenizer: str) -> None:
    """No --tokenizer is needed for the layouts that training leaves behind."""
    for name in (checkpoint, tokenizer):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_tokenizer(tmp_path / checkpoint) == tmp_path / tokenizer


def test_directories_and_misses(tmp_path: Path) -> None:
    """A model directory works like the file in it; where there is nothing, nothing is found."""
    assert find_tokenizer(DATA / "llmbuilder-2.0.0-tiny" / "model") == TINY / "tokenizer.model"
    assert find_tokenizer(LLMBUILDER_2 / "hf_bpe") == LLMBUILDER_2 / "hf_bpe" / "tokenizer.json"
    assert find_tokenizer(tmp_path / "a" / "b" / "model.pt") is None


def test_looking_loads_no_library() -> None:
    """Finding a tokenizer is cheap: the libraries are loaded with the first tokenizer."""
    code = (
        "import sys, llmchat.tokenizers.loading, llmchat.tokenizers.detokenizer\n"
        "print([name for name in ('tokenizers', 'sentencepiece', 'jinja2', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
