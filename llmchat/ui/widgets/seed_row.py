"""The seed's line in the sidebar: the dice, and whether they are kept."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.reactive import reactive

from llmchat.chat.generation_config import SEED_LIMIT, check_seed, parse_setting, roll_seed
from llmchat.ui.widgets.value_row import Part, ValueRow


class SeedRow(ValueRow):
    """The seed, "locked" or "rolls". While it rolls, the last reply's seed is shown."""

    HELP_HEADING = "On the seed"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,space", "toggle_lock", "Lock the seed, or let it roll for each reply", False, id="seed.toggle"),
        Binding("r", "roll", "Roll a new seed and lock it", False, id="seed.roll"),
        Binding("backspace,delete", "unlock", "Let it roll for each reply", False, id="seed.unlock"),
    ]

    COMPONENT_CLASSES: ClassVar[set[str]] = {"seed--locked"}

    DEFAULT_CSS = """
    SeedRow {
        & > .seed--locked { color: $text-success; }
    }
    """

    starts_typing = "0123456789"

    seed: reactive[int | None] = reactive(None)
    """The locked seed; None while a new one is rolled for each reply."""
    last_seed: reactive[int | None] = reactive(None)
    """The seed of the latest reply; None before the first."""

    class Changed(Message):
        """The person locked, set or freed the seed."""

        def __init__(self, row: SeedRow, seed: int | None) -> None:
            super().__init__()
            self.row = row
            self.seed = seed
            """The locked seed, or None if one is rolled for each reply."""

        @property
        def control(self) -> SeedRow:
            """The row that changed."""
            return self.row

    def on_mount(self) -> None:
        """Say on hover what `?` says."""
        self.explain_on_hover()

    @property
    def label(self) -> str:
        """The row's label."""
        return "Seed"

    @property
    def value_text(self) -> str:
        """The locked seed, or else the latest one."""
        shown = self.last_seed if self.seed is None else self.seed
        return "—" if shown is None else str(shown)

    @property
    def value_look(self) -> str:
        """Not bold: it is seldom the person's own."""
        return "row--muted" if self.inactive else ""

    @property
    def expected(self) -> str:
        """What may be typed."""
        return "whole number"

    @property
    def explanation(self) -> str:
        """What the seed does."""
        return (
            "Seed: the dice of the draw. Locked, the same prompt and settings give the same reply; "
            f"else a new one is rolled for each. 0 to {SEED_LIMIT - 1}."
        )

    def beside(self, width: int) -> list[Part]:
        """Whether the seed is kept."""
        return [("rolls", "row--muted") if self.seed is None else ("locked", "seed--locked")]

    def take(self, text: str) -> None:
        """Lock a typed seed.

        Raises:
            UsageError: It is no whole number in range.
        """
        seed = parse_setting("seed", text)[1]
        self._change(check_seed(seed))

    def _change(self, seed: int | None) -> None:
        self.close_editor()
        if seed != self.seed:
            self.seed = seed
            self.post_message(self.Changed(self, seed))

    def action_toggle_lock(self) -> None:
        """Lock the latest seed, or free the locked one."""
        if self.seed is not None:
            self.last_seed = self.seed
            self._change(None)
        else:
            self._change(roll_seed() if self.last_seed is None else self.last_seed)

    def action_roll(self) -> None:
        """Lock a new seed."""
        self._change(roll_seed())

    def action_unlock(self) -> None:
        """Free the locked seed."""
        if self.seed is not None:
            self.action_toggle_lock()

    def on_click(self, event: events.Click) -> None:
        """Lock the seed or free it."""
        event.stop()
        self.action_toggle_lock()
