"""What a headless run prints: replies on standard output, words for a person on standard error."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict
from typing import Any, Literal

from llmchat.chat.model import ModelInfo
from llmchat.chat.plain_text import visible
from llmchat.chat.thought import Thought
from llmchat.chat.turn import Reply, token_count
from llmchat.chat.words import draft_words, thought_words, with_speed
from llmchat.streams import print_json, steer
from llmchat.worker.messages import PromptProcessed, PromptTokens, TokensGenerated

Output = Literal["text", "json", "jsonl"]

SEPARATOR = "---\n"
"""The line between one text sample and the next."""


class TextPrinter:
    """The reply's text as it comes, and one line end after it."""

    def __init__(self, *, show_thinking: bool = False) -> None:
        """A printer.

        Args:
            show_thinking: Print the thought before the answer too, between marks that are the same for every model.
        """
        self._shows_thought = show_thinking
        self._is_in_thought = False
        self._has_begun = False

    def begin(self, number: int) -> None:
        """Begin a sample."""
        if number:
            write_out(SEPARATOR)

    def add(self, event: TokensGenerated) -> None:
        """Print some more of the reply."""
        self._has_begun = True
        if self._shows_thought:
            self._add_thought(event.thought)
        write_out(event.text)

    def _add_thought(self, thought: Thought) -> None:
        if thought.text:
            write_out(thought.text if self._is_in_thought else f"<think>\n{thought.text}")
            self._is_in_thought = True
        if thought.closing and self._is_in_thought:
            write_out("\n</think>\n\n")
            self._is_in_thought = False

    def finish(self, reply: Reply, prompt: str, info: ModelInfo) -> None:
        """End the reply."""
        write_out("\n")
        self._has_begun = self._is_in_thought = False

    def break_off(self) -> None:
        """End what there is of a reply that failed."""
        if self._has_begun:
            write_out("\n")


class JsonPrinter:
    """One object for each reply, when it is done."""

    def begin(self, number: int) -> None:
        """Nothing stands before the object."""

    def add(self, event: TokensGenerated) -> None:
        """Wait for the whole."""

    def finish(self, reply: Reply, prompt: str, info: ModelInfo) -> None:
        """Print the object."""
        write_json(describe_reply(reply, prompt, info))

    def break_off(self) -> None:
        """A reply that failed has no object."""


class JsonLinesPrinter:
    """An object for each step: `token` as the text comes, `end` with everything known of the reply."""

    def __init__(self) -> None:
        self._sample = 0

    def begin(self, number: int) -> None:
        """Begin a sample."""
        self._sample = number

    def add(self, event: TokensGenerated) -> None:
        """Print a step."""
        step = {"type": "token", "sample": self._sample, "text": event.text, "thinking": event.thought.text}
        write_json({**step, "token_ids": list(event.token_ids)})

    def finish(self, reply: Reply, prompt: str, info: ModelInfo) -> None:
        """Print the end."""
        write_json({"type": "end", "sample": self._sample, **describe_reply(reply, prompt, info)})

    def break_off(self) -> None:
        """A reply that failed has no end."""


Printer = TextPrinter | JsonPrinter | JsonLinesPrinter


def make_printer(output: Output, *, show_thinking: bool = False) -> Printer:
    """The printer for a form of output; JSON has the thought in a field of its own in any case."""
    if output == "json":
        return JsonPrinter()
    return JsonLinesPrinter() if output == "jsonl" else TextPrinter(show_thinking=show_thinking)


def describe_reply(reply: Reply, prompt: str, info: ModelInfo) -> dict[str, Any]:
    """A reply as the object that `--json` prints."""
    return {
        "text": reply.text,
        "thinking": reply.thought.text,
        "prompt": prompt,
        "model": info.name,
        "finish_reason": reply.finish_reason,
        "finish_detail": reply.finish_detail,
        "seed": reply.seed,
        # With the seed that was used, these settings make the same reply again.
        "settings": {**reply.config.to_mapping(), "seed": reply.seed},
        "token_ids": list(reply.token_ids),
        "usage": {
            "prompt_tokens": reply.prompt_tokens,
            "generated_tokens": len(reply.token_ids),
            "thinking_tokens": reply.thought.tokens,
            "cached_tokens": reply.cached_tokens,
            "dropped_tokens": reply.dropped_tokens,
            "unknown_tokens": reply.unknown_tokens,
            "byte_tokens": reply.byte_tokens,
            "drafted_tokens": reply.drafted_tokens,
            "accepted_tokens": reply.accepted_tokens,
        },
        "timings": {**asdict(reply.timings), "thinking_seconds": reply.thought.seconds},
    }


def print_prompt(prompt: PromptTokens, info: ModelInfo, *, as_json: bool) -> None:
    """Print a prompt as a model is given it: its text, a line of ---, its ids; or all as one JSON object."""
    text, ids = "".join(part.text for part in prompt.parts), [token.token_id for token in prompt.tokens]
    if as_json:
        write_json(
            {
                "prompt": text,
                "model": info.name,
                "raw": prompt.raw,
                "parse_special": info.parse_special,
                "token_ids": ids,
                "tokens": [token.text for token in prompt.tokens],
                "control": [token.is_control for token in prompt.tokens],
                "said_names": list(prompt.said_names),
                "dropped_turns": len(prompt.dropped_turns),
                "dropped_tokens": prompt.dropped_tokens,
            }
        )
        return
    write_out(f"{text}\n{SEPARATOR}{' '.join(map(str, ids))}\n")


class Narrator:
    """What is said on standard error: what was left out, and to a terminal, or if it was asked for, more."""

    def __init__(self, *, quiet: bool) -> None:
        """A narrator who has said nothing yet.

        Args:
            quiet: Say nothing but what was asked for.
        """
        self._speaks = sys.stderr.isatty() and not quiet
        self._warns = not quiet
        self._line = ""

    def progress(self, stage: str, fraction: float | None) -> None:
        """Show a step on one line that is written over."""
        if not self._speaks:
            return
        share = "" if fraction is None else f" {fraction:4.0%}"
        line = visible(f"{stage}{share}")[: shutil.get_terminal_size().columns - 1]
        if line != self._line:
            steer(sys.stderr, "\r")
            sys.stderr.write(line.ljust(len(self._line)))
            sys.stderr.flush()
            self._line = line

    def clear(self) -> None:
        """Wipe the progress line."""
        if self._line:
            steer(sys.stderr, f"\r{' ' * len(self._line)}\r")
            sys.stderr.flush()
            self._line = ""

    def say(self, text: str) -> None:
        """One line for a person at a terminal."""
        if self._speaks and text:
            self.clear()
            print(f"llmchat: {visible(text)}", file=sys.stderr)

    def warn(self, text: str) -> None:
        """One line on something that was left out, also where no terminal is."""
        if self._warns:
            self.clear()
            print(f"llmchat: {visible(text)}", file=sys.stderr)

    def complain(self, text: str) -> None:
        """One line on what has failed, though others go on; always printed."""
        self.clear()
        print(f"llmchat: error: {visible(text)}", file=sys.stderr)

    def add_to_prompt(self, prompt: PromptTokens) -> None:
        """Say what the prompt's text alone does not show; it was asked for, so always printed."""
        if prompt.said_words:
            print(f"llmchat: {visible(prompt.said_words)}", file=sys.stderr)

    def warn_dropped(self, prompt: PromptProcessed | PromptTokens) -> None:
        """Say that part of the prompt did not fit."""
        if prompt.dropped_turns:
            self.warn(f"the {len(prompt.dropped_turns)} oldest turns do not fit into the context and were left out.")
        elif prompt.dropped_tokens:
            count = prompt.prompt_tokens if isinstance(prompt, PromptProcessed) else len(prompt.tokens)
            self.warn(
                f"the prompt has {count} tokens; the model sees the last {count - prompt.dropped_tokens} of them."
            )

    def statistics(self, reply: Reply, info: ModelInfo) -> None:
        """The figures of a reply, a line each; they were asked for, so always printed."""
        times = reply.timings
        dropped = f", {reply.dropped_tokens} dropped" if reply.dropped_tokens else ""
        lacking = f", {reply.unknown_tokens} unknown" if reply.unknown_tokens else ""
        lacking += f", {reply.byte_tokens} of them parts of characters" if reply.byte_tokens else ""
        read = f"{token_count(reply.prompt_tokens)}, {reply.cached_tokens} from the cache{dropped}"
        rows = {
            "model": reply.model,
            "runs on": f"{info.path_words}{f', because {info.path_reason}' if info.path_reason else ''}",
            "finish": f"{reply.finish_reason} ({reply.finish_detail})",
            "seed": str(reply.seed),
            "prompt": with_speed(read, times.prompt_tokens_per_second, "tokens/s", ", "),
            "reply": with_speed(
                f"{token_count(len(reply.token_ids))}{lacking}", times.tokens_per_second, "tokens/s", ", "
            ),
            **({"thought": thought_words(reply.thought)} if reply.thought.written else {}),
            **({"guessed": words} if (words := draft_words(reply)) else {}),
            "first token": f"{times.time_to_first_token_seconds:.3f} s",
            "load": f"{times.load_seconds:.3f} s",
        }
        self.clear()
        for name, value in rows.items():
            print(f"{name + ':':<13}{visible(value)}", file=sys.stderr)


def write_json(value: dict[str, Any]) -> None:
    """Print an object on a line."""
    # Where the output cannot hold every character, JSON's own escapes can.
    is_unicode = sys.stdout.encoding.lower().replace("-", "") == "utf8"
    print_json(json.dumps(value, ensure_ascii=not is_unicode))


def write_out(text: str) -> None:
    """Print a text at once."""
    sys.stdout.write(text)
    sys.stdout.flush()
