"""Which path a model takes, and that its memory is that of one copy."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from llmchat.chat.model import ModelSpec
from llmchat.engine import devices, opening
from llmchat.engine.native import interface, library
from llmchat.engine.opening import open_engine, why_torch
from llmchat.errors import ModelLoadError
from llmchat.ui.widgets.header_bar import HeaderBar
from tests.checkpoints.test_gguf import keys_of, tensors_of, write
from tests.conftest import DATA
from tests.patience import PATIENCE_SECONDS
from tests.program import Here


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
    monkeypatch.setattr(opening, "torch_finds_gpu", lambda: False)
    monkeypatch.delenv("LLMCHAT_KERNELS", raising=False)
    assert why_torch(spec) == words
    monkeypatch.setattr(opening, "torch_finds_gpu", lambda: True)
    if spec == ModelSpec():
        assert why_torch(spec) == "this machine has a GPU"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("has_driver", [False, True])
def test_a_sign_of_a_gpu_that_torch_cannot_use_does_not_cost_the_native_step(
    has_driver: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: Here
) -> None:
    """As /dev/dxg on every WSL2 machine: torch itself is asked, finds none, and all places say what runs and why."""
    sign = tmp_path / "dxg"
    sign.touch()
    monkeypatch.setattr(devices, "_NVIDIA_SIGNS", (str(sign),))
    if has_driver:
        monkeypatch.setattr(devices, "_has_driver", lambda: True)
    monkeypatch.delenv("LLMCHAT_KERNELS", raising=False)
    info = open_engine(ModelSpec("tiny"), lambda stage, fraction: None).info
    reason = f"torch finds no GPU behind {sign}"
    assert info.path_words.startswith("native ") and info.path_reason == reason
    assert info.why_words == f"the native step runs it, because {reason}"
    assert f"runs on:     {info.path_words}, because {reason}\n" in here.tiny("-p", "hi", "-n", "2", "--stats").err
    assert f"models run on: {info.path_words}, because {reason} · " in here("--version", "-v").out
    bar = HeaderBar()
    bar.show_model(info)
    assert bar.reason == reason


WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from llmchat import cli; sys.exit(cli.run(sys.argv[1:]))"


def without_torch(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command line where torch cannot be imported."""
    command = [sys.executable, "-c", WITHOUT_TORCH, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **env})


def test_without_torch_the_native_step_serves_and_the_rest_says_what_to_install(model: tuple[Path, str, Path]) -> None:
    """Every format runs on a CPU; what needs torch is one sentence."""
    path, _, tokenizer = model
    ask = ("--once", "-m", str(path), "--tokenizer", str(tokenizer), "-p", "the queen", "--raw", "-n", "2")
    done = without_torch(*ask)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout
    for done in (
        without_torch(*ask, "--dtype", "float32"),
        without_torch(*ask, "--device", "cuda"),
        without_torch(*ask, LLMCHAT_KERNELS="none"),
    ):
        assert done.returncode == 4 and done.stdout == "" and done.stderr.count("\n") == 1
        assert "Install it with: python -m pip install 'torch>=2.9,<2.14'" in done.stderr


def test_an_opened_model_tells_its_path() -> None:
    """Window and `/stats` show what runs the model."""
    directory = str(DATA / "huggingface" / "qwen2")
    native, reference = (
        open_engine(ModelSpec(directory, device="cpu", dtype=dtype), lambda stage, fraction: None).info
        for dtype in ("auto", "float32")
    )
    assert native.path_words.startswith("native ") and native.path_reason == ""
    assert reference.path_words == "torch float32"
    assert reference.path_reason == "the precision float32 was asked for"


def test_more_threads_than_a_model_takes_are_none_too_many() -> None:
    """A person who asks for a thousand gets one for each core, and never more than there can be."""
    spec = ModelSpec(str(DATA / "huggingface" / "qwen2"), device="cpu", threads=1000)
    most = min(opening.default_threads(natively=True), library.MOST_THREADS)
    assert open_engine(spec, lambda stage, fraction: None).info.threads == most


def test_a_library_of_another_version_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an update without building anew, torch serves and the reason says what to do."""
    monkeypatch.delenv("LLMCHAT_KERNELS", raising=False)
    header = interface._header()
    monkeypatch.setattr(interface, "_header", lambda: header + "\nint llmchat_of_tomorrow(int count);\n")
    library.load_library.cache_clear()
    try:
        assert library.load_library() is None
        assert why_torch(ModelSpec(device="cpu")) == "the native step is of another version: install llmchat again"
    finally:
        library.load_library.cache_clear()


def test_a_library_of_other_sources_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was built before the sources changed, and not again since, would run what nobody reads any more."""
    monkeypatch.delenv("LLMCHAT_KERNELS", raising=False)
    monkeypatch.setattr(library, "sources_hash", lambda directory: "h0123456789abcdef")
    library.load_library.cache_clear()
    try:
        assert why_torch(ModelSpec(device="cpu")) == "the native step is of another version: install llmchat again"
    finally:
        library.load_library.cache_clear()


@pytest.fixture(params=["pt", "safetensors", "gguf"])
def model(request: pytest.FixtureRequest, tiny_dir: Path, tmp_path: Path) -> tuple[Path, str, Path]:
    """A copy of a model of each format: what to open, a file of it, and its tokenizer."""
    if request.param == "pt":
        path = Path(shutil.copy(tiny_dir / "model" / "model.pt", tmp_path))
        return path, str(path), tiny_dir / "tokenizer"
    directory = Path(shutil.copytree(DATA / "huggingface" / "qwen2", tmp_path / "qwen2"))
    if request.param == "safetensors":
        return directory, str(directory / "model.safetensors"), directory
    path = write(tmp_path / "small.gguf", keys_of("qwen2"), tensors_of("qwen2"))
    return path, str(path), directory


@pytest.mark.parametrize("dtype", ["auto", "float32"])
def test_a_file_may_be_cut_off_while_its_model_is_open(model: tuple[Path, str, Path], dtype: str) -> None:
    """A training run empties and rewrites its latest checkpoint: the open model goes on, on either engine."""
    path, file, tokenizer = model
    code = (
        "import llmchat\n"
        f"model = llmchat.load({str(path)!r}, {str(tokenizer)!r}, device='cpu', dtype={dtype!r})\n"
        "config = llmchat.GenerationConfig(temperature=0, max_new_tokens=8)\n"
        "first = model.generate('the queen', config, raw=True).text\n"
        f"open({file!r}, 'wb').close()\n"
        "model.generate('a whale in the sea', config, raw=True)\n"
        "assert model.generate('the queen', config, raw=True).text == first"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("dtype", ["auto", "float32"])
def test_a_file_may_be_cut_off_while_it_is_read(model: tuple[Path, str, Path], dtype: str) -> None:
    """At whatever step it happens, the model cannot be loaded and a sentence says why; no signal ends the process."""
    path, file, tokenizer = model
    code = (
        "import shutil\n"
        "from llmchat.chat.model import ModelSpec\n"
        "from llmchat.engine.opening import open_engine\n"
        "from llmchat.errors import ModelLoadError\n"
        f"spec, file = ModelSpec({str(path)!r}, {str(tokenizer)!r}, device='cpu', dtype={dtype!r}), {file!r}\n"
        "shutil.copy(file, file + '.whole')\n"
        "steps = []\n"
        "open_engine(spec, lambda *step: steps.append(step))\n"
        "for wanted in range(len(steps)):\n"
        "    shutil.copy(file + '.whole', file)\n"
        "    seen = []\n"
        "    def cut_off(*step):\n"
        "        seen.append(step)\n"
        "        if len(seen) == wanted + 1:\n"
        "            open(file, 'wb').close()\n"
        "    try:\n"
        "        open_engine(spec, cut_off)\n"
        "    except ModelLoadError as error:\n"
        "        print(error.message)\n"
        "    else:\n"
        "        print(wanted, 'went well')\n"
        "print('steps', len(steps))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stderr
    *told, count = done.stdout.splitlines()
    assert len(told) == int(count.split()[1]) > 3
    assert any("was changed while it was read: open it again once it is whole" in line for line in told)
    assert "went well" not in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="the system must tell the peak of memory")
def test_weights_are_in_memory_once(default_model_path: Path) -> None:
    """The default model's peak is its weights, a short KV cache and Python: no file's bytes or torch beside them."""
    code = (
        "from llmchat import cli; import re\n"
        f"cli.run(['--once', '-p', 'hi', '-n', '2', '-m', {str(default_model_path)!r}])\n"
        "print(re.search(r'VmHWM:\\s*(\\d+) kB', open('/proc/self/status').read())[1])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    kilobytes = int(done.stdout.split()[-1])
    assert kilobytes * 1024 < 2.75 * default_model_path.stat().st_size, done.stderr


def test_opening_a_model_that_is_here_imports_nothing_that_it_does_not_need() -> None:
    """Without a chat template no engine of templates, without a fetch nothing of fetching."""
    code = (
        "import sys; from llmchat.chat.model import ModelSpec; from llmchat.engine.opening import open_engine; "
        "open_engine(ModelSpec('tiny'), lambda *told: None); "
        "names = ('jinja2', 'concurrent.futures', 'subprocess', 'difflib', 'statistics', 'torch'); "
        "print([name for name in names if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert found.stdout == "[]\n", found.stderr


def test_the_garbage_collector_works_again_after_a_model_failed_to_open(tmp_path: Path) -> None:
    """It rests while a model is prepared, and no longer."""
    (tmp_path / "model.gguf").write_bytes(b"GGUF and no more")
    with pytest.raises(ModelLoadError):
        open_engine(ModelSpec(str(tmp_path / "model.gguf")), lambda stage, fraction: None)
    assert gc.isenabled()
