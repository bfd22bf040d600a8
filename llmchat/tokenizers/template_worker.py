"""The other end of `template_process`: renders one template, within limits that the system holds it to.

Lines of JSON come in: the template, then messages and values for each rendering. A line goes out for each: its
text or its error, and the seconds of the processor that it took.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from typing import Any

from llmchat.tokenizers.template_sandbox import RENDER_ERRORS, EndlessError, Sandbox, reason_of, render

_MOST_BYTES = 400 * 2**20
_RENDER_SECONDS = 1.5
_KILL_SECONDS = 2.0


def serve() -> None:
    """Answer until the input ends."""
    _limit_memory()
    requests = sys.stdin.buffer
    source = json.loads(requests.readline())
    environment, template = Sandbox(), None
    for line in requests:
        _limit_time()
        began = time.process_time()
        environment.deadline = began + _RENDER_SECONDS
        try:
            if template is None:
                template = environment.from_string(source)
            request = json.loads(line)
            answer: dict[str, Any] = {"text": render(environment, template, **request)}
        except EndlessError:
            return
        except (*RENDER_ERRORS, SyntaxError) as error:
            answer = {"error": reason_of(error)}
        answer["seconds"] = time.process_time() - began
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:
        return
    try:
        resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError):
        # Some systems do not bound memory so; time is bounded everywhere.
        return


def _limit_time() -> None:
    """Have the system end this process after so much work, whether it looks at the time or not."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, _KILL_SECONDS)


if __name__ == "__main__":
    serve()
