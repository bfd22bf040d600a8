"""Where the number of heads comes from, and what is made of odd training records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmchat.checkpoints.llmbuilder_facts import choose_heads, training_facts
from llmchat.errors import ModelLoadError


@pytest.mark.parametrize(
    "payload",
    [
        {"model_config": {"num_heads": 6}},
        {"metadata": {"n_head": 6, "n_embd": 96}},
        {"config": {"model": {"num_heads": 6}}},
        {"config": {"n_head": 6}},
        {"metadata": {"epoch": 1, "config": {"num_heads": 6}}},
        {"model_config": {"num_heads": True}, "config": {"num_heads": 6}},
        {"model_config": {"num_heads": 3, "embedding_dim": 48}, "metadata": {"n_head": 6}},
        {"model_config": {"num_heads": 6}, "metadata": {"n_head": 3}},
        {"model_config": [1, 2], "metadata": "x", "config": {"model": None, "num_heads": 6, "embedding_dim": 96}},
    ],
)
def test_heads_in_the_file(tmp_path: Path, payload: object) -> None:
    """Every place in the file is tried in order; what is no number or describes another model is passed over."""
    assert choose_heads(payload, tmp_path / "m.pt", 96, None) == (6, ())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.metadata.json", {"n_head": 6, "n_embd": 96}),
        ("config.json", {"num_heads": 6}),
        ("config.json", {"model": {"num_heads": 6, "embedding_dim": 96}, "training": {}}),
    ],
)
def test_heads_beside_the_file(tmp_path: Path, name: str, content: object) -> None:
    """The JSON that llmbuilder writes beside a model is read where the file itself is silent."""
    (tmp_path / name).write_text(json.dumps(content))
    assert choose_heads({"config": {"batch_size": 4}}, tmp_path / "m.pt", 96, None) == (6, ())


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "5", '{"num_heads": "six"}', '{"num_heads": 3, "n_embd": 48}', "[" * 100_000, '"\ud800"']
)
def test_odd_neighbours_are_passed_over(tmp_path: Path, text: str) -> None:
    """A broken or foreign config.json does not stop a model from opening."""
    (tmp_path / "config.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    heads, notes = choose_heads({}, tmp_path / "m.pt", 96, None)
    assert heads == 4
    assert "is a guess" in notes[0]


def test_a_directory_named_as_a_sidecar_is_passed_over(tmp_path: Path) -> None:
    """Only files are read."""
    (tmp_path / "config.json").mkdir()
    assert choose_heads({}, tmp_path / "m.pt", 96, None)[0] == 4


@pytest.mark.parametrize(
    ("dim", "guess"), [(512, 8), (768, 12), (256, 4), (128, 4), (384, 6), (300, 4), (6, 2), (7, 1)]
)
def test_guess(tmp_path: Path, dim: int, guess: int) -> None:
    """The presets of llmbuilder all have heads of 64 numbers; small models usually have 4 heads."""
    heads, (note,) = choose_heads({}, tmp_path / "m.pt", dim, None)
    assert heads == guess
    assert f"{guess} is a guess" in note


def test_asked_heads_go_first(tmp_path: Path) -> None:
    """A person who names a number gets it, and is told if the file disagrees."""
    assert choose_heads({}, tmp_path / "m.pt", 96, 6) == (6, ())
    assert choose_heads({"model_config": {"num_heads": 6}}, tmp_path / "m.pt", 96, 6) == (6, ())
    heads, notes = choose_heads({"model_config": {"num_heads": 6}}, tmp_path / "m.pt", 96, 3)
    assert heads == 3
    assert notes == ("The file says 6 attention heads; 3 are used, as asked.",)


@pytest.mark.parametrize("wanted", [0, -4, 5, 97])
def test_asked_heads_must_divide_the_width(tmp_path: Path, wanted: int) -> None:
    """The numbers that fit are listed."""
    with pytest.raises(ModelLoadError, match=r"its width is 96\. Give --heads with one of 1, 2, 3, 4, 6, 8, 12\.$"):
        choose_heads({}, tmp_path / "m.pt", 96, wanted)


@pytest.mark.parametrize("stated", [0, -1, 7])
def test_impossible_stated_heads(tmp_path: Path, stated: int) -> None:
    """A file that states nonsense is not silently reinterpreted."""
    with pytest.raises(ModelLoadError, match="which cannot be"):
        choose_heads({"model_config": {"num_heads": stated}}, tmp_path / "m.pt", 96, None)


@pytest.mark.parametrize(
    ("payload", "facts"),
    [
        (None, {}),
        ({"epoch": "3", "loss": None, "step": True}, {}),
        ({"training_state": {"best_val_loss": float("inf"), "step": 2}, "train_loss": 1.5}, {"step": 2, "loss": 1.5}),
        ({"metrics": {"val_loss": float("nan"), "train_loss": 2.0}}, {"loss": 2.0}),
        ({"step": 10**400, "epoch": 1}, {"epoch": 1}),
        ({"metrics": {"val_loss": 2.0, "train_loss": 1.0}, "loss": 3.0}, {"loss": 2.0}),
    ],
)
def test_training_facts(payload: object, facts: dict[str, float]) -> None:
    """Only finite numbers count, and the validation loss goes before the training loss."""
    assert training_facts(payload) == facts
