"""Which files of a repository a model is made of: its safetensors, or of its GGUF files the one at about 4.8 bits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch

from llmchat.chat.amounts import size_words
from llmchat.errors import ModelLoadError

_BITS = "4536821"
"""Bits a weight, from the nearest to Q4_K_M outwards; files in 16 and 32 bits come last."""
_FORMS = ("K_M", "K_S", "K_L", "K_XL", "K", "1", "0", "NL", "XS")
"""What stands behind the bits, the best first; all other forms come after."""

_QUANT = re.compile(
    r"(?<![A-Za-z0-9])(I?Q[1-8](?:_(?:[01]|K|NL|XXS|XS|S|M|L)(?:_(?:XXS|XS|S|M|L|XL))?)?|TQ[12]_0|MXFP4(?:_MOE)?"
    r"|B?F16|FP16|F32)(?![A-Za-z0-9]|_\d)",
    re.IGNORECASE,
)
_SPLIT = re.compile(r"(?P<stem>.+)-(?P<part>\d{5})-of-(?P<parts>\d{5})\.gguf", re.IGNORECASE)
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
_INDEX = "model.safetensors.index.json"
_ALONE = "model.safetensors"
_OTHER_GGUF = ("*mmproj*", "*imatrix*", "*lora*")
"""GGUF files that are no models of text: what reads pictures, figures for quantising, adapters."""
_OTHER_TENSORS = ("consolidated*", "adapter_*", "*.fp16.*", "*.fp32.*", "optimizer*", "training_*")
_BESIDE = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.json",
    "chat_template.jinja",
    "quantize_config.json",
    _INDEX,
)
"""What is read beside the weights of a Hugging Face directory."""


@dataclass(frozen=True, slots=True)
class RepoFile:
    """A file of a repository."""

    path: str
    """With "/" between folders."""
    size: int
    """Bytes."""
    checksum: str = ""
    """SHA-256 of a large file, the SHA-1 that git gives any other, in hexadecimal; "" where it is not known."""


@dataclass(frozen=True, slots=True)
class HubChoice:
    """What is fetched for a model."""

    files: tuple[RepoFile, ...]
    """What is small before the weights: where they are there, all is."""
    main: str
    """The file that is opened; "" for the whole directory."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def weights_size(self) -> int:
        """Bytes of the weights."""
        return sum(file.size for file in self.files if file.path.lower().endswith((".gguf", ".safetensors")))

    @property
    def words(self) -> str:
        """What it is, such as "Q4_K_M" or "safetensors"."""
        return (quantisation(self.main) or self.main) if self.main else "safetensors"


def choose(files: Sequence[RepoFile], wanted: str = "", *, where: str = "The repository") -> HubChoice:
    """What to fetch of a repository.

    Args:
        files: All that it has.
        wanted: A file, or a quantisation of its GGUF files; "" takes the safetensors, or else the GGUF file
            that is nearest to Q4_K_M.
        where: What the repository is called in messages.

    Raises:
        ModelLoadError: It has no such file, or nothing that can be run; says what there is.
    """
    models = _gguf_models(files)
    if wanted:
        return _wanted(files, models, wanted, where)
    if weights := _safetensors(files):
        return _directory(files, weights)
    if models:
        return _of_parts(min(models, key=_distance))
    raise ModelLoadError(_nothing_words(files, where))


def quantisation(path: str) -> str:
    """The quantisation that a GGUF file's name tells, in capitals; "" if it tells none."""
    found = _QUANT.findall(path.rpartition("/")[2])
    return str(found[-1]).upper() if found else ""


def _gguf_models(files: Iterable[RepoFile]) -> list[tuple[RepoFile, ...]]:
    """The models among the GGUF files, each with all of its parts in order; those with a part missing are left out."""
    found: dict[str, list[RepoFile]] = {}
    for file in sorted(files, key=lambda file: file.path):
        name = file.path.rpartition("/")[2].lower()
        if name.endswith(".gguf") and not any(fnmatch(name, pattern) for pattern in _OTHER_GGUF):
            split = _SPLIT.fullmatch(file.path)
            found.setdefault(f"{split['stem']}/{split['parts']}" if split else file.path, []).append(file)
    return [tuple(parts) for parts in found.values() if len(parts) == _part_count(parts[0])]


def _part_count(file: RepoFile) -> int:
    split = _SPLIT.fullmatch(file.path)
    return int(split["parts"]) if split else 1


def _distance(parts: tuple[RepoFile, ...]) -> tuple[int, bool, int, int, str]:
    """How far a model is from Q4_K_M, to sort by: bits, whether its blocks are of a rarer kind, form, size."""
    quant = quantisation(parts[0].path)
    found = re.fullmatch(r"(?P<kind>I?Q|MXFP|TQ)(?P<bits>\d)_?(?P<form>\w*)", quant)
    size = sum(part.size for part in parts)
    if found is None:
        return len(_BITS), not quant, 0, size, parts[0].path
    form = _FORMS.index(found["form"]) if found["form"] in _FORMS else len(_FORMS)
    return (_BITS + "7").index(found["bits"]), found["kind"] != "Q", form, size, parts[0].path


def _of_parts(parts: tuple[RepoFile, ...]) -> HubChoice:
    return HubChoice(parts, parts[0].path)


def _safetensors(files: Iterable[RepoFile]) -> list[RepoFile]:
    """The weights of a Hugging Face directory, once each."""
    at_top = {file.path: file for file in files if "/" not in file.path}
    if "config.json" not in at_top:
        return []
    if _INDEX in at_top and (shards := [file for path, file in at_top.items() if _SHARD.fullmatch(path)]):
        return shards
    if _ALONE in at_top:
        return [at_top[_ALONE]]
    return [
        file
        for path, file in at_top.items()
        if path.endswith(".safetensors") and not any(fnmatch(path, pattern) for pattern in _OTHER_TENSORS)
    ]


def _directory(files: Iterable[RepoFile], weights: Sequence[RepoFile]) -> HubChoice:
    beside = [file for file in files if file.path in _BESIDE]
    return HubChoice((*beside, *sorted(weights, key=lambda file: file.path)), "")


def _wanted(files: Sequence[RepoFile], models: Sequence[tuple[RepoFile, ...]], wanted: str, where: str) -> HubChoice:
    """The model of a file or quantisation."""
    if wanted.lower().endswith(".safetensors") and any(file.path == wanted for file in files):
        return _directory(files, _safetensors(files) or [file for file in files if file.path == wanted])
    name, quant = wanted.lower(), wanted.upper()
    for parts in models:
        if any(name in (part.path.lower(), part.path.rpartition("/")[2].lower()) for part in parts):
            return _of_parts(parts)
    alike = [parts for parts in models if quantisation(parts[0].path) == quant]
    alike = alike or [parts for parts in models if _tells(parts[0].path, name)]
    if alike:
        return _of_parts(min(alike, key=lambda parts: (len(parts[0].path), parts[0].path)))
    raise ModelLoadError(f"{where} has no {wanted!r}. {_offer(models, files)}")


def _tells(path: str, word: str) -> bool:
    """Whether a word stands in a file's name, between signs."""
    return re.search(rf"(?<![a-z0-9]){re.escape(word)}(?![a-z0-9])", path.rpartition("/")[2].lower()) is not None


def _offer(models: Sequence[tuple[RepoFile, ...]], files: Sequence[RepoFile]) -> str:
    """A sentence on what could be asked for."""
    if not models:
        return (
            "It has safetensors: leave out what stands behind the colon."
            if _safetensors(files)
            else "It has: " + (_listed([file.path for file in files]) + ".")
        )
    quants = [quantisation(parts[0].path) for parts in models]
    names = quants if all(quants) and len(set(quants)) == len(quants) else [parts[0].path for parts in models]
    sizes = [size_words(sum(part.size for part in parts)) for parts in models]
    return f"It has: {_listed([f'{name} ({size})' for name, size in zip(names, sizes, strict=True)])}."


def _nothing_words(files: Sequence[RepoFile], where: str) -> str:
    names = [file.path for file in files]
    if "adapter_config.json" in names:
        return f"{where} is an adapter for another model (LoRA), and no model by itself: see its page for the model."
    has = f"It has: {_listed(names)}." if names else "It is empty."
    other = ""
    if any(name.endswith((".bin", ".pt", ".pth", ".ckpt")) for name in names):
        other = " Its weights are in PyTorch's own format: look for a repository of the same model in another one."
    return f"{where} has neither safetensors with a config.json nor a GGUF file, which llmchat could run. {has}{other}"


def _listed(names: Sequence[str], most: int = 30) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
