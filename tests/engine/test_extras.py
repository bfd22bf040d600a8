"""Networks that llmchat has no plan of, on the engines that are installed in addition.

Run by hand, after `pip install 'llmchat[transformers,llama-cpp]'`: `python -m pytest -m extras`. What is said where
they are not installed is tested in every run.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from llmchat.chat.archive import read_transcript
from llmchat.chat.model import ModelSpec
from llmchat.engine.engine import Engine, Logits
from llmchat.engine.opening import open_engine
from llmchat.errors import GenerationError, ModelLoadError
from llmchat.replay import replay
from tests.conftest import DATA
from tests.test_replay import everything, talk

SMALL, CONVERTED = DATA / "architectures-extra", DATA / "architectures-extra-gguf"
TOKENIZER = str(DATA / "architectures" / "tokenizer")
END_ID = 2
"""The end token, which was not to be drawn."""

with_transformers = pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed")
with_llama_cpp = pytest.mark.skipif(find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed")
every_network = pytest.mark.parametrize(
    "path",
    [
        *(pytest.param(path.parent, marks=with_transformers) for path in sorted(SMALL.glob("*/config.json"))),
        *(pytest.param(path, marks=with_llama_cpp) for path in sorted(CONVERTED.glob("*.gguf"))),
    ],
    ids=lambda path: path.name,
)


def opened(path: Path, engine: str = "auto", dtype: str = "float32") -> Engine:
    """An engine as a person gets it."""
    spec = ModelSpec(str(path), tokenizer=TOKENIZER, threads=1, dtype=dtype, engine=engine)
    return open_engine(spec, lambda stage, fraction: None)


def behind(engine: Engine, ids: Sequence[int]) -> Logits:
    """The logits behind some ids."""
    logits = engine.prefill(ids, lambda: False).logits
    assert logits is not None
    return logits


def fresh(path: Path, ids: Sequence[int]) -> Logits:
    """The same, read by an engine that has read nothing."""
    return behind(opened(path), ids)


def with_vocabulary(source: Path, path: Path, kind: str, pieces: Sequence[str]) -> Path:
    """A GGUF file with another vocabulary, the first of whose tokens is a control token that ends texts."""
    import gguf

    reader, writer = gguf.GGUFReader(source), gguf.GGUFWriter(path, "mamba")
    for name, field in reader.fields.items():
        if name.startswith("mamba."):
            writer.add_key_value(name, field.contents(), field.types[0])
    writer.add_tokenizer_model(kind)
    writer.add_token_list(list(pieces))
    writer.add_token_types([3, *[1] * (len(pieces) - 1)])
    writer.add_eos_token_id(0)
    for tensor in reader.tensors:
        rows = tensor.data[: len(pieces)] if tensor.name in ("token_embd.weight", "output.weight") else tensor.data
        writer.add_tensor(tensor.name, rows.copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def text(seed: int, length: int) -> list[int]:
    """Some ids."""
    return [int(token) for token in np.random.default_rng(seed).integers(3, 500, length)]


@pytest.mark.extras
@every_network
def test_logits_and_greedy_ids_equal_transformers(path: Path) -> None:
    """The whole way through llmchat changes nothing of what the network says."""
    engine = opened(path)
    assert engine.info.path_words == f"{'transformers' if path.is_dir() else 'llama-cpp'} float32"
    with np.load(SMALL / path.stem / "reference.npz") as reference:
        ids, positions, expected = reference["ids"].tolist(), reference["positions"].tolist(), reference["logits"]
        greedy = reference["greedy"].tolist()
    pairs = zip(positions, expected, strict=True)
    worst = max(np.abs(behind(engine, ids[: position + 1]) - row).max() for position, row in pairs)
    assert worst < 1e-3
    logits, drawn = behind(engine, ids[:12]).copy(), []
    for _ in greedy:
        logits[END_ID] = -np.inf
        drawn.append(int(logits.argmax()))
        logits = engine.decode(drawn[-1]).copy()
    assert drawn == greedy


@pytest.mark.extras
@every_network
def test_what_is_read_again_is_what_is_read_anew(path: Path) -> None:
    """Whatever was read before, and wherever the texts part, the logits are those of an engine that begins.

    Beyond what a sliding window holds and over several pieces of a prompt; with replies drawn in between.
    """
    engine = opened(path)
    first = text(1, 300)
    for ids in (first, first[:290], [*first[:295], *text(2, 20)], first[:10], [*first[:10], *text(3, 40)], text(4, 30)):
        assert np.abs(behind(engine, ids) - fresh(path, ids)).max() < 1e-3
        for token in text(5, 7):
            engine.decode(token)


@pytest.mark.extras
@every_network
def test_a_reply_made_again_reads_only_the_last_token(path: Path) -> None:
    """What cannot be cropped is kept where a reply begins, also over several replies and a longer prompt."""
    engine, prompt = opened(path), text(1, 40)
    behind(engine, prompt)
    for turn in range(3):
        for token in text(turn, 20):
            engine.decode(token)
        assert engine.prefill(prompt, lambda: False).cached_tokens == len(prompt) - 1
    behind(engine, [*prompt, *text(6, 30)])
    assert engine.prefill(prompt, lambda: False).cached_tokens == len(prompt) - 1


@pytest.mark.extras
@every_network
def test_lanes_are_texts_of_their_own(path: Path) -> None:
    """Each lane goes on as its text alone would, also after lanes were dropped and doubled; the engine is as before."""
    engine, prompt = opened(path), text(1, 25)
    behind(engine, prompt)
    lanes = engine.fork(3)
    lanes.decode([10, 11, 12])
    lanes.keep([2, 0, 2])
    rows = lanes.decode([20, 21, 22])
    for tail, row in zip(([12, 20], [10, 21], [12, 22]), rows, strict=True):
        assert np.abs(row - fresh(path, [*prompt, *tail])).max() < 1e-3
    assert np.abs(engine.decode(30) - fresh(path, [*prompt, 30])).max() < 1e-3


@pytest.mark.extras
@every_network
def test_a_conversation_comes_out_the_same(path: Path, tmp_path: Path) -> None:
    """Moved sliders, alternatives, a reply gone on with, an edit: all are drawn again, by the engine that drew them."""
    spec, file = ModelSpec(str(path), tokenizer=TOKENIZER, threads=1), tmp_path / "story.toml"
    talk(file, spec, everything)
    results = list(replay(read_transcript(file)[0], spec))
    assert len(results) == 6
    assert {result.first_difference for result in results} == {None}
    replies = [result.turn.reply for result in results]
    assert {reply and reply.engine for reply in replies} == {"transformers" if path.is_dir() else "llama-cpp"}


@pytest.mark.extras
@every_network
def test_nothing_is_printed_and_no_network_asked(
    path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the libraries say would go over the window; a model on the disk needs nobody else."""

    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(f"socket.socket.{name}", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    engine = opened(path)
    behind(engine, text(1, 20))
    engine.decode(5)
    assert capfd.readouterr() == ("", "")


@pytest.mark.extras
@with_transformers
def test_a_family_of_ours_runs_on_every_engine() -> None:
    """What is asked for runs it, and says the same."""
    path, ids = DATA / "architectures" / "qwen2", text(1, 30)
    rows = {engine: behind(opened(path, engine), ids) for engine in ("torch", "transformers")}
    assert np.abs(rows["transformers"] - rows["torch"]).max() < 1e-4
    assert {opened(path, engine).info.engine for engine in rows} == set(rows)


@pytest.mark.extras
@with_llama_cpp
def test_a_gguf_file_of_ours_runs_on_every_engine() -> None:
    """What is asked for runs it, and says the same, beyond what a sliding window holds and where texts part there."""
    path = DATA / "architectures-gguf" / "cohere2.gguf"
    engines = [opened(path, engine) for engine in ("torch", "llama-cpp")]
    for ids in (text(1, 200), text(1, 120), [*text(1, 120), *text(2, 30)]):
        one, other = (behind(engine, ids) for engine in engines)
        assert np.abs(one - other).max() < 1e-4
    assert [engine.info.engine for engine in engines] == ["torch", "llama-cpp"]


@pytest.mark.extras
@with_llama_cpp
@pytest.mark.parametrize("name", ["deepseek_v2", "lfm2", "mamba"])
def test_a_text_that_outgrows_its_room_goes_on(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read is taken along into larger memory, by the engine and by lanes."""
    path, ids = CONVERTED / f"{name}.gguf", text(1, 400)
    whole = fresh(path, ids)
    monkeypatch.setattr("llmchat.engine.extras.llama_cpp_engine._FIRST_ROOM", 16)
    engine = opened(path)
    behind(engine, ids[:250])
    lanes = engine.fork(2)
    for token in ids[250:]:
        row, rows = engine.decode(token), lanes.decode([token, token])
    assert all(np.abs(each - whole).max() < 1e-3 for each in (row, *rows))


@pytest.mark.extras
@every_network
def test_a_failure_in_the_middle_leaves_nothing_behind(path: Path) -> None:
    """After an id that the network lacks, the next prompt is read as if nothing had been before."""
    ids, engine = text(1, 30), opened(path)
    behind(engine, ids[:20])
    with pytest.raises((GenerationError, IndexError)):
        behind(engine, [*ids[:25], 10**6])
    assert np.abs(behind(engine, ids) - fresh(path, ids)).max() < 1e-4


@pytest.mark.extras
@with_llama_cpp
def test_a_vocabulary_of_another_kind_is_llama_cpps(tmp_path: Path) -> None:
    """Text goes in and out through llama.cpp's vocabulary; what is said is never a control token."""
    pieces = ["<|end|>", *(f"\\x{byte:02x}" for byte in range(256)), "hello", " there"]
    path = with_vocabulary(CONVERTED / "mamba.gguf", tmp_path / "rwkv.gguf", "rwkv", pieces)
    engine = open_engine(ModelSpec(str(path), threads=1), lambda stage, fraction: None)
    tokenizer = engine.tokenizer
    said = "hello there, Zoë <|end|>\n"
    ids = tokenizer.encode(said)
    assert tokenizer.decode(ids) == said and {257, 258} <= set(ids)
    assert 0 not in ids and tokenizer.encode(said, parse_special=True).count(0) == 1
    assert tokenizer.encode_apart("<|end|>hello<|\x7fend|>", "\x7f")[:2] == [0, 257]
    assert tokenizer.token_bytes(0) == b"" and tokenizer.token_text(0) == "<|end|>"
    assert tokenizer.find("<|end|>") == 0 and engine.end_ids == (0,)
    assert np.isfinite(behind(engine, ids)[: tokenizer.vocab_size]).all()


@pytest.mark.extras
@with_transformers
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "elsewhere", "auto_map": {"AutoConfig": "x.Y"}}, "Python code, which llmchat never runs"),
        ({"model_type": "elsewhere"}, "does not know either"),
        ({"architectures": ["BloomForSequenceClassification"]}, "scores or sorts texts"),
        ({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}, "no language model"),
        ({"n_layer": 4}, "is incomplete: the tensor 'transformer.h.3"),
        ({"hidden_size": 48}, "cannot be run with transformers"),
    ],
)
def test_what_transformers_cannot_run_is_said_in_one_line(
    changes: dict[str, object], words: str, tmp_path: Path
) -> None:
    """No code out of a directory is run, and nothing is made up where a parameter is missing."""
    shutil.copytree(SMALL / "bloom", tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    with pytest.raises(ModelLoadError) as caught:
        opened(tmp_path / "model")
    assert words in caught.value.message


def test_an_unknown_network_says_the_line_that_installs_what_may_run_it() -> None:
    """A directory of an architecture without a plan is refused with the way out."""
    for engine in ("auto", "native", "torch"):
        with pytest.raises(ModelLoadError, match=r"'bloom'.*pip install 'llmchat\[transformers\]'"):
            opened(SMALL / "bloom", engine, "auto")
    for engine in ("transformers", "llama-cpp"):
        with pytest.raises(ModelLoadError, match=rf"is not installed: pip install 'llmchat\[{engine}\]'"):
            opened(SMALL / "bloom", engine)


def test_an_engine_that_was_asked_for_is_the_one_that_runs() -> None:
    """Torch where the native step would do; and the native step refuses what only torch can do."""
    path = DATA / "architectures" / "qwen2"
    for engine, runs in (("auto", "native"), ("native", "native"), ("torch", "torch")):
        assert opened(path, engine, "auto").info.engine == runs
    with pytest.raises(ModelLoadError, match="--engine native"):
        opened(path, "native")
