"""The command line: kills the program as often as is asked for and prints what was not kept; ends with 1 then."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from random import Random

from llmchat.errors import LlmchatError
from tests.kills import once, window
from tests.kills.kept import Talk, Unkept

_KILLS_A_HOME = 15
"""After so many, the conversations begin anew: they grow long."""


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("--window", type=int, default=120, help="kills of the window (120)")
    parser.add_argument("--once", type=int, default=80, help="kills of --once --save (80)")
    parser.add_argument("--seed", type=int, default=1, help="what is done, and roughly when the kills come (1)")
    options = parser.parse_args()
    lost = _windows(options.window, options.seed) + _onces(options.once, options.seed)
    print(f"{options.window + options.once} kills, {lost} with something lost")
    return 1 if lost else 0


def _windows(count: int, seed: int) -> int:
    lost, ends = 0, Counter[str]()
    talk = Talk()
    for number in range(count):
        if number % _KILLS_A_HOME == 0:
            _new_home()
            talk = Talk()
        try:
            ends[window.kill(talk, Random(f"{seed}:{number}"))] += 1
        except (Unkept, LlmchatError) as error:
            lost += 1
            print(f"window {number}: {error}\n  {'; '.join(talk.history)} [{os.environ['LLMCHAT_HOME']}]", flush=True)
            _new_home()
            talk = Talk()
    print(f"window, killed in: {dict(ends)}", flush=True)
    return lost


def _onces(count: int, seed: int) -> int:
    lost, ends = 0, Counter[str]()
    for number in range(count):
        if number % _KILLS_A_HOME == 0:
            home = _new_home()
        try:
            ends[once.kill(home / "talk.toml", number, Random(f"{seed}:{number}"))] += 1
        except (Unkept, LlmchatError) as error:
            lost += 1
            print(f"once {number}: {error} [{home}]", flush=True)
            home = _new_home()
    print(f"once: {dict(ends)}", flush=True)
    return lost


def _new_home() -> Path:
    """An empty home for the program, without the sidebar so that replies have the whole width; it is left behind."""
    home = Path(tempfile.mkdtemp(prefix="llmchat-kills-"))
    (home / "config").mkdir()
    (home / "config" / "settings.toml").write_text("sidebar = false\n")
    os.environ["LLMCHAT_HOME"] = str(home)
    return home


if __name__ == "__main__":
    sys.exit(main())
