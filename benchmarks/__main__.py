"""Every comparison with peers, one after the other, each with its table.

    python -m benchmarks [NAME ...]

Takes about a quarter of an hour on a machine that has nothing else to do.
"""

from __future__ import annotations

import subprocess
import sys

RUNS: dict[str, tuple[str, ...]] = {
    "decode": ("benchmarks.decode", "--peers", "llama.cpp", "transformers"),
    "share": ("llmchat", "bench", "--threads", "1"),
    "busy": ("benchmarks.busy_core",),
    "first_token": ("benchmarks.first_token",),
    "llmbuilder": ("benchmarks.llmbuilder_decode",),
    "short_job": ("benchmarks.short_job",),
    "stall": ("benchmarks.ui_stall",),
    "fidelity": ("benchmarks.fidelity",),
}


def main() -> int:
    """Run those that are named, or all; 0 if each reached its goals."""
    names = sys.argv[1:] or list(RUNS)
    if unknown := [name for name in names if name not in RUNS]:
        print(f"There is no {', '.join(unknown)}. Known: {', '.join(RUNS)}.", file=sys.stderr)
        return 2
    failed = []
    for name in names:
        print(f"\n### {name}: python -m {' '.join(RUNS[name])}\n", flush=True)
        if subprocess.run([sys.executable, "-m", *RUNS[name]]).returncode:
            failed.append(name)
    if failed:
        print(f"\nNot reached, or not run to the end: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
