"""Which path a model takes, and that its memory is that of one copy."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llmchat.chat.model import ModelSpec
from llmchat.engine import opening
from llmchat.engine.native import library
from llmchat.engine.opening import open_engine, why_torch
from tests.conftest import DATA


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (ModelSpec(), ""),
        (ModelSpec(device="cpu"), ""),
        (ModelSpec(device="cuda"), "the device cuda was asked for"),
        (ModelSpec(dtype="float32"), "the precision float32 was asked for"),
    ],
)
def test_why_torch_runs_a_model(spec: ModelSpec, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The native step runs whatever nothing speaks against; else the reason is known."""
    monkeypatch.setattr(opening, "_may_have_gpu", lambda: False)
    monkeypatch.delenv("LLMCHAT_KERNELS", raising=False)
    assert why_torch(spec) == words
    monkeypatch.setattr(opening, "_may_have_gpu", lambda: True)
    if spec == ModelSpec():
        assert why_torch(spec) == "this machine seems to have a GPU"


def test_an_opened_model_tells_its_path() -> None:
    """Window and `/stats` show what runs the model."""
    directory = str(DATA / "huggingface" / "qwen2")
    native, torch = (
        open_engine(ModelSpec(directory, device="cpu", dtype=dtype), lambda stage, fraction: None).info
        for dtype in ("auto", "float32")
    )
    assert native.path_words.startswith("native ") and native.torch_reason == ""
    assert torch.path_words == "torch float32"
    assert torch.torch_reason == "the precision float32 was asked for"


def test_more_threads_than_a_model_takes_are_none_too_many() -> None:
    """A machine with very many cores, or a person who asks for them, gets as many as there can be."""
    spec = ModelSpec(str(DATA / "huggingface" / "qwen2"), device="cpu", threads=1000)
    assert open_engine(spec, lambda stage, fraction: None).info.threads == library.MOST_THREADS


def test_a_library_of_another_version_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an update without building anew, torch serves and the reason says what to do."""
    monkeypatch.delenv("LLMCHAT_KERNELS", raising=False)
    monkeypatch.setattr(library, "INTERFACE", -1)
    library.load_library.cache_clear()
    try:
        assert library.load_library() is None
        assert why_torch(ModelSpec(device="cpu")) == "the native step is of another version: install llmchat again"
    finally:
        library.load_library.cache_clear()


def test_a_file_may_be_written_anew_while_its_model_is_open(tiny_dir: Path, tmp_path: Path) -> None:
    """A training run empties and rewrites its latest checkpoint; what is mapped of it must not end the process."""
    model = Path(shutil.copy(tiny_dir / "model/model.pt", tmp_path))
    code = (
        "import llmchat\n"
        f"model = llmchat.load({str(model)!r}, {str(tiny_dir / 'tokenizer')!r})\n"
        "config = llmchat.GenerationConfig(temperature=0, max_new_tokens=8)\n"
        "first = model.generate('the queen', config).text\n"
        f"open({str(model)!r}, 'wb').close()\n"
        "model.generate('a whale in the sea', config)\n"
        "assert model.generate('the queen', config).text == first"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="the system must tell the peak of memory")
def test_weights_are_in_memory_once(default_model_path: Path) -> None:
    """The default model's peak is its weights, a short KV cache and Python: no file's bytes or torch beside them."""
    code = (
        "from llmchat import cli; import re\n"
        f"cli.run(['--once', '-p', 'hi', '-n', '2', '-m', {str(default_model_path)!r}])\n"
        "print(re.search(r'VmHWM:\\s*(\\d+) kB', open('/proc/self/status').read())[1])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    kilobytes = int(done.stdout.split()[-1])
    assert kilobytes * 1024 < 2.75 * default_model_path.stat().st_size, done.stderr
