"""What `llmchat bench` prints: a table for people, or one JSON object."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from llmchat.bench import BenchReport, FirstToken, Spread
from llmchat.chat.plain_text import visible


def describe_bench(report: BenchReport) -> dict[str, Any]:
    """A report as the object that `--json` prints: seconds, bytes, tokens per second, and shares of 1."""
    info = report.info
    return {
        "model": info.name,
        "path": info.path,
        "weight_format": info.weight_format,
        "engine": info.engine,
        "device": info.device,
        "dtype": info.dtype,
        "cuda_graph": info.cuda_graph,
        "threads": info.threads,
        "context_length": info.context_length,
        "repeats": report.repeats,
        "load_seconds": report.load_seconds,
        "prefill": [asdict(speed) for speed in report.prefill],
        "decode": [asdict(speed) for speed in report.decode],
        "time_to_first_token": {"first_turn": asdict(report.first_turn), "later_turn": asdict(report.later_turn)},
        "memory": {"weight_bytes": report.weight_bytes, "peak_bytes": report.peak_memory_bytes},
        "read_bandwidth_bytes_per_second": asdict(report.read_bandwidth),
        "bandwidth_share": report.bandwidth_share,
    }


def bench_lines(report: BenchReport) -> list[str]:
    """A report in aligned lines: the median of each figure, then its least and most."""
    info = report.info
    threads = f"{info.threads} thread{'s' * (info.threads != 1)}"
    peak = "" if report.peak_memory_bytes is None else f"{report.peak_memory_bytes / 1e6:.0f} MB at most, "
    rows = [
        ("load", f"{report.load_seconds:.2f} s"),
        *((f"prefill of {one.tokens}", _rate(one.tokens_per_second)) for one in report.prefill),
        *(
            (
                f"decode behind {one.context}",
                f"{_rate(one.tokens_per_second)}, {one.bandwidth_share:.0%} of the bandwidth limit",
            )
            for one in report.decode
        ),
        ("first token, first turn", _first_token(report.first_turn)),
        ("first token, later turn", _first_token(report.later_turn)),
        ("memory", f"{peak}weights {report.weight_bytes / 1e6:.0f} MB"),
        ("read bandwidth", f"{_spread(report.read_bandwidth, 'GB/s', 1e-9)}, {threads}"),
        ("bandwidth share", f"{report.bandwidth_share:.0%}"),
    ]
    title = visible(f"{info.name}, {info.weight_format}, {info.path_words}, {threads}")
    return [title, *(f"{name + ':':<25}{text}" for name, text in rows)]


def _rate(spread: Spread) -> str:
    return _spread(spread, "tok/s", 1)


def _first_token(one: FirstToken) -> str:
    return f"{_spread(one.seconds, 'ms', 1e3)}, {one.prompt_tokens} tokens of which {one.cached_tokens} were cached"


def _spread(spread: Spread, unit: str, scale: float) -> str:
    median, least, most = (f"{value * scale:.1f}" for value in (spread.median, spread.least, spread.most))
    return f"{median} {unit} ({least} to {most})"
