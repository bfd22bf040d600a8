"""llmchat: a terminal chat that runs the language model itself."""

__version__ = "0.1.0"
