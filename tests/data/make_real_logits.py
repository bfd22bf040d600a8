"""Store logits of real models over real text, for the tests of the sampling chain.

    python -m tests.data.make_real_logits MODEL.gguf NAME

The text is this repository's README. Every position's logits go to half precision, which makes ties.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from llmchat.chat.model import ModelSpec
from llmchat.engine.opening import open_engine
from llmchat.engine.token_sets import ids_containing, ids_of
from tests.conftest import DATA

POSITIONS = (3, 60, 200)


def main(model: str, name: str) -> None:
    """Read the text and write the file."""
    engine = open_engine(ModelSpec(model=model), lambda stage, done: None)
    text = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    ids = engine.tokenizer.encode(text)[:2500]
    rows = []
    for position in POSITIONS:
        prefill = engine.prefill(ids[: position + 1], lambda: False)
        assert prefill.logits is not None
        rows.append(prefill.logits.astype(np.float16))
    np.savez_compressed(
        DATA / "real-logits" / f"{name}.npz",
        logits=np.stack(rows),
        text=np.array(ids, dtype=np.int32),
        ends=np.array(engine.end_ids, dtype=np.int32),
        newlines=np.array(sorted(ids_of(engine.tokenizer, "\n")), dtype=np.int32),
        breakers=np.array(sorted(ids_containing(engine.tokenizer, ("\n", ":", '"', "*"))), dtype=np.int32),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
