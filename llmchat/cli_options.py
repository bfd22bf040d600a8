"""The options of the command line, and what a start makes of them."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click import Option

from llmchat.chat.generation_config import SAMPLING_SPECS, SPEC_BY_NAME, ParameterSpec, parse_setting
from llmchat.chat.model import split_lora
from llmchat.chat.plain_text import checked_text
from llmchat.chat.presets import PRESETS, REPLACED_BY_PRESETS
from llmchat.chat.template_args import canonical_argument, with_arguments
from llmchat.errors import UsageError

if TYPE_CHECKING:
    from llmchat.options import StartOptions
    from llmchat.settings import Settings


def _sampling_option(spec: ParameterSpec) -> Option:
    """The flag for a row of SAMPLING_SPECS. Its value stays text: `parse_setting` knows what is accepted."""
    names = [f"--{name.replace('_', '-')}" for name in (spec.name, *spec.aliases)]
    if spec.name == "max_new_tokens":
        names.insert(0, "-n")
    kind = "INTEGER" if spec.is_integer else "NUMBER"
    return Option([*names, spec.name], metavar=kind, help=f"{spec.help} {spec.range_text}; default {spec.default:g}.")


def _only_one(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> str | None:
    """The value of an option that people may believe to take several."""
    if len(given) > 1:
        raise UsageError(f"{option.opts[0]} takes one adapter: merge several into one with PEFT.")
    return given[0] if given else None


MODEL_OPTIONS: tuple[Option, ...] = (
    Option(
        ["-m", "--model"],
        metavar="PATH|NAME",
        help="A file, a directory, a name (llmchat models), OWNER/NAME of the hub, or an https address.",
    ),
    Option(
        ["--lora"],
        multiple=True,
        callback=_only_one,
        metavar="PATH[:SCALE]",
        help="A LoRA adapter of the model: a PEFT directory or a GGUF file, and how much of it is added.",
    ),
    Option(["--tokenizer"], metavar="PATH", help="Tokenizer file or directory; found beside the model by default."),
    Option(["--chat-template"], metavar="NAME|FILE", help="chatml, llama2, llama3, plain, or a Jinja file."),
    Option(["--device"], metavar="NAME", help="auto, cpu, cuda, cuda:NUMBER or mps."),
    Option(["--dtype"], metavar="NAME", help="auto, float32, bfloat16 or float16."),
    Option(["--engine"], metavar="NAME", help="auto, native, torch, transformers or llama-cpp."),
    Option(["--threads"], type=int, metavar="INTEGER", help="CPU threads for the model."),
    Option(
        ["--ignore-memory/--no-ignore-memory"],
        default=None,
        help="Open a model also where it seems to need more memory than is free.",
    ),
    Option(["--heads"], type=int, metavar="INTEGER", help="Attention heads, for a checkpoint that does not say."),
    Option(
        ["--parse-special/--no-parse-special"],
        default=None,
        help="Read the names of control tokens in what is said, such as <|im_end|>, as the tokens.",
    ),
)

OPTIONS: tuple[Option, ...] = (
    *MODEL_OPTIONS,
    Option(
        ["-p", "--prompt"],
        metavar="TEXT",
        help="The prompt, without its last line feed. What is piped in stands before it, or where it says {stdin}; "
        "- is standard input alone.",
    ),
    Option(["--prompt-file"], metavar="FILE", help="Read the prompt from a file; - is standard input."),
    Option(
        ["--jsonl-in"],
        is_flag=True,
        help="With --once and --prompt-file: many prompts, a line each: a JSON string, a list of messages, or an "
        "object with prompt or messages and any of system, prefill, raw, id and settings. Replies are JSON lines.",
    ),
    Option(
        ["--output"],
        metavar="FILE",
        help="With --jsonl-in: append the replies to this file; prompts whose replies it has are not answered again.",
    ),
    Option(["--no-stdin"], is_flag=True, help="Leave standard input alone, as within a loop that reads from it."),
    Option(["-s", "--system"], metavar="TEXT", help="The system prompt."),
    Option(
        ["--template-arg", "template_args"],
        multiple=True,
        metavar="NAME=VALUE",
        help="A variable of the chat template, such as enable_thinking=false; can be repeated.",
    ),
    Option(["--prefill"], metavar="TEXT", help="Text that the reply begins with."),
    Option(["--raw/--no-raw"], default=None, help="Continue the prompt's text, without a chat template."),
    Option(["--stop"], multiple=True, metavar="TEXT", help="End the reply at this text; can be repeated."),
    *map(_sampling_option, SAMPLING_SPECS),
    Option(["--sampler-order"], metavar="STAGES", help="The stages of the sampling chain in another order."),
    Option(["--temperature-last"], is_flag=True, help="Temperature after every filter, as llama.cpp has it."),
    Option(
        ["--xtc-spares-ends"], metavar="on|off", help="Whether XTC does nothing where a line or the reply would end."
    ),
    Option(["--banned-tokens"], metavar="IDS", help="Token ids that are never drawn, with spaces between."),
    Option(["--dry-breakers"], metavar="TEXTS", help="Where a repetition ends for DRY, with spaces between."),
    Option(
        ["--prompt-lookup/--no-prompt-lookup"],
        default=None,
        help="Guess what follows from the text so far, where that is quicker, as by default. The tokens are the same.",
    ),
    Option(["--greedy"], is_flag=True, help="Always take the likeliest token."),
    Option(["--seed"], metavar="INTEGER", help="The dice; the same seed gives the same reply."),
    Option(["--preset"], metavar="NAME", help=f"{', '.join(PRESETS)}."),
    Option(["--once"], is_flag=True, help="Print one reply and end, without the window."),
    Option(["--json", "as_json"], is_flag=True, help="With --once: print one JSON object."),
    Option(["--jsonl", "as_jsonl"], is_flag=True, help="With --once: print a JSON object on a line for each step."),
    Option(
        ["--show-thinking"], is_flag=True, help="With --once: print what the model thinks before its answer as well."
    ),
    Option(["--stats"], is_flag=True, help="With --once: print speed and counts on standard error."),
    Option(
        ["--num-samples"],
        type=click.IntRange(1, 10_000),
        metavar="INTEGER",
        help="With --once: how many replies; the seeds count up, and lines of --- stand between.",
    ),
    Option(
        ["--compare"],
        multiple=True,
        metavar="K=V[,K=V]|PRESET",
        help="With --once: one of two to four settings to answer under with the same dice; repeat it for each.",
    ),
    Option(
        ["--sweep"],
        metavar="K:A..B[:N]",
        help="With --once: answer over the values of one setting, as in temperature:0.2..1.4:6 or top_k:20,50.",
    ),
    Option(["--table"], metavar="FILE", help="With --compare or --sweep: write the figures to a .toml or .csv file."),
    Option(
        ["--dry-run"],
        is_flag=True,
        help="With --once: print the prompt as the model is given it, with its token ids, and make no reply.",
    ),
    Option(["-q", "--quiet"], is_flag=True, help="No progress and no warnings."),
    Option(["-c", "--continue", "continue_last"], is_flag=True, help="Go on with the last conversation."),
    Option(["--resume"], metavar="FILE", help="Go on with the conversation in a file."),
    Option(["--save"], metavar="FILE", help="Keep the conversation in this file, or go on with the one in it."),
    Option(
        ["--no-save"], is_flag=True, help="Keep no file of the conversation; what is sent stays under the up arrow."
    ),
    Option(
        ["--kv-cache/--no-kv-cache"],
        default=None,
        help="Keep what the model has read of a conversation in the cache directory, as by default.",
    ),
    Option(["--setup"], is_flag=True, help="Choose model, device, preset and theme, step by step."),
    Option(["--interactive"], is_flag=True, help="Open the window; this is the default."),
    Option(["--theme"], metavar="NAME", help="The window's colours."),
    Option(["--plain"], is_flag=True, help="A conversation line by line, for screen readers and simple terminals."),
    Option(["--config", "config_path"], metavar="FILE", help="Another settings file."),
    Option(["--paths"], is_flag=True, help="Show where llmchat keeps things."),
    Option(["-V", "--version"], is_flag=True, help="Show the version; with -v, also what models run on here, and why."),
    Option(["-v", "--verbose"], is_flag=True, help="With --version: say more."),
)

_NOT_WITH_MANY = (
    *("prompt", "as_jsonl", "show_thinking", "stats", "num_samples", "compare", "sweep", "dry_run"),
    *("continue_last", "resume", "save"),
)

_CONFLICTS = (
    ("prompt", "prompt_file"),
    ("plain", "no_stdin"),
    ("as_json", "as_jsonl"),
    ("once", "interactive"),
    ("once", "plain"),
    ("once", "setup"),
    ("plain", "setup"),
    ("continue_last", "resume"),
    ("save", "no_save"),
    ("compare", "sweep"),
    *(("dry_run", other) for other in ("as_jsonl", "num_samples", "stats", "save", "compare", "sweep")),
    *(("jsonl_in", other) for other in _NOT_WITH_MANY),
    *((trial, other) for trial in ("compare", "sweep") for other in ("as_jsonl", "num_samples", "save")),
)
"""Options that cannot be given together."""

_ONCE_ONLY = ("as_json", "as_jsonl", "show_thinking", "stats", "num_samples", "compare", "sweep", "dry_run", "jsonl_in")
"""Options that go with --once alone."""


def question_of(words: Sequence[str], commands: Iterable[str], *, asked_by: str = "--once") -> str:
    """The question that stands on the command line where a subcommand could.

    Args:
        words: What stands there.
        commands: The names of the subcommands, none of which is the first word.
        asked_by: The flag that is there and says how it is answered.

    Raises:
        UsageError: It looks like a mistyped subcommand, a file, or a question without quotes.
    """
    first = words[0]
    if first and os.path.exists(os.path.expanduser(first)):
        raise UsageError(
            f"{first!r} is a file or directory. A model is given with --model, a conversation with --resume, "
            "a prompt with --prompt-file."
        )
    if len(words) == 1 and (first == "-" or not _COMMAND_LIKE.fullmatch(first)):
        return first
    if near := difflib.get_close_matches(first, commands, 1):
        raise UsageError(f"No such command {first!r}. Did you mean {near[0]!r}?")
    if len(words) > 1:
        raise UsageError(f"No such command {first!r}. A question stands in quotes: llmchat 'Why is the sea salty?'")
    raise UsageError(f"No such command {first!r}. To ask that: llmchat {asked_by} --prompt {first}")


_COMMAND_LIKE = re.compile(r"[\w.~/\\:-]+", re.ASCII)


def with_question(options: Mapping[str, Any], question: str) -> dict[str, Any]:
    """The options of a command line with a question: it is the prompt, and answered as by --once.

    Raises:
        UsageError: There is a prompt already.
    """
    if options["prompt"] is not None or options["prompt_file"] is not None:
        raise UsageError("Give the question or --prompt, not both.")
    talks = options["interactive"] or options["plain"] or options["setup"]
    return {**options, "prompt": question, "once": options["once"] or not talks}


def answers_once(options: Mapping[str, Any]) -> bool:
    """Whether one reply is to be printed: that was asked for, or there is a prompt and no terminal for a window."""
    if options["once"] or options["interactive"] or options["plain"] or options["setup"]:
        return bool(options["once"])
    if options["prompt"] is None and options["prompt_file"] is None:
        return _is_piped() and not options["no_stdin"]
    return not (sys.stdin.isatty() and sys.stdout.isatty())


def _is_piped() -> bool:
    from llmchat.prompt_source import is_piped

    return is_piped()


def check_combination(options: dict[str, Any]) -> None:
    """Refuse options that contradict each other or would do nothing.

    Raises:
        UsageError: Two of them do not go together; it names both.
    """
    flags = {option.name: next(name for name in option.opts if name.startswith("--")) for option in OPTIONS}
    given = {name for name, value in options.items() if value not in (None, False, ())}
    for one, other in _CONFLICTS:
        if {one, other} <= given:
            raise UsageError(f"Give {flags[one]} or {flags[other]}, not both.")
    for name in _ONCE_ONLY:
        if name in given and "once" not in given and not (answers_once(options) and _is_piped()):
            raise UsageError(f"{flags[name]} goes with --once.")
    if "no_stdin" in given and "-" in (options["prompt"], options["prompt_file"]):
        raise UsageError("Give --no-stdin or -, not both.")
    if "verbose" in given and "version" not in given:
        raise UsageError("--verbose goes with --version.")
    if "jsonl_in" in given and "prompt_file" not in given:
        raise UsageError("--jsonl-in needs the file of prompts: --prompt-file FILE, or - for standard input.")
    if "output" in given and "jsonl_in" not in given:
        raise UsageError("--output goes with --jsonl-in.")
    if "table" in given and not given & {"compare", "sweep"}:
        raise UsageError("--table goes with --compare or --sweep.")


def join_settings(options: dict[str, Any], *, at_end: bool = False) -> Settings:
    """Settings file and flags, joined. Without --model, a conversation that is gone on with brings its own.

    Args:
        options: The command line's options by name.
        at_end: Whether that is the model of its last reply, and not the one it began with.

    Raises:
        LlmchatError: The settings file, a flag, or the transcript to go on with is wrong.
    """
    from llmchat.options import with_recorded_model
    from llmchat.settings import load_settings

    settings = load_settings(to_path(options["config_path"]))
    transcript = _resumed(options) or to_path(options["save"])
    if transcript is not None and transcript.is_file() and options["model"] is None:
        from llmchat.chat.archive import read_head, read_transcript
        from llmchat.chat.at_end import last_reply

        reply = last_reply(read_transcript(transcript)[0]) if at_end else None
        settings = with_recorded_model(settings, reply or read_head(transcript))
    if options["model"] is not None:
        # Adapters belong to their models.
        settings = settings.merged(lora="")
    where = ("device", "dtype", "engine", "threads", "ignore_memory", "heads")
    names = (
        "model",
        "lora",
        "tokenizer",
        "chat_template",
        *where,
        "parse_special",
        "system",
        "raw",
        "theme",
        "kv_cache",
    )
    settings = settings.merged(**{name: options[name] for name in names})
    return settings.merged(autosave=False) if options["no_save"] else settings


def start_options(options: dict[str, Any]) -> StartOptions:
    """Everything that a start was asked to do.

    Raises:
        LlmchatError: A value, the settings file or the prompt is wrong.
    """
    from llmchat.options import StartOptions
    from llmchat.prompt_source import read_prompt
    from llmchat.settings import resolve_generation

    for name, source in (("system", "The system prompt"), ("prefill", "The prefill")):
        checked_text(options[name] or "", source)
    settings = join_settings(options, at_end=True)
    return StartOptions(
        settings=settings,
        generation=resolve_generation(settings, _sampling_values(options), options["preset"]),
        prompt=read_prompt(
            options["prompt"],
            None if options["jsonl_in"] else options["prompt_file"],
            piped=answers_once(options) and not (options["no_stdin"] or options["jsonl_in"]),
            quiet=options["quiet"],
        ),
        prefill_text=options["prefill"] or "",
        resume=_resumed(options),
        save=to_path(options["save"]),
        settings_path=to_path(options["config_path"]),
        given=_given(options),
        setup=options["setup"],
    )


def _given(options: dict[str, Any]) -> frozenset[str]:
    """The settings, and "system", "prefill" and "raw", that flags say."""
    names = {name for name in ("system", "prefill", "raw") if options[name] is not None}
    return frozenset({*names, *_sampling_values(options), *(REPLACED_BY_PRESETS if options["preset"] else ())})


def to_path(given: str | None) -> Path | None:
    """The path that was typed, "~" standing for the home directory.

    Raises:
        UsageError: It is no name, or of a user that there is not.
    """
    if given is None:
        return None
    from llmchat.paths import located

    return located(given)


def _sampling_values(options: dict[str, Any]) -> dict[str, Any]:
    """The sampling values that were given, checked."""
    typed = (
        *(spec.name for spec in SAMPLING_SPECS),
        "seed",
        "sampler_order",
        "banned_tokens",
        "dry_breakers",
        "xtc_spares_ends",
    )
    values = dict(parse_setting(name, options[name]) for name in typed if options[name] is not None)
    if options["lora"] and options["lora_scale"] is None and (scale := split_lora(options["lora"])[1]) is not None:
        values["lora_scale"] = SPEC_BY_NAME["lora_scale"].check(scale)
    if options["temperature_last"]:
        values["temperature_last"] = True
    if options["prompt_lookup"] is not None:
        values["prompt_lookup"] = options["prompt_lookup"]
    if options["stop"]:
        values["stop"] = tuple(checked_text(text, "The stop string") for text in options["stop"])
    if options["template_args"]:
        values["template_args"] = _template_args(options["template_args"])
    if options["greedy"]:
        values["do_sample"] = False
    return values


def _template_args(typed: Iterable[str]) -> tuple[str, ...]:
    """The template's variables that were given; of one that was given twice the last counts."""
    return with_arguments((), (canonical_argument(checked_text(text, "--template-arg")) for text in typed))


def _resumed(options: dict[str, Any]) -> Path | None:
    """The transcript to go on with."""
    if not options["continue_last"]:
        return to_path(options["resume"])
    from llmchat.chat.archive import latest_transcript

    latest = latest_transcript()
    if latest is None:
        raise UsageError("There is no conversation to continue yet.")
    return latest
