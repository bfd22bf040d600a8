"""The command line: reads it, chooses a front end, maps errors to exit codes. No logic.

Nothing heavy is imported before it is needed: `llmchat --help` loads neither
torch nor textual.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource

from llmchat import __version__
from llmchat.chat.plain_text import visible
from llmchat.cli_options import (
    MODEL_OPTIONS,
    OPTIONS,
    answers_once,
    check_combination,
    join_settings,
    question_of,
    start_options,
    with_question,
)
from llmchat.errors import LlmchatError, UsageError

if TYPE_CHECKING:
    from llmchat.chat.generation_config import GenerationConfig
    from llmchat.once_many import ManyOptions
    from llmchat.once_trials import TrialOptions
    from llmchat.options import StartOptions

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_CLOSED_PIPE = 141

_MACHINE = os.uname().machine if hasattr(os, "uname") else ""
_YOUNG_OBJECTS = 20_000
"""So many new objects are made between two looks for garbage."""

_FILE = click.Path(path_type=Path)


class _Group(click.Group):
    """Subcommands, and questions in their place."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The subcommand; for what is none, the one that asks."""
        if ctx.resilient_parsing or args[0] in self.commands:
            return super().resolve_command(ctx, args)
        if not {*args}.isdisjoint(ctx.help_option_names):
            question_of(args[:1], self.commands)
        return "QUESTION", ask, args


@click.group(
    cls=_Group,
    params=[*OPTIONS],
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.pass_context
def cli(context: click.Context, /, **options: Any) -> None:
    """Chat with a language model that runs in this program, and move its sampling sliders as it writes.

    Without a model, a small one is fetched on the first start; --model tiny needs no network.
    A question in quotes is answered on standard output: llmchat "Why is the sea salty?"
    """
    context.obj = options
    if context.invoked_subcommand is None:
        _begin(context, options)


@click.command(params=[*OPTIONS, click.Argument(["words"], nargs=-1)])
@click.pass_context
def ask(context: click.Context, /, words: tuple[str, ...], **options: Any) -> None:
    """Answer a question; options may stand before it and after it."""
    after = {
        name: context.obj[name] + value if isinstance(value, tuple) else value
        for name, value in options.items()
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    given = {**context.obj, **after}
    asked_by = next((flag for flag in ("interactive", "plain") if given[flag]), "once")
    _begin(context, with_question(given, question_of(words, cli.commands, asked_by=f"--{asked_by}")))


def _begin(context: click.Context, options: dict[str, Any]) -> None:
    """Do what the options ask for."""
    check_combination(options)
    if options["version"]:
        _show_version(in_full=options["verbose"])
    elif options["paths"]:
        _show_paths()
    elif answers_once(options):
        context.exit(_run_once(options))
    else:
        context.exit(_run_conversation(options))


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--clean", is_flag=True, help="Remove the repacked weights and KV caches that are kept to begin sooner.")
def models(as_json: bool, clean: bool) -> None:
    """List what goes by a name: on this machine, in stores of other programs too, and worth fetching."""
    from llmchat.commands_models import clean_caches, list_models

    if clean:
        clean_caches()
    else:
        list_models(as_json=as_json)


@cli.command()
@click.argument("name", default="smollm2")
def pull(name: str) -> None:
    """Fetch a model by its name, OWNER/NAME of the hub or an address, so that it is there when it is needed.

    One that is here is verified, or brought up to what the hub has.
    """
    from llmchat.commands import pull_model

    pull_model(name)


@cli.command(params=[*MODEL_OPTIONS])
@click.argument("file", type=_FILE)
@click.option("--turn", "turn_id", metavar="ID", help="Only this reply; its text is printed too.")
@click.pass_context
def replay(context: click.Context, /, file: Path, turn_id: str | None, **options: Any) -> None:
    """Make every reply of a transcript again and report the first token that differs.

    Each is made by the model that made it then, unless another is given.
    """
    from llmchat.commands import replay_transcript
    from llmchat.streams import libraries_in_log

    given = {name: value for name, value in options.items() if value is not None}
    settings = join_settings({**context.obj, **given, "continue_last": False, "resume": str(file)})
    with libraries_in_log():
        any_model = bool(given.get("model") or context.obj["model"])
        asked = {name for name, value in {**context.obj, **given}.items() if value is not None}
        context.exit(replay_transcript(file, settings, any_model=any_model, turn_id=turn_id, asked=asked))


@cli.command()
@click.argument("file", type=_FILE)
@click.option("--format", "kind", type=click.Choice(["markdown", "text", "json"]), default="markdown")
def export(file: Path, kind: str) -> None:
    """Print a transcript as Markdown, text or JSON."""
    from llmchat.commands import export_transcript

    export_transcript(file, kind)


@cli.command(params=[*MODEL_OPTIONS])
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--repeats", type=click.IntRange(1, 1000), default=5, show_default=True, help="How often each thing is measured."
)
@click.pass_context
def bench(context: click.Context, /, as_json: bool, repeats: int, **options: Any) -> None:
    """Measure how fast a model runs on this machine, and how near that is to what its memory allows."""
    from llmchat.commands import bench_model
    from llmchat.streams import libraries_in_log

    given = {name: value for name, value in options.items() if value is not None}
    settings = join_settings({**context.obj, **given, "continue_last": False, "resume": None, "save": None})
    with libraries_in_log():
        bench_model(settings, repeats=repeats, as_json=as_json)


def _run_once(options: dict[str, Any]) -> int:
    from llmchat.once import OnceOptions, run
    from llmchat.streams import libraries_in_log, require_terminal

    start = start_options(options)
    many = _many(options, start)
    if start.prompt is None and not options["once"]:
        require_terminal()
    if start.prompt is None and many is None:
        raise UsageError("--once needs a prompt: --prompt TEXT, --prompt-file FILE, or text on standard input.")
    if many is None and not (start.prompt or "").strip():
        raise UsageError("The prompt is empty. Give some text to answer.")
    if start.resume is not None and options["system"] is not None:
        raise UsageError("--system begins a conversation, and the one to go on with has begun. Leave one of them out.")
    once = OnceOptions(
        start=start,
        output="json" if options["as_json"] else "jsonl" if options["as_jsonl"] else "text",
        show_thinking=options["show_thinking"],
        stats=options["stats"],
        quiet=options["quiet"],
        num_samples=options["num_samples"] or 1,
        keep=not (options["no_save"] or options["dry_run"]),
        trials=_trials(options, start.config),
        many=many,
        dry_run=options["dry_run"],
    )
    with libraries_in_log():
        return run(once)


def _trials(options: dict[str, Any], config: GenerationConfig) -> TrialOptions | None:
    if not (options["compare"] or options["sweep"] or options["table"]):
        return None
    from llmchat.once_trials import trial_options

    return trial_options(options, config)


def _many(options: dict[str, Any], start: StartOptions) -> ManyOptions | None:
    if not options["jsonl_in"]:
        return None
    from llmchat.once_many import many_options

    return many_options(options, start)


def _run_conversation(options: dict[str, Any]) -> int:
    start = start_options(options)
    if options["plain"] or (os.environ.get("TERM") == "dumb" and not start.setup):
        from llmchat.plain import run_plain

        run_plain(start)
        return 0
    from llmchat.streams import require_terminal

    require_terminal()
    from llmchat.ui.launch import run_window

    return run_window(start)


def _show_version(*, in_full: bool) -> None:
    if not in_full:
        print(f"llmchat {__version__}")
        return
    from llmchat.about import about

    print(*about(), sep="\n")


def _show_paths() -> None:
    from llmchat import paths

    places = {
        "settings": paths.settings_path(),
        "themes": paths.themes_dir(),
        "models": paths.models_dir(),
        "transcripts": paths.transcripts_dir(),
        "history": paths.history_path(),
        "log": paths.log_path(),
        "caches": paths.cache_dir(),
    }
    for name, path in places.items():
        print(f"{name + ':':<13}{path}")


def run(arguments: Sequence[str]) -> int:
    """Carry out a command line.

    Returns:
        The exit code; where it is an error's, one line about it is on standard error.
    """
    try:
        exit_code = _invoke(list(arguments))
        sys.stdout.flush()
    except LlmchatError as error:
        return _fail(error.message, error.exit_code)
    except click.ClickException as error:
        return _fail(error.format_message(), EXIT_USAGE)
    except (KeyboardInterrupt, click.Abort):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return EXIT_CLOSED_PIPE
    except OSError as error:
        from llmchat.files import describe

        return _fail(f"Reading or writing failed: {describe(error)}.", LlmchatError.exit_code)
    return exit_code


def _invoke(arguments: list[str]) -> int:
    # click's own `main` prints at an interrupt and hides a closed pipe.
    if instruction := os.environ.get("_LLMCHAT_COMPLETE"):
        from click.shell_completion import shell_complete

        return shell_complete(cli, {}, "llmchat", "_LLMCHAT_COMPLETE", instruction)
    try:
        with cli.make_context("llmchat", arguments) as context:
            cli.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    return 0


def _fail(message: str, code: int) -> int:
    """Say in one line on standard error what is wrong."""
    with contextlib.suppress(OSError):  # Nobody may be listening.
        print(f"llmchat: error: {' '.join(visible(message).split())}", file=sys.stderr, flush=True)
    return code


def main() -> NoReturn:
    """The program: carry out its command line and end."""
    from llmchat.streams import finish_output, prepare_streams

    prepare_streams()
    # Starting makes hundreds of thousands of objects and hardly any garbage: looking for some takes a while.
    gc.set_threshold(_YOUNG_OBJECTS)
    if _MACHINE == "x86_64":
        # numpy's BLAS, which nothing here uses, would start a thread for every core and have it spin. Where torch
        # comes with the same BLAS, on other machines, it needs them.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    exit_code = run(sys.argv[1:])
    finish_output()
    if threading.active_count() > 1:
        # A model that is still being read would hold up the end, or crash in the middle of it.
        os._exit(exit_code)
    sys.exit(exit_code)
