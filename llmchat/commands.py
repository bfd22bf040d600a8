"""The subcommands: models, pull, replay, export, bench. Results on standard output."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from llmchat.chat.archive import read_transcript
from llmchat.chat.plain_text import visible
from llmchat.chat.turn import token_count
from llmchat.errors import ModelLoadError, TranscriptError, UsageError
from llmchat.streams import print_json

if TYPE_CHECKING:
    from llmchat.replay import ReplayResult
    from llmchat.settings import Settings


def list_models(*, as_json: bool) -> None:
    """Print the named models, where they are, or that they are still to be fetched."""
    from llmchat.checkpoints import catalog

    entries = catalog.models()
    if as_json:
        rows = [
            {
                "name": entry.name,
                "description": entry.description,
                "size_bytes": entry.size,
                "path": str(entry.path),
                "on_disk": entry.is_on_disk,
            }
            for entry in entries
        ]
        print_json(json.dumps(rows, indent=2))
        return
    for entry in entries:
        place = str(entry.path) if entry.is_on_disk else f"not fetched; llmchat pull {entry.name}"
        print(f"{entry.name:<10} {entry.size / 1e6:7.1f} MB  {entry.description}\n{'':<22}{place}")


def pull_model(name: str) -> None:
    """Fetch a named model, or verify the one that is there, and print its path.

    Raises:
        ModelLoadError: There is no such model, or it cannot be fetched.
    """
    from llmchat.checkpoints import catalog
    from llmchat.checkpoints.fetch import fetch
    from llmchat.once_output import Narrator

    entry = catalog.find_model(name)
    if entry is None:
        raise ModelLoadError(f"There is no model called {name!r}. See the named ones with: llmchat models")
    narrator = Narrator(quiet=False)
    try:
        path = fetch(entry, narrator.progress, threading.Event(), verify=True)
    finally:
        narrator.clear()
    print(path)


def replay_transcript(
    file: Path, settings: Settings, *, any_model: bool, turn_id: str | None = None, asked: Collection[str] = ()
) -> int:
    """Make the replies of a transcript again and print how each came out.

    Args:
        file: The transcript.
        settings: The model, and where it runs.
        any_model: Whether the model was chosen by the person, so that its name does not matter.
        turn_id: The only reply to make again, whose text is printed too.
        asked: What of the model's settings holds whatever was recorded, as for `replay`.

    Returns:
        0 if every token is the same, else 1.

    Raises:
        LlmchatError: The transcript or its model cannot be opened, or has no such reply.
    """
    from llmchat.replay import replay

    transcript, notices = read_transcript(file)
    if not any_model and transcript.model_path and not Path(transcript.model_path).exists():
        raise TranscriptError(
            f"The model of {file.name} is no longer at {transcript.model_path}. Say where it is with --model."
        )
    _tell(notices)
    if turn_id is not None and transcript.turn(turn_id).reply is None:
        raise UsageError(f"Turn {turn_id} is no reply that a model drew.")
    counts = {"same": 0, "differs": 0, "passed over": 0}
    spec = settings.model_spec()
    for result in replay(transcript, spec, any_model=any_model, turn_id=turn_id, asked=asked):
        if turn_id is not None and not result.passed_over:
            print(f"{visible(result.text)}\n")
        outcome, words = _outcome(result)
        counts[outcome] += 1
        print(visible(f"{result.turn.id}  {outcome:<8} {words}"), flush=True)
    print(f"{counts['same']} of {sum(counts.values())} replies are the same.")
    return 1 if counts["differs"] else 0


def _tell(notices: list[str]) -> None:
    """Say on standard error what was left out of a transcript."""
    for notice in notices:
        print(f"llmchat: {visible(notice)}", file=sys.stderr)


def _outcome(result: ReplayResult) -> tuple[str, str]:
    """How a reply came out, and the words on it."""
    reply, place = result.turn.reply, result.first_difference
    assert reply is not None
    if result.passed_over:
        return "passed over", result.passed_over
    if place is None:
        but = f", but {result.other_prompt}" if result.other_prompt else ""
        return "same", token_count(len(result.token_ids)) + but
    was, now = (ids[place] if place < len(ids) else "the end" for ids in (reply.token_ids, result.token_ids))
    words = f"from token {place} of {len(reply.token_ids)}: {was} then, {now} now"
    return "differs", f"{result.other_prompt}; {words}" if result.other_prompt else words


def export_transcript(file: Path, kind: str) -> None:
    """Print a transcript in another form.

    Args:
        file: The transcript.
        kind: "markdown", "text" or "json".

    Raises:
        TranscriptError: It cannot be read.
    """
    from llmchat.chat import export

    transcript, notices = read_transcript(file)
    _tell(notices)
    if kind == "json":
        print_json(export.to_json(transcript).rstrip("\n"))
        return
    render = {"markdown": export.to_markdown, "text": export.to_text}[kind]
    sys.stdout.write(render(transcript).rstrip("\n") + "\n")


def bench_model(settings: Settings, *, repeats: int, as_json: bool) -> None:
    """Measure how fast a model runs here and print the figures.

    Args:
        settings: The model, and where it runs.
        repeats: How often each thing is measured.
        as_json: Print one object in place of a table.

    Raises:
        ModelLoadError: It cannot be opened.
    """
    from llmchat.bench import run_bench
    from llmchat.bench_output import bench_lines, describe_bench
    from llmchat.once_output import Narrator, write_json

    narrator = Narrator(quiet=False)
    try:
        report = run_bench(settings.model_spec(), repeats, narrator.progress)
    finally:
        narrator.clear()
    if as_json:
        write_json(describe_bench(report))
    else:
        print("\n".join(bench_lines(report)))
