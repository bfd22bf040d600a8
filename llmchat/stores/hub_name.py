"""What a person calls a model on the hub: OWNER/NAME, with a file, a quantisation or a revision at will.

OWNER/NAME   OWNER/NAME:Q4_K_M   hf:OWNER/NAME@REVISION:FILE   https://…/OWNER/NAME/blob/REVISION/FILE
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from llmchat.errors import ModelLoadError

PREFIX = "hf:"
"""Before a name that is meant for the hub and nothing else."""
MAIN = "main"
"""The revision that a page of the hub shows."""

_FILE_SUFFIXES = (".gguf", ".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".onnx", ".json")
"""What ends so is a file, and was meant as one."""
_PART = r"[A-Za-z0-9_][\w.-]{0,95}"
_AFTER = r"(?:@(?P<revision>[\w./-]{1,200}))?(?::(?P<wanted>[^\x00-\x1f]{1,500}))?"
_SHORT = re.compile(rf"(?P<repo>{_PART}/{_PART}){_AFTER}", re.ASCII)
_PREFIXED = re.compile(rf"(?P<repo>{_PART}(?:/{_PART})?){_AFTER}", re.ASCII)
_HOST = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)+", re.IGNORECASE)
_ADDRESS = re.compile(r"https?://\S+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class HubName:
    """A model on the hub."""

    repo: str
    """OWNER/NAME."""
    wanted: str = ""
    """A file of it or a quantisation; "" leaves that to us."""
    revision: str = MAIN
    """A branch, a tag or a commit."""
    is_bare: bool = field(default=False, compare=False)
    """Whether it was typed without its prefix, so that a path may have been meant."""

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision != MAIN else ""
        return f"{PREFIX}{self.repo}{revision}{f':{self.wanted}' if self.wanted else ''}"

    @property
    def title(self) -> str:
        """The name without its owner."""
        return self.repo.rpartition("/")[2]


def read_hub_name(text: str) -> HubName | None:
    """The model that a name means on the hub; None if it is no such name. Addresses are not read.

    Raises:
        ModelLoadError: It begins as one and is none.
    """
    text = text.strip()
    if text.startswith(PREFIX):
        found = _PREFIXED.fullmatch(text.removeprefix(PREFIX))
        if found is None or ".." in text:
            raise ModelLoadError(
                f"{text!r} is no name of a model on the hub. Write {PREFIX}OWNER/NAME, "
                f"or {PREFIX}OWNER/NAME:Q4_K_M for one quantisation, or {PREFIX}OWNER/NAME:FILE."
            )
        return _hub_name(found, is_bare=False)
    found = _SHORT.fullmatch(text)
    if found is None or ".." in text or found["repo"].lower().endswith(_FILE_SUFFIXES):
        return None
    return _hub_name(found, is_bare=True)


def _hub_name(found: re.Match[str], *, is_bare: bool) -> HubName:
    return HubName(found["repo"], found["wanted"] or "", found["revision"] or MAIN, is_bare)


def is_address(text: str) -> bool:
    """Whether a model is asked for by an address, with its https:// or as a page of the hub without it."""
    text = text.strip()
    if _ADDRESS.fullmatch(text):
        return True
    host, slash, _ = text.partition("/")
    if not slash or not _HOST.fullmatch(host):
        return False
    from huggingface_hub import constants

    return host.lower() in constants.HF_URL_HOSTS


def is_remote(text: str) -> bool:
    """Whether a model is asked for by what is no path: by an address, or by a name of the hub with its prefix."""
    return text.strip().startswith(PREFIX) or is_address(text)


def read_address(address: str) -> HubName | None:
    """The model of the hub that an address shows; None if it lies elsewhere.

    Raises:
        ModelLoadError: It is a page of the hub, but of no model.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import HfUriError
    from huggingface_hub.utils import parse_hf_uri

    address = address.strip()
    try:
        found = parse_hf_uri(address, constants.ENDPOINT)
    except HfUriError:
        return None
    if found.type != "model":
        raise ModelLoadError(f"{address} is a {found.type} of the hub, not a model.")
    is_file = found.path_in_repo.lower().endswith(_FILE_SUFFIXES)
    return HubName(found.id, found.path_in_repo if is_file else "", found.revision or MAIN)
