"""Whatever goes wrong in a thread of the worker's, as one line for a person."""

from __future__ import annotations

import logging
from collections.abc import Callable

from llmchat.errors import GenerationError, LlmchatError, ModelLoadError
from llmchat.worker.messages import LoadRequest, Request

_log = logging.getLogger("llmchat")


def failure_of(act: Callable[[], object], kind: type[LlmchatError]) -> LlmchatError | None:
    """Do something that may fail in any way: the threads must outlive any fault of model, driver, library or file.

    Args:
        act: What to do.
        kind: The error that stands for one that was not foreseen.

    Returns:
        What went wrong; None if nothing did. The log has the traceback of what was not foreseen.
    """
    try:
        act()
    except LlmchatError as known:
        return known
    except BaseException as unknown:
        _log.exception("a request failed")
        text = " ".join(str(unknown).split())[:200]
        if isinstance(unknown, MemoryError) or "allocate memory" in text or "out of memory" in text.lower():
            return kind("There is not enough memory. Choose a smaller model, or end other programs.")
        return kind(f"Unexpected {type(unknown).__name__}: {text or 'no details'}. The log has more: llmchat --paths")
    return None


def dead(request: Request) -> LlmchatError:
    """What is said once nobody serves any more."""
    return kind_of_error(request)("The part of llmchat that runs models has stopped: start llmchat again.")


def kind_of_error(request: Request) -> type[LlmchatError]:
    """The error of a request for which none was foreseen."""
    return ModelLoadError if isinstance(request, LoadRequest) else GenerationError
