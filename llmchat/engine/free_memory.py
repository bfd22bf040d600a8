"""How much memory can still be taken: by the system, by the control groups that this process is in, by its own limit.

The files are described in the kernel's `filesystems/proc`, `admin-guide/cgroup-v1/memory` and
`admin-guide/cgroup-v2`. Where a system tells none of this, such as macOS, nothing is known.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_KEPT_FOR_FILES = ("active_file", "inactive_file")
"""What a group has in memory of files, and gives back at need."""


class _Group(NamedTuple):
    """How a version of control groups names what is wanted."""

    places: tuple[str, ...]
    limit: str
    usage: str
    prefix: str


_V1 = _Group(("sys/fs/cgroup/memory",), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
_V2 = _Group(("sys/fs/cgroup", "sys/fs/cgroup/unified"), "memory.max", "memory.current", "")


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process can still take without any being swapped out; None where that is not known.

    Args:
        root: Where /proc and /sys lie.
    """
    known = [*_free_in_system(root), *_free_in_groups(root), *_free_to_limit(root)]
    return max(min(known), 0) if known else None


def free_gpu_memory() -> int:
    """Bytes that are free on torch's present GPU."""
    import torch

    return torch.cuda.mem_get_info()[0]


def _free_in_system(root: Path) -> Iterator[int]:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024


def _free_in_groups(root: Path) -> Iterator[int]:
    """Of each group with a limit, from this process's to the outermost one."""
    for line in _lines(root / "proc/self/cgroup"):
        number, controllers, path = line.split(":", 2)
        if number != "0" and "memory" not in controllers.split(","):
            continue
        version = _V2 if number == "0" else _V1
        for place in version.places:
            top = root / place
            directory = top / path.strip("/")
            for group in (directory, *directory.parents):
                if not group.is_relative_to(top):
                    break
                yield from _free_in_group(group, version)


def _free_in_group(group: Path, version: _Group) -> Iterator[int]:
    limit, used = _lines(group / version.limit), _lines(group / version.usage)
    if not (limit and used and limit[0].isdigit() and used[0].isdigit()):
        return
    names = [version.prefix + name for name in _KEPT_FOR_FILES]
    counts = (line.split() for line in _lines(group / "memory.stat"))
    yield int(limit[0]) - int(used[0]) + sum(int(count) for name, count in counts if name in names)


def _free_to_limit(root: Path) -> Iterator[int]:
    """To the limit of the address space, which `ulimit -v` sets."""
    with contextlib.suppress(ImportError):
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY and (sizes := _lines(root / "proc/self/statm")):
            yield limit - int(sizes[0].split()[0]) * resource.getpagesize()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
