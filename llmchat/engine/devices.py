"""What a model runs on: the device and the precision, and whether this machine has a GPU for torch."""

from __future__ import annotations

import ctypes
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from llmchat.errors import ModelLoadError

if TYPE_CHECKING:
    import torch

_NVIDIA_SIGNS = ("/dev/nvidia0", "/proc/driver/nvidia/version", "/dev/dxg")
_AMD_SIGNS = ("/dev/kfd",)
_NVIDIA_DRIVER = "libcuda.so.1"
TORCH_REQUIREMENT = "torch>=2.9,<2.14"
"""What to install, as in pyproject.toml."""


def gpu_sign() -> str:
    """The path that makes a GPU likely, such as /dev/dxg, which every WSL2 machine has; "" if there is none."""
    return next((sign for sign in (*_NVIDIA_SIGNS, *_AMD_SIGNS) if Path(sign).exists()), "")


def torch_finds_gpu() -> bool:
    """Whether there is a GPU that torch can use; torch is imported only where a sign and a driver speak for one."""
    if not gpu_sign() or not _has_driver():
        return False
    try:
        import torch
    except (ImportError, OSError):
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It tells at length what is missing.
        return torch.cuda.is_available()


def _has_driver() -> bool:
    """Whether a driver can be loaded, without which no GPU of NVIDIA's can be used; AMD's is torch's own matter."""
    if any(Path(sign).exists() for sign in _AMD_SIGNS):
        return True
    try:
        ctypes.CDLL(_NVIDIA_DRIVER)
    except OSError:
        return False
    return True


def require_torch(reason: str) -> None:
    """Import torch.

    Args:
        reason: Why it is needed, as words that follow "because".

    Raises:
        ModelLoadError: It is not installed or does not work.
    """
    try:
        import torch  # noqa: F401
    except (ImportError, OSError) as error:
        brief = " ".join(str(error).split())[:120]
        raise ModelLoadError(
            f"torch is needed, because {reason}, and cannot be loaded ({brief}). "
            f"Install it with: python -m pip install '{TORCH_REQUIREMENT}'"
        ) from None


def choose_device(name: str) -> torch.device:
    """The device to run on.

    Raises:
        ModelLoadError: It is unknown or not in this machine.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ModelLoadError(f"This machine cannot run on device {name!r}. Try --device cpu.") from error
    if device.type == "cuda" and device.index is not None:
        # Streams, graphs and questions about the GPU are the current one's.
        torch.cuda.set_device(device)
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The precision to compute in, unless asked otherwise: bfloat16 on a GPU, float32 on a CPU.

    A CUDA device that would only emulate bfloat16 takes float32 as well: float16 does not hold the
    numbers of every model.
    """
    import torch

    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name == "auto":
        emulates = device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.float32 if device.type == "cpu" or emulates else torch.bfloat16
    if name not in known:
        raise ModelLoadError(f"There is no precision called {name!r}. Known: auto, {', '.join(known)}.")
    return known[name]
