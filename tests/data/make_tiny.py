"""Makes the model inside the package, `llmchat/data/tiny`, from the reference model beside this script.

The weights are rounded to half precision and the constant causal masks left out,
which is all that differs from what llmbuilder's `save_model` writes.

Run with: python tests/data/make_tiny.py
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

HERE = Path(__file__).parent
SOURCE = HERE / "llmbuilder-2.0.0-tiny"
TARGET = HERE.parent.parent / "llmchat/data/tiny"


def main() -> None:
    """Write the model and its tokenizer."""
    saved = torch.load(SOURCE / "model/model.pt", weights_only=True, map_location="cpu")
    state = {
        name: tensor.half()
        for name, tensor in saved["model_state_dict"].items()
        if not name.endswith("causal_mask") and name != "lm_head.weight"
    }
    TARGET.mkdir(parents=True, exist_ok=True)
    facts = {key: saved[key] for key in ("model_config", "metadata", "model_type")}
    torch.save({"model_state_dict": state, **facts}, TARGET / "tiny.pt")
    shutil.copyfile(SOURCE / "tokenizer/tokenizer.model", TARGET / "tokenizer.model")
    print(f"{TARGET}: {sum(file.stat().st_size for file in TARGET.iterdir())} bytes")


if __name__ == "__main__":
    main()
