"""A conversation in progress, for every front end: no widget, no torch."""

from llmchat.session.running import Running
from llmchat.session.session import ChatSession, SessionState

__all__ = ["ChatSession", "Running", "SessionState"]
