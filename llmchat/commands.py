"""The subcommands: pull, replay, export, bench. Results on standard output."""

from __future__ import annotations

import sys
import threading
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from llmchat.chat.archive import read_transcript
from llmchat.chat.plain_text import visible
from llmchat.chat.turn import token_count
from llmchat.errors import FetchQuestionError, TranscriptError, UsageError
from llmchat.streams import print_json

if TYPE_CHECKING:
    from llmchat.replay import ReplayResult
    from llmchat.settings import Settings


def pull_model(name: str) -> None:
    """Fetch a model by its name or address, or verify the one that is there, and print its path.

    Raises:
        ModelLoadError: There is no such model, or it cannot be fetched.
    """
    from llmchat.once_output import Narrator
    from llmchat.stores.fetch_named import fetch_named

    narrator, cancel = Narrator(quiet=False), threading.Event()
    try:
        try:
            path = fetch_named(name, narrator.progress, cancel, may_fetch=0, anew=True)
        except FetchQuestionError as question:
            narrator.warn(question.message)
            path = fetch_named(name, narrator.progress, cancel, anew=True)
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
