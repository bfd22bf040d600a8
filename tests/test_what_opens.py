"""The README's table of what opens."""

from __future__ import annotations

from pathlib import Path

from tests.what_opens import table


def test_the_readme_tells_what_opens() -> None:
    """Its table is what the compared models make: a new architecture is not forgotten there."""
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    assert table() in readme, "put what `python -m tests.what_opens` prints into the README"
