"""Finding and opening a tokenizer, whatever file it comes in. The heavy libraries are imported when needed."""

from __future__ import annotations

from pathlib import Path

from llmchat.errors import ModelLoadError
from llmchat.files import expanded
from llmchat.tokenizers.tokenizer import Tokenizer

_FILE_NAMES = ("tokenizer.json", "tokenizer.model", "sentencepiece.model", "vocab.json")
# A tokenizer.json comes first: it is the most exact. A vocab.json is one with its merges.txt alone.


def load_tokenizer(path: Path | str) -> Tokenizer:
    """Open a tokenizer file, or the one in a directory.

    Raises:
        ModelLoadError: There is none, or it is damaged.
    """
    path = expanded(path)
    file = tokenizer_in(path) if path.is_dir() else path
    if file is None:
        raise ModelLoadError(
            f"There is no tokenizer in {path}: it needs one of {', '.join(_FILE_NAMES)}, the last with merges.txt."
        )
    if not file.exists():
        raise ModelLoadError(f"There is no tokenizer at {path}: check the path given with --tokenizer.")
    if file.name == "vocab.json":
        from llmchat.tokenizers.merged import load_vocab_json

        return load_vocab_json(file)
    if file.suffix == ".json":
        from llmchat.tokenizers.tokenizer_json import TokenizerJson

        return TokenizerJson.from_path(file)
    from llmchat.tokenizers.sentencepiece import SentencePieceTokenizer

    return SentencePieceTokenizer.from_file(file)


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
    names = _FILE_NAMES if (directory / "merges.txt").is_file() else _FILE_NAMES[:-1]
    return next((directory / name for name in names if (directory / name).is_file()), None)
