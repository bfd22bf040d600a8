"""The command line: reads it, chooses a front end, maps errors to exit codes. No logic.

Nothing heavy is imported before it is needed: `llmchat --help` loads neither
torch nor textual.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from llmchat import __version__
from llmchat.chat.generation_config import PRESETS, SAMPLING_SPECS, parse_setting
from llmchat.errors import LlmchatError, UsageError

if TYPE_CHECKING:
    from llmchat.chat.storage import TranscriptFile
    from llmchat.options import StartOptions

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

F = TypeVar("F", bound=Callable[..., Any])


def _sampling_options(function: F) -> F:
    """One flag for each row of SAMPLING_SPECS."""
    for spec in reversed(SAMPLING_SPECS):
        names = [f"--{name.replace('_', '-')}" for name in (spec.name, *spec.aliases)]
        if spec.name == "max_new_tokens":
            names.insert(0, "-n")
        kind = "INTEGER" if spec.is_integer else "NUMBER"
        text = f"{spec.help} {spec.range_text}; default {spec.default:g}."
        function = click.option(*names, spec.name, metavar=kind, help=text)(function)
    return function


@click.group(
    invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option("-m", "--model", metavar="PATH|NAME", help="A .pt or .gguf file, a Hugging Face directory, or a name.")
@click.option("--tokenizer", metavar="PATH", help="Tokenizer file or directory; found beside the model by default.")
@click.option("--chat-template", metavar="NAME|FILE", help="chatml, llama2, llama3, plain, or a Jinja file.")
@click.option("--device", help="auto, cpu, cuda or mps.")
@click.option("--dtype", help="auto, float32, bfloat16 or float16.")
@click.option("--threads", type=int, help="CPU threads for the model.")
@click.option("--heads", type=int, help="Attention heads, for a checkpoint that does not say.")
@click.option("-p", "--prompt", metavar="TEXT", help="The prompt; - reads standard input.")
@click.option("--prompt-file", metavar="FILE", help="Read the prompt from a file; - is standard input.")
@click.option("-s", "--system", metavar="TEXT", help="The system prompt.")
@click.option("--prefill", metavar="TEXT", help="Text that the reply begins with.")
@click.option("--raw/--no-raw", default=None, help="Continue the prompt's text, without a chat template.")
@click.option("--stop", multiple=True, metavar="TEXT", help="End the reply at this text; can be repeated.")
@_sampling_options
@click.option("--greedy", is_flag=True, help="Always take the likeliest token.")
@click.option("--seed", metavar="INTEGER", help="The dice; the same seed gives the same reply.")
@click.option("--preset", metavar="NAME", help=f"{', '.join(PRESETS)}.")
@click.option("--once", is_flag=True, help="Print one reply and end, without the window.")
@click.option("--json", "as_json", is_flag=True, help="With --once: print one JSON object.")
@click.option("--jsonl", "as_jsonl", is_flag=True, help="With --once: print a JSON object for each step.")
@click.option("--stats", is_flag=True, help="With --once: print speed and counts on standard error.")
@click.option("--num-samples", type=click.IntRange(1, 10_000), default=1, help="With --once: how many replies.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no warnings.")
@click.option("-c", "--continue", "continue_last", is_flag=True, help="Go on with the last conversation.")
@click.option("--resume", metavar="FILE", help="Go on with the conversation in a file.")
@click.option("--save", metavar="FILE", help="Keep the conversation in this file.")
@click.option("--no-save", is_flag=True, help="Do not keep the conversation.")
@click.option("--setup", is_flag=True, help="Choose model, device, preset and theme, step by step.")
@click.option("--interactive", is_flag=True, help="Open the window; this is the default.")
@click.option("--theme", metavar="NAME", help="The window's colours.")
@click.option("--plain", is_flag=True, help="A conversation line by line, for screen readers and simple terminals.")
@click.option("--config", "config_path", metavar="FILE", help="Another settings file.")
@click.option("--paths", is_flag=True, help="Show where llmchat keeps things.")
@click.version_option(__version__, "-V", "--version", message="llmchat %(version)s")
@click.pass_context
def cli(context: click.Context, /, **options: Any) -> None:
    """Chat with a language model that runs in this program, and move its sampling sliders as it writes.

    Without a model, a small one is fetched on the first start; --model tiny needs no network.
    """
    context.obj = options
    if context.invoked_subcommand is not None:
        return
    if options["paths"]:
        _show_paths()
    elif options["once"]:
        context.exit(_run_once(options))
    else:
        _run_conversation(options)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def models(as_json: bool) -> None:
    """List the named models and whether they are on this machine."""
    from llmchat.commands import list_models

    list_models(as_json=as_json)


@cli.command()
@click.argument("name", default="smollm2")
def pull(name: str) -> None:
    """Fetch a named model, so that it is there when it is needed."""
    from llmchat.commands import pull_model

    pull_model(name)


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_context
def replay(context: click.Context, file: Path) -> None:
    """Make every reply of a transcript again and report the first token that differs."""
    from llmchat.commands import replay_transcript

    context.exit(replay_transcript(file, _start_options(context.obj).settings))


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--format", "kind", type=click.Choice(["markdown", "text", "json"]), default="markdown")
def export(file: Path, kind: str) -> None:
    """Print a transcript as Markdown, text or JSON."""
    from llmchat.commands import export_transcript

    export_transcript(file, kind)


def _start_options(options: dict[str, Any]) -> StartOptions:
    """Settings file and flags, joined."""
    from llmchat.options import StartOptions
    from llmchat.settings import load_settings, resolve_generation

    path = Path(options["config_path"]).expanduser() if options["config_path"] else None
    names = ("model", "tokenizer", "chat_template", "device", "dtype", "threads", "heads", "system", "raw", "theme")
    settings = load_settings(path).merged(**{name: options[name] for name in names})
    if options["no_save"]:
        settings = settings.merged(autosave=False)
    return StartOptions(
        settings=settings,
        generation=resolve_generation(settings, _sampling_flags(options), options["preset"]),
        prompt=_prompt(options),
        prefill_text=options["prefill"] or "",
        resume=_resumed(options),
        save=Path(options["save"]).expanduser() if options["save"] else None,
        settings_path=path,
        setup=options["setup"],
    )


def _sampling_flags(options: dict[str, Any]) -> dict[str, Any]:
    """The sampling values that were given, checked."""
    given = [spec.name for spec in SAMPLING_SPECS if options[spec.name] is not None]
    values = dict(parse_setting(name, options[name]) for name in given)
    if options["seed"] is not None:
        values |= dict([parse_setting("seed", options["seed"])])
    if options["stop"]:
        values["stop"] = tuple(options["stop"])
    if options["greedy"]:
        values["do_sample"] = False
    return values


def _prompt(options: dict[str, Any]) -> str | None:
    """The prompt that was given, or with --once the one that is piped in."""
    text, file = options["prompt"], options["prompt_file"]
    if text is not None and file is not None:
        raise UsageError("Give --prompt or --prompt-file, not both.")
    piped = options["once"] and text is None and file is None and not sys.stdin.isatty()
    if text == "-" or file == "-" or piped:
        return _decoded(sys.stdin.buffer.read(), "standard input")
    if file is None:
        return str(text) if text is not None else None
    try:
        return _decoded(Path(file).expanduser().read_bytes(), file)
    except OSError as error:
        raise UsageError(f"The prompt file {file} cannot be read: {error.strerror}.") from None


def _decoded(data: bytes, source: str) -> str:
    try:
        return data.decode().removesuffix("\n")
    except UnicodeDecodeError:
        raise UsageError(f"The prompt from {source} is not UTF-8 text.") from None


def _resumed(options: dict[str, Any]) -> Path | None:
    """The transcript to go on with."""
    if options["resume"]:
        return Path(options["resume"]).expanduser()
    if not options["continue_last"]:
        return None
    from llmchat.chat.storage import latest_transcript

    latest = latest_transcript()
    if latest is None:
        raise UsageError("There is no conversation to continue yet.")
    return latest


def _run_once(options: dict[str, Any]) -> int:
    from llmchat import once

    if options["as_json"] and options["as_jsonl"]:
        raise UsageError("Give --json or --jsonl, not both.")
    start = _start_options(options)
    if start.prompt is None:
        raise UsageError("--once needs a prompt: --prompt TEXT, --prompt-file FILE, or text on standard input.")
    if not start.prompt.strip():
        raise UsageError("The prompt is empty.")
    file = _transcript_file(start)
    try:
        return once.run(
            once.OnceOptions(
                spec=start.settings.model_spec(),
                prompt=start.prompt,
                config=start.config,
                system=start.settings.system,
                raw=start.settings.raw,
                prefill_text=start.prefill_text,
                output="json" if options["as_json"] else "jsonl" if options["as_jsonl"] else "text",
                stats=options["stats"],
                quiet=options["quiet"],
                num_samples=options["num_samples"],
                file=file,
            )
        )
    finally:
        if file is not None:
            file.close()


def _transcript_file(start: StartOptions) -> TranscriptFile | None:
    """The transcript that a headless run was asked to keep."""
    from llmchat.chat.storage import TranscriptFile
    from llmchat.chat.transcript import Transcript

    if start.resume is not None:
        return TranscriptFile.open(start.resume)[0]
    if start.save is None:
        return None
    if start.save.exists():
        return TranscriptFile.open(start.save)[0]
    return TranscriptFile.create(Transcript(), start.save)


def _run_conversation(options: dict[str, Any]) -> None:
    for flag, name in (("as_json", "--json"), ("as_jsonl", "--jsonl"), ("stats", "--stats")):
        if options[flag]:
            raise UsageError(f"{name} goes with --once.")
    start = _start_options(options)
    if options["plain"] or (os.environ.get("TERM") == "dumb" and not start.setup):
        from llmchat.plain import run_plain

        run_plain(start)
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("The window needs a terminal. For one reply: llmchat --once --prompt TEXT")
    from llmchat.ui.launch import run_window

    run_window(start)


def _show_paths() -> None:
    from llmchat import paths

    places = {
        "settings": paths.settings_path(),
        "themes": paths.themes_dir(),
        "models": paths.models_dir(),
        "transcripts": paths.transcripts_dir(),
        "history": paths.history_path(),
        "log": paths.log_path(),
    }
    for name, path in places.items():
        click.echo(f"{name + ':':<13}{path}")


def main() -> None:
    """Run the command line and exit."""
    try:
        sys.exit(cli.main(prog_name="llmchat", standalone_mode=False) or 0)
    except LlmchatError as error:
        _fail(error.message, error.exit_code)
    except click.ClickException as error:
        _fail(error.format_message(), EXIT_USAGE)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def _fail(message: str, code: int) -> None:
    """One line on standard error, then the end."""
    print(f"llmchat: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
