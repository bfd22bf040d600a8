"""How much memory a model needs and how much there is, said before its weights are read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from llmchat.engine.footprint import footprint_natively, footprint_on_torch
from llmchat.engine.free_memory import free_memory
from llmchat.engine.native.model import NativeModel
from tests.engine.random_blocks import KINDS
from tests.engine.test_native_formats import WIDE, checkpoint_of, like_q4_k_m, with_only_a_head
from tests.engine.test_native_lookup import CONFIG, random_lookups
from tests.patience import PATIENCE_SECONDS

linux = pytest.mark.skipif(sys.platform != "linux", reason="the system must tell what memory there is")
_MEGABYTE = 2**20


# ── what a model needs ──


@pytest.mark.parametrize("kind", [*KINDS, "mixed"])
def test_the_native_step_keeps_as_many_bytes_as_are_reckoned(kind: str) -> None:
    """Weights to one in a hundred, whatever format they are in; keys and values to the byte."""
    checkpoint = checkpoint_of(WIDE, like_q4_k_m if kind == "mixed" else lambda name: kind)
    kinds = {name: tensor.kind for name, tensor in checkpoint.raw.items()}
    footprint = footprint_natively(checkpoint.plan, kinds)
    model = NativeModel(checkpoint, 1, lambda stage, fraction: None)
    embedding = checkpoint.raw["embedding.weight"].data.nbytes
    assert footprint.weights == pytest.approx(model.weight_bytes + embedding, rel=0.01 if kind != "Q2_K" else 0.05)
    assert footprint.cache == WIDE.context_length * model.position_bytes


@pytest.mark.parametrize("kind", ["IQ1_M", "IQ3_S", "TQ2_0"])
def test_formats_that_look_numbers_up_are_reckoned_as_what_they_become(kind: str) -> None:
    """Codes of four bits, whatever the file had."""
    rng = np.random.default_rng(2)
    checkpoint = with_only_a_head(
        CONFIG, random_lookups(kind, CONFIG.vocab_size, CONFIG.dim, rng), np.zeros(CONFIG.dim)
    )
    kinds = {name: tensor.kind for name, tensor in checkpoint.raw.items()}
    model = NativeModel(checkpoint, 1, lambda stage, fraction: None)
    embedding = checkpoint.raw["embedding.weight"].data.nbytes
    footprint = footprint_natively(checkpoint.plan, kinds)
    # The few rows of this embedding are not filled up to whole blocks.
    assert footprint.weights == pytest.approx(model.weight_bytes + embedding, rel=0.06)


@pytest.mark.parametrize("number_bytes", [2, 4])
def test_torch_keeps_as_many_bytes_as_are_reckoned(number_bytes: int) -> None:
    """In float32 and in bfloat16, where norms stay in float32."""
    import torch

    from llmchat.engine.architectures.network import Network

    checkpoint = checkpoint_of(WIDE, lambda name: "Q8_0")
    kinds = {name: tensor.kind for name, tensor in checkpoint.raw.items()}
    footprint = footprint_on_torch(checkpoint.plan, kinds, number_bytes)
    dtype = {2: torch.bfloat16, 4: torch.float32}[number_bytes]
    network = Network.build(checkpoint.plan, checkpoint.tensors, dtype=dtype)
    assert footprint.weights == sum(parameter.nbytes for parameter in network.parameters())
    assert footprint.cache == network.make_cache(WIDE.context_length).held_bytes


@linux
@pytest.mark.parametrize("model", ["tiny", "smollm2"])
def test_the_reckoning_is_near_the_measured_peak(model: str, default_model_path: Path) -> None:
    """Of a real model in a process of its own, with a conversation as long as is reckoned with: within 15 %."""
    code = (
        "import re\n"
        "from llmchat.chat.model import ModelSpec\n"
        "from llmchat.engine import footprint, opening\n"
        "footprint.CONTEXT = 64\n"
        "def peak():\n"
        "    return int(re.search(r'VmHWM:\\s*(\\d+) kB', open('/proc/self/status').read())[1]) * 1024\n"
        "before = peak()\n"
        f"model = opening.prepare_model(ModelSpec({model!r}, device='cpu'), lambda stage, fraction: None)\n"
        "engine = model.build()\n"
        "engine.prefill([5] * 60, lambda: False)\n"
        "print(before, peak() - before, model.footprint.total)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    before, taken, reckoned = map(int, done.stdout.split())
    assert reckoned + before == pytest.approx(taken + before, rel=0.15), done.stderr


# ── what there is ──


@linux
def test_what_the_system_has_is_known() -> None:
    """No more than the machine's memory, and not nothing."""
    free = free_memory()
    assert free is not None and 0 < free <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@linux
def test_a_limit_of_the_address_space_counts() -> None:
    """As `ulimit -v` sets it, in a process of its own."""
    code = (
        "import resource; from llmchat.engine.free_memory import free_memory\n"
        "taken = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (taken + 2**26, -1))\n"
        "print(free_memory())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert 2**25 < int(done.stdout) <= 2**26, done.stderr


def test_the_narrowest_control_group_counts(tmp_path: Path) -> None:
    """Version 2: of the process's own group and those around it; what they hold of files is free."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9000000 kB\nMemAvailable:    8000000 kB\n")
    (tmp_path / "proc/self/cgroup").write_text("0::/outer/inner\n")
    inner = tmp_path / "sys/fs/cgroup/outer/inner"
    inner.mkdir(parents=True)
    for group, limit in ((inner, "max"), (inner.parent, "4000000000")):
        (group / "memory.max").write_text(f"{limit}\n")
        (group / "memory.current").write_text("3000000000\n")
        (group / "memory.stat").write_text("anon 2500000000\nactive_file 100000000\ninactive_file 200000000\nfile 5\n")
    assert free_memory(tmp_path) == 1_300_000_000
    assert free_memory(tmp_path / "nowhere") is None or sys.platform != "linux"


@linux
def test_a_real_control_group_counts() -> None:
    """Where this process may make one: a process inside sees its limit."""
    group = _own_group()
    if group is None:
        pytest.skip("this process may not make control groups")
    code = "from llmchat.engine.free_memory import free_memory; input(); print(free_memory())"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        (group / "cgroup.procs").write_text(str(child.pid))
        out, _ = child.communicate("\n", timeout=PATIENCE_SECONDS)
    finally:
        child.kill()
        child.wait()
        group.rmdir()
    assert 200 * _MEGABYTE < int(out) <= 300 * _MEGABYTE


def _own_group() -> Path | None:
    """A new control group with 300 MB of memory beside this process; None where that is not allowed."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            group, limit = Path("/sys/fs/cgroup") / path.strip("/") / "llmchat-test", "memory.max"
        elif "memory" in controllers.split(","):
            group, limit = Path("/sys/fs/cgroup/memory") / path.strip("/") / "llmchat-test", "memory.limit_in_bytes"
        else:
            continue
        with suppress(OSError):
            group.mkdir()
            try:
                (group / limit).write_text(str(300 * _MEGABYTE))
            except OSError:
                group.rmdir()
                continue
            return group
    return None


# ── the refusal ──


@linux
def test_a_model_that_does_not_fit_is_refused_before_it_is_read(default_model_path: Path) -> None:
    """In a process with 60 MB left: a line with both figures and a way out, exit code 4; and the flag tries it."""
    code = (
        "import resource, sys\n"
        "from llmchat import cli\n"
        "from llmchat.engine import opening\n"
        "import llmchat.checkpoints.loading, llmchat.engine.native.model, llmchat.engine.native_engine\n"
        "usual = opening.prepare_model\n"
        "def prepare(*arguments, **options):\n"
        "    model = usual(*arguments, **options)\n"
        "    taken = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "    resource.setrlimit(resource.RLIMIT_AS, (taken + 60 * 2**20, -1))\n"
        "    return model\n"
        "opening.prepare_model = prepare\n"
        "opening._memory_to_prepare = lambda path: 0\n"
        f"sys.exit(cli.run(['--once', '-p', 'hi', '-m', {str(default_model_path)!r}, *sys.argv[1:]]))\n"
    )
    refused, tried = (
        subprocess.run([sys.executable, "-c", code, *flags], capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        for flags in ([], ["--ignore-memory"])
    )
    assert (refused.returncode, refused.stdout) == (4, "")
    figures = re.search(
        r"needs about (\d+) MB of memory with a conversation of 4096 tokens, and (\d+) MB", refused.stderr
    )
    assert figures is not None and int(figures[1]) > 150 > int(figures[2]), refused.stderr
    assert "fewer bits" in refused.stderr and "--ignore-memory opens it all the same" in refused.stderr
    assert tried.returncode == 4 and "There is not enough memory for SmolLM2" in tried.stderr
