"""The command line: tries cases of the formats and prints what it finds; ends with 1 if it finds something."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.hostile.formats import NAMES
from tests.hostile.runner import Finding, causes, run


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("formats", nargs="*", default=NAMES, metavar="FORMAT", help=", ".join(NAMES))
    parser.add_argument("--cases", type=int, default=1000, help="cases of each format (1000)")
    parser.add_argument("--first", type=int, default=0, help="number of the first case (0)")
    parser.add_argument("--minutes", type=float, default=30.0, help="begin no further case of a format after this")
    parser.add_argument("--only", type=int, help="try this case alone and show its stack; it stays in --keep")
    parser.add_argument(
        "--keep",
        type=Path,
        default=Path(tempfile.gettempdir()) / "hostile-case",
        help="directory for --only; by default in the temporary one",
    )
    options = parser.parse_args()
    if unknown := set(options.formats) - set(NAMES):
        parser.error(f"no such format: {', '.join(sorted(unknown))}")
    if options.only is not None:
        return _show(options.formats[0], options.only, options.keep)
    found = 0
    for name in options.formats:
        outcome = run(name, options.cases, first=options.first, seconds=60 * options.minutes, told=_tell)
        print(
            f"== {name}: {outcome.tried} cases in {outcome.seconds:.0f} s, {outcome.opened} opened, "
            f"{len(outcome.findings)} findings; slowest {outcome.slowest[0]} s (case {outcome.slowest[1]}), "
            f"most memory {outcome.largest[0]} MiB (case {outcome.largest[1]})",
            flush=True,
        )
        for finding, count in causes(outcome.findings):
            print(f"  {count} × {finding}", flush=True)
        found += len(outcome.findings)
    return 1 if found else 0


def _tell(finding: Finding) -> None:
    print(finding, file=sys.stderr, flush=True)


def _show(name: str, case: int, kept: Path) -> int:
    arguments = [name, str(case), str(case + 1), str(kept)]
    return subprocess.run([sys.executable, "-m", "tests.hostile.worker", *arguments]).returncode


if __name__ == "__main__":
    sys.exit(main())
