"""Keys that take effect in the order in which they were pressed, however many arrive at once.

Textual gives a character to the widget in focus at once, but carries out what is bound to a key only when the key
has climbed from there to the app, and takes a key for that of the widget that had the focus when it was read. Where
several arrive in one read, as over a slow line, characters would overtake the keys before them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual import events

if TYPE_CHECKING:
    from textual.widget import Widget as Base
else:
    # Of several bases Textual takes the styles of the first that is a widget.
    Base = object


class KeysInOrder(Base):
    """To be the first base of a widget that can have the focus, and has no children that can."""

    async def _on_key(self, event: events.Key) -> None:
        """Carry out here what is bound to the key; give it on if an earlier one has moved the focus."""
        focused = self.app.focused
        if focused is not None and focused is not self and self.screen.is_current:
            event.stop()
            event.prevent_default()
            # A new one: what is stopped stays so.
            focused._forward_event(events.Key(event.key, event.character))
            return
        if self.check_consume_key(event.key, event.character):
            return
        # As the app does it once a key has climbed to it.
        if await self.app._check_bindings(event.key):
            event.stop()
            event.prevent_default()
