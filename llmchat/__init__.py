"""llmchat: a terminal chat that runs the language model itself.

    from llmchat import GenerationConfig, generate_text

    print(generate_text(model_path="./model/model.pt", tokenizer_path="./tokenizer", prompt="Once upon a time"))

The names are found when they are first used: importing llmchat loads neither
torch nor textual.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmchat.api import Model, generate_text, interactive_cli, load, stream_generate
    from llmchat.chat.generation_config import GenerationConfig
    from llmchat.errors import LlmchatError

__version__ = "0.1.0"

__all__ = [
    "GenerationConfig",
    "LlmchatError",
    "Model",
    "generate_text",
    "interactive_cli",
    "load",
    "stream_generate",
]

_HOME = {
    "GenerationConfig": "llmchat.chat.generation_config",
    "LlmchatError": "llmchat.errors",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME.get(name, "llmchat.api")), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
