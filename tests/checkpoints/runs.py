"""Training runs to test with: real checkpoints in the layout of llmbuilder's trainer."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from tests.conftest import DATA

MODEL = DATA / "llmbuilder-2.0.0-tiny" / "model" / "model.pt"
TOKENIZER = DATA / "llmbuilder-2.0.0-tiny" / "tokenizer" / "tokenizer.model"


def save_checkpoint(path: Path, step: int | None = None, loss: float | None = None, shake: float = 0.0) -> Path:
    """A checkpoint of the tiny model with a training record, and its tokenizer beside it.

    Args:
        path: The new file.
        step: The training step that it carries.
        loss: The validation loss that it carries.
        shake: How far the weights lie from the trained ones, as a share of them.
    """
    payload = torch.load(MODEL, weights_only=True)
    generator = torch.Generator().manual_seed(step or 0)
    for tensor in payload["model_state_dict"].values():
        if tensor.is_floating_point():
            tensor *= 1 + shake * torch.randn(tensor.shape, generator=generator)
    if step is not None:
        payload["training_state"] = {"step": step, "epoch": 0}
    if loss is not None:
        payload["metrics"] = {"val_loss": loss}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(payload, path)
    tokenizer = path.parent / "tokenizer.model"
    if not tokenizer.exists():
        shutil.copy(TOKENIZER, tokenizer)
    return path
