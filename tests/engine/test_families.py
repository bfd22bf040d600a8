"""Finding the family of a file: each is one module that nothing else names, imported when a file asks for it."""

from __future__ import annotations

import subprocess
import sys

from llmchat.models.family import _families, find_family


def test_every_name_has_its_family() -> None:
    """Whatever module it is in, also where the name begins like another module."""
    families = list(_families())
    assert len(families) > 20
    for family in families:
        for source, names in family.names.items():
            assert all(find_family(source, name) == family for name in names)
    assert find_family("config", "no-such-thing") is None


def test_opening_a_model_imports_no_other_family() -> None:
    """Twelve modules of other people's models are no reason to start later."""
    code = (
        "import sys; from llmchat.models.family import find_family; find_family('gguf', 'llama');"
        "print([name for name in sys.modules if name.startswith('llmchat.models.')])"
    )
    imported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "llmchat.models.llama" in imported
    assert "phi" not in imported and "gpt" not in imported
