"""What is a name of the hub, what an address, and what neither."""

from __future__ import annotations

import pytest

from llmchat.errors import ModelLoadError
from llmchat.stores.hub_name import HubName, is_address, read_address, read_hub_name

HUB = "https://hf.co"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Qwen/Qwen3-0.6B", HubName("Qwen/Qwen3-0.6B")),
        ("Qwen/Qwen3-0.6B-GGUF:q8_0", HubName("Qwen/Qwen3-0.6B-GGUF", "q8_0")),
        ("hf:Qwen/Qwen3-0.6B", HubName("Qwen/Qwen3-0.6B")),
        ("hf:gpt2", HubName("gpt2")),
        ("hf:a/b@refs/pr/3:sub dir/c.gguf", HubName("a/b", "sub dir/c.gguf", "refs/pr/3")),
        ("a/b@v1.0", HubName("a/b", revision="v1.0")),
        ("llama3.2", None),
        ("qwen2.5:0.5b", None),
        ("runs/step_100.pt", None),
        ("models/a.GGUF", None),
        ("a/b/c", None),
        ("../b", None),
        ("./b", None),
        ("/a/b", None),
        ("~/b", None),
        ("a/..", None),
        ("", None),
    ],
)
def test_names(text: str, name: HubName | None) -> None:
    """OWNER/NAME with a file, quantisation or revision is one; paths and names of others are not."""
    assert read_hub_name(text) == name


@pytest.mark.parametrize("text", ["hf:", "hf:a/b/c", "hf:../x", "hf:a b", "hf:a/../../x"])
def test_a_prefix_before_nonsense_is_refused(text: str) -> None:
    """Whoever writes hf: meant the hub, and is told how such names go."""
    with pytest.raises(ModelLoadError, match="OWNER/NAME"):
        read_hub_name(text)


@pytest.mark.parametrize("name", [HubName("a/b"), HubName("a/b", "Q8_0"), HubName("a/b", "c/d.gguf", "v1")])
def test_a_name_is_read_as_it_is_written(name: HubName) -> None:
    """What is kept of a model opens the same again."""
    assert read_hub_name(str(name)) == name


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (f"{HUB}/a/b", HubName("a/b")),
        (f"{HUB}/a/b/tree/main", HubName("a/b")),
        (f"{HUB}/a/b/blob/main/c/d.gguf", HubName("a/b", "c/d.gguf")),
        (f"{HUB}/a/b/resolve/v1/d.gguf?download=true", HubName("a/b", "d.gguf", "v1")),
        (f"{HUB}/a/b/blob/main/README.md", HubName("a/b")),
        ("https://example.org/a/b/resolve/main/d.gguf", None),
    ],
)
def test_addresses(address: str, name: HubName | None) -> None:
    """A page of the hub is the model that it shows; any other address is one of a file."""
    assert is_address(address)
    assert read_address(address) == name


def test_what_is_copied_without_its_beginning() -> None:
    """A page of the hub needs no https://; other names with a slash are no addresses."""
    assert is_address("hf.co/a/b:Q8_0")
    assert not any(is_address(text) for text in ("a/b", "example.org/a", "./a.b/c", "/hf.co/a", "C:\\a"))


def test_what_is_no_model_of_the_hub() -> None:
    """A page of a data set is told from one of a model."""
    with pytest.raises(ModelLoadError, match="a dataset of the hub, not a model"):
        read_address(f"{HUB}/datasets/a/b")
