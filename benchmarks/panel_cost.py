"""What the next-token panel and token heat cost: decode speed in the window with both on, and with both off.

The real window runs without a terminal and writes the same seeded reply again and
again, on and off by turns, in an order that changes from round to round, so that a
busy machine slows both. The speed is the worker's own figure, without the prefill. The
fastest reply of each kind is what they cost when nothing else runs, and decides; the
ratios of neighbours show how much the machine was disturbed.
The two must say the same: showing anything never changes a token.

Run with: python -m benchmarks.panel_cost [--model NAME] [--rounds N] [--tokens N]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile

from textual.pilot import Pilot

from llmchat.options import StartOptions
from llmchat.settings import ResolvedGeneration, Settings
from llmchat.ui.app import LlmchatApp

PROMPT = "Tell me about the sea, as if it were a person."
REQUIRED = 0.95
"""The share of the speed that must be left with everything on."""


def main() -> int:
    """Measure, print, and return 0 if what is left of the speed reaches what is required."""
    parser = argparse.ArgumentParser(description="Decode speed with panel and heat on against off.")
    parser.add_argument("--model", default=None, help="by default the default model, which must be here already")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=300)
    arguments = parser.parse_args()
    home = os.environ.get("LLMCHAT_HOME")
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["LLMCHAT_HOME"] = home or scratch
        return asyncio.run(_compare(arguments.model, arguments.rounds, arguments.tokens))


async def _compare(model: str | None, rounds: int, tokens: int) -> int:
    settings = Settings(autosave=False) if model is None else Settings(model=model, autosave=False)
    generation = ResolvedGeneration().changed({"seed": 8417, "max_new_tokens": tokens}, "flag")
    app = LlmchatApp(StartOptions(settings=settings, generation=generation))
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        await _until(app, "ready")
        await _reply(pilot, app, shown=True)
        speeds: dict[bool, list[float]] = {True: [], False: []}
        drawn = set()
        for number in range(rounds):
            for shown in (True, False) if number % 2 else (False, True):
                speed, ids = await _reply(pilot, app, shown=shown)
                speeds[shown].append(speed)
                drawn.add(ids)
    if len(drawn) != 1:
        print("Panel and heat changed what is said; the comparison is void.", file=sys.stderr)
        return 1
    on, off = max(speeds[True]), max(speeds[False])
    ratios = [with_all / without for with_all, without in zip(speeds[True], speeds[False], strict=True)]
    print(f"{rounds} rounds of {len(ids)} tokens; fastest off {off:.1f} tok/s, on {on:.1f} tok/s: {on / off:.3f}")
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    print(f"on/off by neighbours: median {middle:.3f}, {low:.3f} to {high:.3f}; required: {REQUIRED}")
    return 0 if on / off >= REQUIRED else 1


async def _reply(pilot: Pilot[str], app: LlmchatApp, *, shown: bool) -> tuple[float, tuple[int, ...]]:
    """Write the reply in a new conversation; returns tokens per second and the tokens."""
    chat = app.chat
    chat.action_new()
    chat.next_token.switched_on = shown
    await pilot.pause(0.2)
    assert bool(app.worker.explained_rows) == shown
    chat.send(PROMPT)
    await _until(app, "generating")
    chat.laboratory.set_heat("probability" if shown else "off")
    await _until(app, "ready")
    reply = chat.session.transcript.path()[-1].reply
    assert reply is not None
    return reply.timings.tokens_per_second, reply.token_ids


async def _until(app: LlmchatApp, state: str) -> None:
    session = app.chat.session
    while session.state != state or (state == "generating" and not (session.running and session.running.facts)):
        if session.model is None and session.load is None:
            raise SystemExit("The model could not be opened.")
        # Asleep between looks, as a person is; a polling loop would cost more than what is measured.
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
