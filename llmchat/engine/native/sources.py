"""A hash of the C++ sources; the library carries that of those which it was built from.

setup.py uses it as well, so nothing of llmchat is imported here.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

ENDINGS = (".cpp", ".h", ".inc")


def sources_hash(directory: Path) -> str:
    """A name for the sources of a directory as they are; "" where there are none, as in an installed wheel."""
    files = sorted(path for path in directory.iterdir() if path.suffix in ENDINGS)
    found = hashlib.sha256()
    for file in files:
        content = file.read_bytes().replace(b"\r\n", b"\n")
        found.update(f"{file.name} {len(content)}\n".encode() + content)
    return f"h{found.hexdigest()[:16]}" if any(path.suffix == ".cpp" for path in files) else ""
