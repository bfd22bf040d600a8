"""Opening of the models that llmbuilder trains, versions 0.1 to 2.0 and 1.0.x.

Dimensions come from the tensors' shapes, the number of heads from whatever the
file or its neighbours say. The tokenizer is a file of its own.
"""

from __future__ import annotations

from pathlib import Path

from llmchat.chat.model import ModelSpec
from llmchat.checkpoints.assembly import FileTensor, assemble
from llmchat.checkpoints.checkpoint import Checkpoint, Progress
from llmchat.checkpoints.lazy_tensors import LazyTensors
from llmchat.checkpoints.llmbuilder_facts import choose_heads, training_facts
from llmchat.checkpoints.llmbuilder_weights import HEAD, check_shapes, dimensions, read_weights
from llmchat.checkpoints.torch_file import load_torch_file
from llmchat.errors import ModelLoadError
from llmchat.files import expanded
from llmchat.models.llmbuilder import LAYOUT, llmbuilder_plan
from llmchat.tokenizers.tokenizer import Tokenizer


def load_llmbuilder(spec: ModelSpec, progress: Progress) -> Checkpoint:
    """Open a checkpoint and its tokenizer.

    Raises:
        ModelLoadError: The file, its contents or the tokenizer cannot be used; says why.
    """
    path = expanded(spec.model)
    payload, content = load_torch_file(path, progress)
    weights = read_weights(payload, path)
    vocab_size, context_length, n_layers, dim = dimensions(weights, path)
    n_heads, head_notes = choose_heads(payload, path, dim, spec.heads)
    plan = llmbuilder_plan(
        vocab_size=vocab_size,
        context_length=context_length,
        n_layers=n_layers,
        n_heads=n_heads,
        dim=dim,
        tied=HEAD not in weights.tensors,
    )
    check_shapes(weights, plan, path)
    tensors = {name: FileTensor(tensor.dtype, tensor.shape, tensor.raw) for name, tensor in weights.tensors.items()}
    raw = assemble(path, plan, LAYOUT, tensors)
    progress("reading the tokenizer", None)
    tokenizer, tokenizer_path = _open_tokenizer(spec, path)
    return Checkpoint(
        name=path.stem,
        path=str(path),
        plan=plan,
        tensors=LazyTensors(raw, progress),
        raw=raw,
        kinds=raw.kinds,
        check_unchanged=content.check_unchanged,
        weight_format=weights.weight_format,
        tokenizer=tokenizer,
        tokenizer_path=str(tokenizer_path),
        end_ids=() if tokenizer.eos_id is None else (tokenizer.eos_id,),
        training=training_facts(payload),
        notes=(*weights.notes, *head_notes, *_vocabulary_notes(vocab_size, tokenizer.vocab_size)),
    )


def _open_tokenizer(spec: ModelSpec, path: Path) -> tuple[Tokenizer, Path]:
    from llmchat.tokenizers.loading import find_tokenizer, load_tokenizer

    found = expanded(spec.tokenizer) if spec.tokenizer else find_tokenizer(path)
    if found is None:
        raise ModelLoadError(f"There is no tokenizer beside {path}. Name it with --tokenizer DIR.")
    return load_tokenizer(found), found


def _vocabulary_notes(model_size: int, tokenizer_size: int) -> tuple[str, ...]:
    if model_size > tokenizer_size:
        return (f"The model has {model_size} tokens, the tokenizer {tokenizer_size}: the rest is never drawn.",)
    if model_size < tokenizer_size:
        return (
            f"The tokenizer has {tokenizer_size} tokens, the model {model_size}: "
            "text that needs the rest is read as unknown.",
        )
    return ()
