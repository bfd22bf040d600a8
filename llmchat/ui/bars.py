"""Header, status bar and sidebar, brought up to the session: they tell what is, not what was."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

from llmchat.chat.turn import Timings
from llmchat.session import ChatSession
from llmchat.session.standing import standing_words

if TYPE_CHECKING:
    from llmchat.ui.screens.chat import ChatScreen


def show_bars(screen: ChatScreen) -> None:
    """Bring everything around the transcript up to the session."""
    session, config, status = screen.session, screen.session.config, screen.status
    screen.laboratory.refresh()
    screen.header.show_model(session.model)
    screen.header.checkpoint = screen.checkpoints.words
    screen.header.file_name = session.path.name if session.path is not None else ""
    state = session.state
    status.show_state("error" if state == "empty" else state, "no model" if state == "empty" else "")
    screen.prompt.border_title = Content(" · ".join(standing_words(session)))
    status.temperature = None if config.is_greedy else config.temperature
    status.context_size = 0 if session.model is None else session.model.context_length
    _show_figures(screen)
    screen.panel.config = config
    screen.panel.has_adapter = session.model is not None and bool(session.model.lora)
    if session.last_seed is not None:
        screen.panel.show_seed(session.last_seed)


def _show_figures(screen: ChatScreen) -> None:
    """The figures of the reply that is seen last; of one that is being made, only what is known of it."""
    session, status = screen.session, screen.status
    running, leaf = session.running, session.transcript.leaf
    if running is None:
        reply = None if leaf is None else leaf.reply
        is_of_it = reply is not None and session.model is not None and reply.model == session.model.name
        times = reply.timings if reply is not None and is_of_it else Timings()
        status.context_used = _context_used(session)
    elif running.token_ids:
        return
    else:
        times = Timings()
    status.tokens_per_second = times.tokens_per_second
    status.first_token_seconds = times.time_to_first_token_seconds


def _context_used(session: ChatSession) -> int | None:
    """The tokens of all that is shown; None where only another model, or nobody, has counted them."""
    leaf = session.transcript.leaf
    if leaf is None:
        return 0
    reply, model = leaf.reply, session.model
    if reply is None or model is None or reply.model != model.name:
        return None
    # A reply that was gone on from is part of the prompt.
    drawn = len(reply.token_ids) - (reply.parts[-1] if reply.parts else 0)
    return min(min(reply.prompt_tokens, model.context_length) + drawn, model.context_length)
