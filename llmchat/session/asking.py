"""Questions to the worker about a conversation, beside those for replies."""

from __future__ import annotations

from llmchat.chat.turn import Turn, under_system
from llmchat.errors import UsageError
from llmchat.session.session import ChatSession
from llmchat.worker.messages import PromptRequest


def prompt_request(session: ChatSession, text: str = "") -> PromptRequest:
    """A question to the worker: what the model is given for the last reply, or for a new message.

    Args:
        session: The conversation.
        text: The new message; "" for none.

    Raises:
        UsageError: Nothing was said yet, or no model is open.
    """
    if session.model is None and session.load is None:
        raise UsageError("No model is open. Choose one with /model.")
    leaf = session.transcript.leaf
    if text or leaf is None:
        if not text:
            raise UsageError("Nothing was said yet. Give a text: /prompt TEXT")
        turns = under_system((*session.transcript.path(), Turn("user", text)), session.system)
    elif leaf.role == "assistant":
        turns = session.transcript.asked(leaf.id)
    else:
        turns = under_system(session.transcript.path(), session.system)
    reply = None if text or leaf is None else leaf.reply
    return PromptRequest(
        turns,
        raw=session.raw if reply is None else reply.raw,
        prefill_text=session.prefill_text if reply is None else reply.prefill_text,
        room=(session.config if reply is None else reply.config).max_new_tokens,
        moment=None if reply is None else reply.moment,
        template_args=(session.config if reply is None else reply.config).template_args,
    )
