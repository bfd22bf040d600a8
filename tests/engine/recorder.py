"""A stand-in for CUDA graphs on a CPU: the operations of a step, recorded once and run again on the same memory.

As with a CUDA graph, whatever Python decided while recording is fixed, waiting for a number is refused, and
memory that was not made in the recording must still be there when it is replayed.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

Step = Callable[[], Tensor]


_WAITING = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.item.default, torch.ops.aten.is_nonzero.default)


class Recording(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes each operation with its arguments and result."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._calls: list[tuple[Any, Any, Any, Tensor | None]] = []
        self._made: dict[int, Tensor] = {}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run and note one operation."""
        if func in _WAITING:
            raise RuntimeError("a number was waited for while recording")
        result = func(*args, **(kwargs or {}))
        places = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        # A view, or what was changed in place, is where it is without being copied there.
        is_new = isinstance(result, Tensor) and result.untyped_storage().data_ptr() not in places
        self._calls.append((func, *tree_map(self._held, (args, kwargs or {})), result if is_new else None))
        self._made.update((id(leaf), leaf) for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
        return result

    def replay(self) -> None:
        """Run all of them again; each result goes where it was."""
        for func, args, kwargs, target in self._calls:
            result = func(*tree_map(_alive, args), **tree_map(_alive, kwargs))
            if target is not None:
                target.copy_(result)

    def _held(self, leaf: Any) -> Any:
        """Memory of others is not kept alive by a recording."""
        return weakref.ref(leaf) if isinstance(leaf, Tensor) and id(leaf) not in self._made else leaf


def _alive(leaf: Any) -> Any:
    if not isinstance(leaf, weakref.ref):
        return leaf
    tensor = leaf()
    assert tensor is not None, "memory that a replay reads is gone"
    return tensor


class Recorder:
    """What an engine takes to capture its steps; counts what it did."""

    def __init__(self, allowed: int = 1000) -> None:
        self.recorded = self.replayed = 0
        self._allowed = allowed

    def __call__(self, step: Step) -> Step:
        """Record a step, or refuse once as many were recorded as are allowed."""
        if self.recorded == self._allowed:
            raise RuntimeError("no more graphs today\nand more that nobody reads")
        self.recorded += 1
        step()
        recording = Recording()
        with recording:
            result = step()

        def replay() -> Tensor:
            self.replayed += 1
            recording.replay()
            return result

        return replay
