"""A GGUF file at an address: fetched once, gone on with, and told from a web page."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from llmchat.errors import FetchQuestionError, ModelLoadError
from llmchat.stores.addresses import fetch_address, models
from tests.hub_server import Hub

GGUF = b"GGUF" + bytes(range(256)) * 40


def fetch(address: str, **options: Any) -> Path:
    """Fetch with nobody watching."""
    return fetch_address(address, lambda stage, fraction: None, threading.Event(), **options)


def test_a_file_comes_once(hub: Hub) -> None:
    """Under its own name; the second time nothing is asked for, and the list has it."""
    hub.files = {"/models/story one.gguf": GGUF}
    address = f"{hub.elsewhere}/models/story%20one.gguf?download=true"
    path = fetch(address)
    assert (path.read_bytes(), path.name) == (GGUF, "story_one.gguf")
    hub.requests.clear()
    assert fetch(address) == path
    assert hub.requests == []
    assert [(model.name, model.path, model.size) for model in models()] == [(address, path, len(GGUF))]


def test_all_parts_of_a_split_file_come(hub: Hub) -> None:
    """Asked for by the first, they lie beside each other."""
    names = [f"m-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    hub.files = {f"/x/{name}": GGUF + name.encode() for name in names}
    path = fetch(f"{hub.elsewhere}/x/{names[0]}")
    assert path.name == names[0]
    assert [(path.parent / name).read_bytes() for name in names] == list(hub.files.values())


def test_it_goes_on_where_it_was_cut(hub: Hub) -> None:
    """At once, and at a later start; but not with the beginning of another file."""
    hub.files = {"/m.gguf": GGUF}
    hub.cut_after = [100, 1000, *[0] * 5]
    with pytest.raises(ModelLoadError, match="What has come is kept"):
        fetch(f"{hub.elsewhere}/m.gguf")
    before = hub.sent
    hub.files = {"/m.gguf": GGUF[:4] + GGUF[:3:-1]}
    assert fetch(f"{hub.elsewhere}/m.gguf").read_bytes() == hub.files["/m.gguf"]
    assert hub.sent == before + len(GGUF) + 4


def test_a_new_version_comes_when_it_is_asked_for(hub: Hub) -> None:
    """A start takes what is here, `pull` what is there now."""
    hub.files = {"/m.gguf": GGUF}
    address = f"{hub.elsewhere}/m.gguf"
    fetch(address)
    hub.files = {"/m.gguf": GGUF + b"new"}
    assert fetch(address).read_bytes() == GGUF
    assert fetch(address, anew=True).read_bytes() == GGUF + b"new"
    sent = hub.sent
    fetch(address, anew=True)
    assert hub.sent == sent + 4


def test_more_than_is_allowed_is_asked_for(hub: Hub) -> None:
    """Before anything comes."""
    hub.files = {"/m.gguf": GGUF}
    with pytest.raises(FetchQuestionError, match=r"10\.2 kB are to be fetched"):
        fetch(f"{hub.elsewhere}/m.gguf", may_fetch=1000)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/page", "is a web page: give the address of the .gguf file itself"),
        ("/m.bin", "is no GGUF file"),
        ("/none.gguf", "There is nothing at http"),
    ],
)
def test_what_is_no_model(hub: Hub, path: str, words: str) -> None:
    """It is told before it is fetched."""
    hub.files = {"/page": b"<!doctype html>", "/m.bin": b"PK\x03\x04" * 1000}
    with pytest.raises(ModelLoadError) as caught:
        fetch(hub.elsewhere + path)
    assert words in caught.value.message
    assert hub.sent <= 4


def test_nobody_is_there() -> None:
    """An address that does not answer is told with what to check."""
    with pytest.raises(ModelLoadError, match="cannot be reached: check the address"):
        fetch("http://127.0.0.1:9/m.gguf")
