"""A slider for one numeric parameter, one line high.

Everything it knows of the parameter comes from its `ParameterSpec`. It reports
only what a person does; a value set by the program is shown and not reported.
"""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.reactive import reactive

from llmchat.chat.generation_config import Number, ParameterSpec
from llmchat.ui.widgets.value_row import NAME_WIDTH, Part, ValueRow

TRACK_START = 1 + NAME_WIDTH + 3
"""The first cell of the track."""


class Slider(ValueRow):
    """Label, value and track of one parameter."""

    HELP_HEADING = "On a slider"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "step(-1)", "A step down", False, id="slider.down"),
        Binding("right", "step(1)", "A step up", False, id="slider.up"),
        Binding("shift+left", "step(-10)", "Ten steps down", False, id="slider.ten_down"),
        Binding("shift+right", "step(10)", "Ten steps up", False, id="slider.ten_up"),
        Binding("home", "end(0)", "To the start of the track", False, id="slider.start"),
        Binding("end", "end(1)", "To the end of the track", False, id="slider.end"),
        Binding("backspace,delete", "default", "Back to the default", False, id="slider.default"),
        Binding("space", "switch_off", "Off, or back to what it was", False, id="slider.toggle"),
    ]

    COMPONENT_CLASSES: ClassVar[set[str]] = {"slider--filled", "slider--track"}

    takes_at_pause = True

    DEFAULT_CSS = """
    Slider {
        & > .slider--filled { color: $primary; }
        & > .slider--track { color: $foreground 25%; }
    }
    """

    value: reactive[Number] = reactive(0.0, init=False)
    """The parameter's value."""
    note: reactive[str] = reactive("")
    """Words in the track's place, such as why the slider has no effect; "" draws the track."""
    source: reactive[str] = reactive("", init=False)
    """Where a value that is not the default comes from, such as "from the settings file"."""

    class Changed(Message):
        """The person gave the parameter another value."""

        def __init__(self, slider: Slider, name: str, value: Number) -> None:
            super().__init__()
            self.slider = slider
            self.name = name
            """The parameter's name, a field of `GenerationConfig`."""
            self.value = value

        @property
        def control(self) -> Slider:
            """The slider that was moved."""
            return self.slider

    def __init__(self, spec: ParameterSpec, value: Number | None = None, *, id: str | None = None) -> None:  # noqa: A002
        """A slider for the parameter, at `value` or its default."""
        super().__init__(id=id)
        self.spec = spec
        self._dragged_cell: int | None = None
        self._before_off: Number | None = None
        self.unheard = 0
        """Reports that the panel has not taken yet; until then it must not set an older value."""
        self.set_reactive(Slider.value, spec.default if value is None else spec.check(value))
        self.explain_on_hover()

    @property
    def label(self) -> str:
        """The parameter's label."""
        return self.spec.label

    @property
    def value_text(self) -> str:
        """The value, or "off"."""
        return self.spec.format(self.value)

    @property
    def value_look(self) -> str:
        """Dimmed where the value has no effect."""
        return "row--muted" if self.is_off else super().value_look

    @property
    def differs(self) -> bool:
        """Whether the value is not the default."""
        return self.value != self.spec.default

    @property
    def expected(self) -> str:
        """The accepted range."""
        return self.spec.range_text

    @property
    def explanation(self) -> str:
        """The parameter's meaning, range, default and the source of its value."""
        spec = self.spec
        origin = f", {self.source}" if self.source and self.differs else ""
        return f"{spec.label}: {spec.help} {spec.range_text}; default {spec.format(spec.default)}{origin}."

    @property
    def is_off(self) -> bool:
        """Whether the value is the one shown as "off"."""
        return self.spec.off and self.value == self.spec.neutral

    def set_value(self, value: Number) -> None:
        """Show another value, without reporting it.

        Raises:
            UsageError: It is outside the range.
        """
        self.value = self.spec.check(value)

    def watch_value(self, old: Number, new: Number) -> None:
        """Remember what Space goes back to."""
        if new == self.spec.neutral and old != new:
            self._before_off = old
        self.explain_on_hover()

    def watch_source(self) -> None:
        """Keep the tooltip true."""
        self.explain_on_hover()

    def beside(self, width: int) -> list[Part]:
        """The track: filled up to the knob; hollow and not filled where there is no effect."""
        if self.note:
            return [(self.note[:width], "row--muted")]
        if width < 3:
            return []
        cell = self._cell(self.value, width)
        if self.is_off or self.inactive:
            before, knob, look = ("─" * cell, "slider--track"), "○", "row--muted"
        else:
            before, knob = ("━" * cell, "slider--filled"), "●"
            look = "row--mark" if self.differs else "slider--filled row--strong"
        low, high = self.spec.shown
        # A value beyond the track's ends, which can be typed, points out of it.
        knob = "◀" if self.value < low else "▶" if self.value > high else knob
        return [before, (knob, look), ("─" * (width - cell - 1), "slider--track")]

    @property
    def track_width(self) -> int:
        """Cells from one end of the track to the other."""
        return max(self.content_size.width - TRACK_START, 0)

    def _cell(self, value: Number, width: int) -> int:
        return round(self.spec.position(value) * (width - 1))

    def _move(self, value: Number) -> None:
        """Give the parameter a value on the person's behalf."""
        self.close_editor()
        if value != self.value:
            self.value = value
            self.unheard += 1
            self.post_message(self.Changed(self, self.spec.name, value))

    def take(self, text: str) -> None:
        """Accept a typed value.

        Raises:
            UsageError: It is no number, or outside the range.
        """
        value = self.spec.parse(text)
        self._move(value)

    def action_step(self, steps: int) -> None:
        """Move by so many steps."""
        self._move(self.spec.stepped(self.value, steps))

    def action_end(self, end: int) -> None:
        """Move to the track's start (0) or end (1)."""
        self._move(self.spec.check(self.spec.shown[end]))

    def action_default(self) -> None:
        """Move to the default."""
        self._move(self.spec.default)

    def action_switch_off(self) -> None:
        """Move to the value without effect, or back to the one before."""
        spec = self.spec
        if spec.neutral is None:
            self.post_message(self.Refused(self, f"{spec.label} has no off: every value has an effect."))
        elif self.value != spec.neutral:
            self._move(spec.neutral)
        elif (back := self._before_off if self._before_off is not None else spec.default) != spec.neutral:
            self._move(back)
        else:
            self.post_message(self.Refused(self, f"{spec.label} has no earlier value. Press → or type one."))

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Begin to drag the knob."""
        cell = event.x - self.gutter.left - TRACK_START
        if event.button == 1 and not self.note and 0 <= cell < self.track_width:
            # Pressing on the knob itself keeps the value; it moves with the pointer.
            self._dragged_cell = self._cell(self.value, self.track_width)
            self.capture_mouse()
            self._drag(event)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Drag the knob."""
        if self._dragged_cell is not None:
            self._drag(event)

    def on_mouse_up(self, event: events.MouseUp) -> None:
        """Let the knob go."""
        self.release_mouse()

    def on_mouse_release(self, event: events.MouseRelease) -> None:
        """Stop dragging."""
        self._dragged_cell = None

    def on_hide(self, event: events.Hide) -> None:
        """Stop dragging when the sidebar goes away."""
        self.release_mouse()

    def _drag(self, event: events.MouseEvent) -> None:
        """Follow the pointer, finer than a cell where the terminal tells so."""
        width = self.track_width
        at = event.pointer_x - self.gutter.left - TRACK_START
        is_fine = not float(event.pointer_x).is_integer()
        cell = min(max(int(at), 0), width - 1)
        if cell == self._dragged_cell and not is_fine:
            return
        self._dragged_cell = cell
        self._move(self.spec.value_at((at - 0.5) / (width - 1)) if is_fine else self._value_of(cell, width))

    def _value_of(self, cell: int, width: int) -> Number:
        """The value of a cell: the default or the neutral value if it lies there."""
        for exact in (self.spec.neutral, self.spec.default, *self.spec.shown):
            if exact is not None and self._cell(exact, width) == cell:
                return self.spec.check(exact)
        return self.spec.value_at(cell / (width - 1))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """A step up, where the wheel is meant for the slider."""
        self._wheel(event, 1)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """A step down, where the wheel is meant for the slider."""
        self._wheel(event, -1)

    def _wheel(self, event: events.MouseEvent, steps: int) -> None:
        # By itself, and over any other slider, the wheel scrolls the sidebar.
        if self.has_focus and (event.ctrl or event.meta or event.shift):
            event.stop()
            event.prevent_default()
            self.action_step(steps)
