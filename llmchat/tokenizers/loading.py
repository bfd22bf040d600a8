"""Finding and opening a tokenizer, whatever file it comes in. The heavy libraries are imported when needed."""

from __future__ import annotations

from pathlib import Path

from llmchat.errors import ModelLoadError
from llmchat.files import expanded
from llmchat.tokenizers.tokenizer import Tokenizer

_FILE_NAMES = ("tokenizer.json", "tokenizer.model", "sentencepiece.model")
# A tokenizer.json comes first: where a directory has both, it alone knows the added chat tokens.


def load_tokenizer(path: Path | str) -> Tokenizer:
    """Open a tokenizer file, or the one in a directory.

    Raises:
        ModelLoadError: There is none, or it is damaged.
    """
    path = expanded(path)
    file = tokenizer_in(path) if path.is_dir() else path
    if file is None:
        raise ModelLoadError(f"There is no tokenizer in {path}: it needs one of {', '.join(_FILE_NAMES)}.")
    if not file.exists():
        raise ModelLoadError(f"There is no tokenizer at {path}: check the path given with --tokenizer.")
    if file.suffix == ".json":
        from llmchat.tokenizers.tokenizer_json import TokenizerJson

        return TokenizerJson.from_path(file)
    from llmchat.tokenizers.sentencepiece import SentencePieceTokenizer
    from llmchat.tokenizers.text_files import read_object

    settings = read_object(file.parent / "tokenizer_config.json")
    return SentencePieceTokenizer(file, adds_bos=settings.get("add_bos_token") is True)


def find_tokenizer(model_path: Path | str) -> Path | None:
    """The tokenizer file that belongs to a checkpoint, by where its writer puts it.

    Looked for, in this order: beside the checkpoint, in `tokenizer/` beside it,
    in `tokenizer/` beside its directory, in the directory above, and in
    `tokenizer/` two directories above.
    """
    path = expanded(model_path).absolute()
    home = path if path.is_dir() else path.parent
    above, top = home.parent, home.parent.parent
    places = (home, home / "tokenizer", above / "tokenizer", above, top / "tokenizer")
    return next((found for place in places if (found := tokenizer_in(place))), None)


def tokenizer_in(directory: Path) -> Path | None:
    """The tokenizer file of a directory; None if it has none."""
    return next((directory / name for name in _FILE_NAMES if (directory / name).is_file()), None)
