"""Slash commands of the line-by-line conversation: each acts on the session and answers in plain lines."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from llmchat.chat.generation_config import GenerationConfig, canonical_name, parse_setting
from llmchat.chat.history import turn_count
from llmchat.chat.model import recorded_tokenizer
from llmchat.chat.presets import apply_preset
from llmchat.chat.turn import Turn, token_count
from llmchat.chat.words import draft_words, thought_words, value_words, with_speed
from llmchat.errors import UsageError
from llmchat.files import describe, write_text
from llmchat.paths import located
from llmchat.session import ChatSession
from llmchat.session.restoring import LAST, last_model, other_model
from llmchat.session.thinking import think
from llmchat.settings import Settings
from llmchat.ui.commands import COMMAND_BY_NAME, COMMANDS, Command, CommandSpec

Args = tuple[str, ...]


class PlainCommands:
    """Carries commands out. What takes time, such as a reply, is only started."""

    def __init__(
        self,
        session: ChatSession,
        settings: Settings,
        say: Callable[[str], object],
        show_prompt: Callable[[str], object],
    ) -> None:
        """Commands for one conversation.

        Args:
            session: The conversation.
            settings: Where another model gets its device and threads from.
            say: Prints a line.
            show_prompt: Prints what the model is given, for a message or for the last reply.
        """
        self.is_over = False
        """Whether the person asked to leave."""
        self._session = session
        self._settings = settings
        self._say = say
        self._actions: Mapping[str, Callable[[Args], object]] = {
            "help": self._help,
            "set": self._set,
            "reset": self._reset,
            "preset": self._preset,
            "seed": self._seed,
            "model": self._model,
            "system": self._system,
            "raw": self._raw,
            "prefill": self._prefill,
            "think": lambda args: say(think(session, *args)),
            "prompt": lambda args: show_prompt(args[0] if args else ""),
            "new": self._new,
            "save": self._save,
            "load": lambda args: self.open(_path(args[0])),
            "export": self._export,
            "regen": lambda args: session.regenerate(times=int(args[0]) if args else 1),
            "continue": lambda args: session.continue_reply(),
            "undo": self._undo,
            "redo": self._redo,
            "compact": self._compact,
            "stats": self._stats,
            "exit": self._exit,
        }

    def carry_out(self, command: Command) -> None:
        """Do what a command says.

        Raises:
            LlmchatError: It cannot be done now, or needs the window.
        """
        if command.name not in self._actions:
            raise UsageError(f"/{command.name} works in the window only.")
        self._actions[command.name](command.args)

    def open(self, path: Path, given: Collection[str] = ()) -> None:
        """Go on with the conversation in a file, and repeat how it ended.

        Args:
            path: The file.
            given: What was asked for at the start and stays.

        Raises:
            TranscriptError: It cannot be read.
        """
        for notice in self._session.open(path, given):
            self._say(notice)
        if self._session.brought_back:
            self._say(self._session.brought_back)
        self.offer_model()
        turns = [turn for turn in self._session.transcript.path() if turn.role != "system"]
        self._say(f"Going on with {path.name}, {len(turns)} turns so far.")
        for turn in turns[-2:]:
            self._say(f"{self._speaker(turn)}: {turn.text}")

    def offer_model(self) -> None:
        """Say how to open the model of the last reply, if another one is open."""
        if words := other_model(self._session):
            self._say(words)

    def _speaker(self, turn: Turn) -> str:
        if turn.role == "user":
            return "You"
        return turn.reply.model if turn.reply is not None and turn.reply.model else "Model"

    # ── settings ──

    def _help(self, args: Args) -> None:
        specs = (COMMAND_BY_NAME[args[0]],) if args else COMMANDS
        for spec in specs:
            if spec.name in self._actions or args:
                self._say(_described(spec))
        if not args:
            self._say("A line that ends in a backslash goes on with the next. //text sends text with a slash.")

    def _set(self, args: Args) -> None:
        if len(args) == 2:
            name, value = parse_setting(*args)
            # Whoever asks for a temperature wants it to have an effect.
            sampling = {"do_sample": True} if name == "temperature" and not self._session.config.do_sample else {}
            self._change({name: value, **sampling})
            return
        for name in args or [item.name for item in fields(GenerationConfig)]:
            self._say(self._shown(name))

    def _reset(self, args: Args) -> None:
        defaults = GenerationConfig()
        names = args or [item.name for item in fields(GenerationConfig)]
        self._change({name: getattr(defaults, name) for name in map(canonical_name, names)})

    def _preset(self, args: Args) -> None:
        self._session.config = apply_preset(args[0], self._session.config)
        self._say(f"{args[0]}: {self._shown('temperature')}, {self._shown('do_sample')}.")

    def _seed(self, args: Args) -> None:
        last = self._session.last_seed
        if args[0] == "lock" and last is None:
            raise UsageError("There is no seed to lock yet. Give one: /seed 8417")
        self._change({"seed": {"roll": None, "lock": last}[args[0]] if args[0] in ("roll", "lock") else int(args[0])})

    def _change(self, values: Mapping[str, Any]) -> None:
        """Change settings and tell what they are then."""
        self._session.config = self._session.config.changed(**values)
        self._say(", ".join(map(self._shown, values)) + ".")

    def _shown(self, name: str) -> str:
        """A setting and its value in words."""
        return f"{name} {value_words(name, getattr(self._session.config, name))}"

    # ── the prompt ──

    def _model(self, args: Args) -> None:
        if args:
            model, tokenizer, lora = last_model(self._session) if args[0] == LAST else (args[0], "", "")
            tokenizer_given = recorded_tokenizer(model, tokenizer)
            settings = replace(self._settings, model=model, tokenizer=tokenizer_given, heads=None, lora="")
            self._session.load_model(replace(settings.model_spec(), lora=lora))
        elif (info := self._session.model) is None:
            self._say("No model is open.")
        else:
            self._say(f"{info.name}, {info.weight_format}, on {info.device}: {info.path}")

    def _system(self, args: Args) -> None:
        text = self._session.system = args[0] if args else ""
        self._say(f"The system prompt is now: {text}" if text else "There is no system prompt now.")

    def _raw(self, args: Args) -> None:
        self._session.raw = args[0] == "on"
        if args[0] == "off" and self._session.is_raw:
            self._say("This model has no chat template: prompts go in as they stand.")
        else:
            self._say("Prompts go in as they stand." if self._session.is_raw else "Prompts go in as chat.")

    def _prefill(self, args: Args) -> None:
        text = self._session.prefill_text = args[0] if args else ""
        self._say(f"Every reply begins with: {text}" if text else "Replies begin by themselves.")

    # ── the conversation ──

    def _new(self, args: Args) -> None:
        self._session.new()
        self._say("A new conversation.")

    def _save(self, args: Args) -> None:
        self._say(f"Saved: {self._session.save(_path(args[0]) if args else None)}")

    def _export(self, args: Args) -> None:
        from llmchat.chat import export

        path = _path(args[0])
        text = export.for_file(self._session.transcript, path)
        try:
            write_text(path, text)
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {describe(error)}.") from error
        self._say(f"Written: {path}")

    def _undo(self, args: Args) -> None:
        step = self._session.undo()
        if step.is_deletion:
            self._say(f"Brought back: {turn_count(len(step.turns))}.")
        else:
            self._say(f"Taken back: {step.message or step.turns[-1].text}")

    def _redo(self, args: Args) -> None:
        step = self._session.redo()
        if step.is_deletion:
            self._say(f"Deleted again: {turn_count(len(step.turns))}.")
        for turn in () if step.is_deletion else step.turns:
            self._say(f"{self._speaker(turn)}: {turn.text}")

    def _compact(self, args: Args) -> None:
        count = turn_count(len(self._session.transcript.deleted))
        if args:
            self._session.compact()
            self._say(f"Dropped for good: {count}.")
        else:
            self._say(f"Deleted and still kept: {count}. /compact yes drops them for good.")

    def _stats(self, args: Args) -> None:
        turn = next((turn for turn in reversed(self._session.transcript.path()) if turn.reply is not None), None)
        if turn is None or turn.reply is None:
            raise UsageError("There is no reply yet.")
        reply, times = turn.reply, turn.reply.timings
        self._say(f"Model: {reply.model}, opened in {times.load_seconds:.1f} s")
        if (info := self._session.model) is not None:
            self._say(f"Runs on: {info.path_words}{f', because {info.path_reason}' if info.path_reason else ''}")
        self._say(f"Prompt: {token_count(reply.prompt_tokens)}, {reply.cached_tokens} of them from the cache")
        self._say(with_speed(f"Reply: {token_count(len(reply.token_ids))}", times.tokens_per_second, "a second", ", "))
        if reply.thought.written:
            self._say(f"Thought before the answer: {thought_words(reply.thought)}")
        if words := draft_words(reply):
            self._say(f"Guessed from the text so far: {words}")
        self._say(f"First token after {times.time_to_first_token_seconds:.2f} s")
        self._say(f"Seed: {reply.seed}")
        self._say(
            f"Ended: {reply.finish_detail}"
            if reply.finish_reason == "cancelled"
            else f"Ended by: {reply.finish_detail}"
        )

    def _exit(self, args: Args) -> None:
        self.is_over = True


def _described(spec: CommandSpec) -> str:
    also = f" Also {', '.join('/' + alias for alias in spec.aliases)}." if spec.aliases else ""
    return f"{spec.usage}: {spec.help}{also}"


def _path(text: str) -> Path:
    return located(text)
