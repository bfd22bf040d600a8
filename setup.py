"""Builds the native step; all else stands in pyproject.toml.

Where a compiler can build it, it must: a failure ends the installation. Without one the installation goes on, and
torch serves.
"""

from __future__ import annotations

import runpy
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

NATIVE = Path(__file__).parent / "llmchat" / "engine" / "native"
PROBE = "#include <sys/mman.h>\n#include <concepts>\nint main() { return std::same_as<int, int> ? 0 : 1; }\n"


class BuildNative(build_ext):
    """Writes the hash of the sources into the library, and makes it compulsory where it can be built."""

    def build_extension(self, ext: Extension) -> None:
        """Build one, anew where what is there is of other sources."""
        ext.optional = not self._can_compile(ext)
        sources = runpy.run_path(str(NATIVE / "sources.py"))["sources_hash"](NATIVE)
        ext.define_macros = [("LLMCHAT_SOURCES", sources)]
        built = Path(self.get_ext_fullpath(ext.name))
        self.force = self.force or (built.exists() and sources.encode() not in built.read_bytes())
        super().build_extension(ext)

    def _can_compile(self, ext: Extension) -> bool:
        """Whether there is a compiler of C++20 for a system that the native step knows."""
        with tempfile.TemporaryDirectory() as place:
            probe = Path(place, "probe.cpp")
            probe.write_text(PROBE)
            try:
                self.compiler.compile([str(probe)], output_dir=place, extra_postargs=ext.extra_compile_args)
            except CompileError:
                return False
        return True


setup(cmdclass={"build_ext": BuildNative})
