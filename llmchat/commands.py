"""The subcommands: models, pull, replay, export. Results on standard output."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

from llmchat.chat.storage import read_transcript
from llmchat.errors import ModelLoadError
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
        print(json.dumps(rows, indent=2))
        return
    for entry in entries:
        place = str(entry.path) if entry.is_on_disk else f"not fetched; llmchat pull {entry.name}"
        print(f"{entry.name:<10} {entry.size / 1e6:7.1f} MB  {entry.description}\n{'':<22}{place}")


def pull_model(name: str) -> None:
    """Fetch a named model and print its path.

    Raises:
        ModelLoadError: There is no such model, or it cannot be fetched.
    """
    from llmchat.checkpoints import catalog
    from llmchat.checkpoints.fetch import fetch

    entry = catalog.find_model(name)
    if entry is None:
        raise ModelLoadError(f"There is no model called {name!r}. See the named ones with: llmchat models")
    speaks = sys.stderr.isatty()

    def progress(stage: str, fraction: float | None) -> None:
        if speaks:
            share = "" if fraction is None else f" {fraction:4.0%}"
            print(f"\r{stage}{share}".ljust(60), end="", file=sys.stderr, flush=True)

    cancel = threading.Event()
    try:
        path = entry.path if entry.is_on_disk else fetch(entry, progress, cancel)
    except KeyboardInterrupt:
        cancel.set()
        raise
    finally:
        if speaks:
            print("\r" + " " * 60 + "\r", end="", file=sys.stderr, flush=True)
    print(path)


def replay_transcript(file: Path, settings: Settings) -> int:
    """Make every reply of a transcript again and print how each came out.

    Returns:
        0 if every token is the same, else 1.

    Raises:
        LlmchatError: The transcript or its model cannot be opened.
    """
    from llmchat.replay import replay

    transcript, notices = read_transcript(file)
    for notice in notices:
        print(f"llmchat: {notice}", file=sys.stderr)
    if not settings.model and transcript.model_path:
        settings = settings.merged(model=transcript.model_path, tokenizer=transcript.tokenizer_path or None)
    differing = replies = 0
    for result in replay(transcript, settings.model_spec()):
        replies += 1
        place = result.first_difference
        if place is None:
            print(f"{result.turn.id}  same     {len(result.token_ids)} tokens")
        else:
            differing += 1
            print(f"{result.turn.id}  differs  from token {place} of {len(result.token_ids)}")
    print(f"{replies - differing} of {replies} replies are the same.")
    return 1 if differing else 0


def export_transcript(file: Path, kind: str) -> None:
    """Print a transcript in another form.

    Args:
        file: The transcript.
        kind: "markdown", "text" or "json".

    Raises:
        TranscriptError: It cannot be read.
    """
    from llmchat.chat import export

    transcript, _ = read_transcript(file)
    render = {"markdown": export.to_markdown, "text": export.to_text, "json": export.to_json}[kind]
    sys.stdout.write(render(transcript).rstrip("\n") + "\n")
