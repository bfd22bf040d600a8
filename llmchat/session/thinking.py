"""Telling the model of a conversation whether and how to think."""

from __future__ import annotations

from llmchat.chat.template_args import think_arguments, thinking_words
from llmchat.errors import UsageError
from llmchat.session.session import ChatSession


def think(session: ChatSession, word: str = "") -> str:
    """Have the next replies think as a word of THINK_WORDS says; without one, only tell.

    Returns:
        What the model is told from here on, as a sentence.

    Raises:
        UsageError: No model is open, or its chat template cannot be told so.
    """
    if session.model is None:
        raise UsageError("No model is open yet; what its chat template can be told is not known.")
    variables = session.model.template_variables
    if word:
        told = think_arguments(word, session.config.template_args, variables)
        session.config = session.config.changed(template_args=told)
    return thinking_words(session.config.template_args, variables)
