"""What people take for a model that llmchat can open: what it is, and the way out, as the rest of a sentence."""

from __future__ import annotations

import re
from pathlib import Path

from llmchat.checkpoints.weight_files import ADAPTER_NAMES
from llmchat.file_kinds import kind_words
from llmchat.tokenizers.text_files import read_data, read_object

_INSTEAD = "take the model's safetensors directory or a GGUF file of it"
_TENSORFLOW = f"holds weights for TensorFlow or Flax, which llmchat does not read: {_INSTEAD}"
_ONNX = f"is an ONNX model, which llmchat does not run: {_INSTEAD}"
_OWN_LAYOUT = (
    f"has the weights in their maker's own layout (consolidated), which llmchat does not read: {_INSTEAD}; "
    "on a model's page they are beside it"
)
_PART_OF_A_MODEL = "is one of the files of a model: give the directory in which it lies"

_HEADS = (
    (b"lmgg", f"is a GGML file, of the time before GGUF (August 2023), which llmchat does not read: {_INSTEAD}"),
    (b"fmgg", f"is a GGML file, of the time before GGUF (August 2023), which llmchat does not read: {_INSTEAD}"),
    (b"tjgg", f"is a GGML file, of the time before GGUF (August 2023), which llmchat does not read: {_INSTEAD}"),
    (b"algg", "is a LoRA adapter of the time before GGUF (August 2023), which llmchat does not read"),
    (b"\x89HDF", _TENSORFLOW),
    (
        b"\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19",
        "is in the format of torch before 1.6: save it again with a newer torch",
    ),
)
_LLAMAFILE = "is a llamafile, a program with a model inside: take the model out with unzip FILE '*.gguf', and give that"
_SUFFIXES = {
    ".onnx": _ONNX,
    ".llamafile": _LLAMAFILE,
    ".h5": _TENSORFLOW,
    ".msgpack": _TENSORFLOW,
    ".tflite": _TENSORFLOW,
    ".task": _TENSORFLOW,
    ".pb": _TENSORFLOW,
    ".mlmodel": f"is a model for Core ML, which llmchat does not run: {_INSTEAD}",
}
_PARTS = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model")
_MOST_LINES = 2**16
"""Bytes of a Modelfile."""


def stranger_words(path: Path, head: bytes) -> str:
    """What a file or directory is that is no model to be opened, and what to do; "" if that is not known.

    Args:
        path: It.
        head: How the file begins; b"" for a directory.

    Raises:
        ModelLoadError: A file beside it cannot be read.
    """
    return _directory_words(path) if path.is_dir() else _name_words(path) or _head_words(path, head)


def _head_words(path: Path, head: bytes) -> str:
    if words := next((words for magic, words in _HEADS if head.startswith(magic)), ""):
        return words
    is_zip = head.startswith(b"PK")
    return _SUFFIXES.get(path.suffix.lower(), "") or ("" if is_zip else kind_words(head))


def _name_words(path: Path) -> str:
    if path.name in ADAPTER_NAMES:
        return _adapter_words(path.parent)
    if re.fullmatch(r"consolidated(\.\d+)?\.(pth|safetensors)", path.name):
        return _OWN_LAYOUT
    if path.name in _PARTS or path.name.endswith(".index.json"):
        return f"{_PART_OF_A_MODEL}, {path.parent}"
    return _modelfile_words(path) if path.name.lower().startswith("modelfile") else ""


def _adapter_words(directory: Path) -> str:
    base = read_object(directory / "adapter_config.json").get("base_model_name_or_path")
    named = f" of {base[:80]!r}" if isinstance(base, str) and base else ""
    return f"is a LoRA adapter{named}, no model: give that model with --model, and {directory} with --lora"


def _modelfile_words(path: Path) -> str:
    text = (read_data(path, _MOST_LINES) or b"").decode("utf-8", "replace")
    found = re.search(r"^\s*FROM\s+(\S+)", text, re.IGNORECASE | re.MULTILINE)
    named = f", here {found[1][:80]!r}" if found else ""
    return f"is a recipe of Ollama, no model: give the model that it names after FROM{named}"


def _directory_words(path: Path) -> str:
    if (path / "adapter_config.json").is_file():
        return _adapter_words(path)
    if (path / "model_index.json").is_file():
        return "is a model that makes pictures (diffusers), which llmchat does not run: give one that writes text"
    kinds = {item.suffix.lower() for item in path.iterdir()}
    if any(path.glob("consolidated*")):
        return _OWN_LAYOUT
    if ".onnx" in kinds or any((path / "onnx").glob("*.onnx")):
        return _ONNX
    if kinds & {".h5", ".msgpack"}:
        return _TENSORFLOW
    if ".safetensors" in kinds and not (path / "config.json").is_file():
        return (
            "holds weights alone, without the config.json and the tokenizer of their model: fetch the whole directory"
        )
    return ""
