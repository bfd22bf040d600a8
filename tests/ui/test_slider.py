"""One slider in an app of its own: keys, typing, the mouse, and what it reports."""

from __future__ import annotations

import pytest
from textual import events
from textual.app import ComposeResult
from textual.widgets import Input
from textual.widgets._tooltip import Tooltip

from llmchat.chat.generation_config import SAMPLING_SPECS, SPEC_BY_NAME, Number, ParameterSpec
from llmchat.ui.widgets import value_row
from llmchat.ui.widgets.slider import TRACK_START, Slider
from llmchat.ui.widgets.value_row import ValueRow
from tests.ui.helpers import wait_until
from tests.ui.themed import ThemedApp

WIDTH = 42


class SliderApp(ThemedApp):
    """A slider, somewhere else for the focus, and a record of what was reported."""

    CSS = "Slider { width: 42; }"

    def __init__(self, spec: ParameterSpec, value: Number | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.value = value
        self.changes: list[Number] = []
        self.refusals: list[str] = []
        self.explanations: list[str] = []

    def compose(self) -> ComposeResult:
        """The slider, and another place for the focus."""
        yield Slider(self.spec, self.value)
        yield Input()

    @property
    def slider(self) -> Slider:
        """The slider itself."""
        return self.query_one(Slider)

    @property
    def line(self) -> str:
        """What the slider's line shows."""
        return self.slider.render().plain

    def on_slider_changed(self, event: Slider.Changed) -> None:
        """Record a change."""
        assert event.control is self.slider
        assert event.name == self.spec.name
        self.changes.append(event.value)

    def on_value_row_refused(self, event: ValueRow.Refused) -> None:
        """Record a refusal."""
        self.refusals.append(event.message)

    def on_value_row_explained(self, event: ValueRow.Explained) -> None:
        """Record an explanation."""
        self.explanations.append(event.message)


def app_for(name: str, value: Number | None = None) -> SliderApp:
    """An app around the slider of this parameter."""
    return SliderApp(SPEC_BY_NAME[name], value)


@pytest.mark.parametrize("spec", SAMPLING_SPECS, ids=lambda spec: spec.name)
async def test_mounting_reports_nothing(spec: ParameterSpec) -> None:
    """A slider that appears, or is set by the program, writes nothing."""
    app = SliderApp(spec)
    async with app.run_test() as pilot:
        app.slider.set_value(spec.maximum)
        await pilot.pause()
        assert app.changes == []
        assert app.slider.value == spec.maximum


@pytest.mark.parametrize(
    ("name", "start", "keys", "value"),
    [
        ("temperature", 0.8, ["right"], 0.85),
        ("temperature", 0.8, ["left"], 0.75),
        ("temperature", 0.8, ["shift+right"], 1.3),
        ("temperature", 0.8, ["shift+left", "shift+left"], 0.0),
        ("temperature", 0.8, ["home"], 0.0),
        ("temperature", 0.8, ["end"], 2.0),
        ("temperature", 0.3, ["0", "enter"], 0.0),
        ("temperature", 0.3, ["backspace"], 0.8),
        ("temperature", 0.3, ["space"], 1.0),
        ("temperature", 0.3, ["space", "space"], 0.3),
        ("temperature", 0.3, [*"1.25", "enter"], 1.25),
        ("temperature", 0.3, [*".5", "enter"], 0.5),
        ("temperature", 0.3, [*"0.5", "enter"], 0.5),
        ("temperature", 0.8, [*"0.85", "enter"], 0.85),
        ("temperature", 0.3, ["enter", *"0", "enter"], 0.0),
        ("temperature", 0.3, [*"4.5", "enter"], 4.5),
        ("top_k", 50, ["right"], 51),
        ("top_k", 50, ["space"], 0),
        ("top_k", 50, ["space", "space"], 50),
        ("top_k", 50, [*"200000", "enter"], 200000),
        ("top_p", 0.9, ["end"], 1.0),
        ("top_p", 0.5, [*"1x", "backspace", "enter"], 1.0),
        ("top_p", 0.5, [*".9o", "ctrl+u", *".7", "enter"], 0.7),
        ("max_new_tokens", 512, ["home"], 1),
    ],
)
async def test_keys_move_it(name: str, start: Number, keys: list[str], value: Number) -> None:
    """Each key of the slider leads to exactly its value, and the last report says so."""
    app = app_for(name, start)
    async with app.run_test() as pilot:
        app.slider.focus()
        await pilot.press(*keys)
        await pilot.pause()
        assert app.slider.value == value
        assert app.changes[-1] == value


async def test_typing_has_no_effect_before_enter() -> None:
    """No digit, the 0 among them, moves the value: a running reply never sees one in between."""
    app = app_for("temperature", 1.2)
    async with app.run_test() as pilot:
        app.slider.focus()
        for key in "0.3":
            await pilot.press(key)
            await pilot.pause()
            assert app.changes == []
            assert app.slider.value == 1.2
        await pilot.press("enter")
        await pilot.pause()
        assert app.changes == [0.3]


async def test_one_backspace_too_many_is_no_default() -> None:
    """Backspace in the editor only ever deletes; Enter on an empty one changes nothing."""
    app = app_for("temperature", 1.2)
    async with app.run_test() as pilot:
        app.slider.focus()
        await pilot.press(*"03", *["backspace"] * 4, "enter")
        await pilot.pause()
        assert (app.changes, app.refusals, app.slider.draft) == ([], [], None)


async def test_a_whole_value_acts_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Enter, a value that could be meant as it stands is taken once; one that wants to go on is not."""
    monkeypatch.setattr(value_row, "PAUSE_SECONDS", 0.05)
    app = app_for("temperature", 1.2)
    async with app.run_test() as pilot:
        app.slider.focus()
        await pilot.press("0", ".")
        pause = app.slider._pause
        assert pause is not None
        await wait_until(pilot, lambda: pause._task is None or pause._task.done(), "the end of the pause")
        assert (app.changes, app.refusals, app.slider.draft) == ([], [], "0.")
        await pilot.press("3")
        await wait_until(pilot, lambda: app.changes, "the value")
        assert app.changes == [0.3]
        assert app.slider.draft is None
        await pilot.press("9")
        await wait_until(pilot, lambda: app.refusals, "the range")
        assert app.refusals == ["temperature must be from 0 to 5, not 9."]
        assert app.changes == [0.3]


async def test_esc_drops_what_was_typed() -> None:
    """Esc closes the editor and leaves the value; nothing else hears of the key."""
    app = app_for("temperature")
    async with app.run_test() as pilot:
        app.slider.focus()
        await pilot.press("1", ".", "9")
        assert "1.9" in app.line
        assert "0 to 5" in app.line
        await pilot.press("escape")
        assert app.changes == []
        assert "0.80" in app.line


async def test_a_value_out_of_range_is_refused_with_the_range_and_kept() -> None:
    """What was typed stays for correction, and the range is said."""
    app = app_for("temperature")
    async with app.run_test() as pilot:
        app.slider.focus()
        await pilot.press("9", "enter")
        await pilot.pause()
        assert app.refusals == ["temperature must be from 0 to 5, not 9."]
        assert app.changes == []
        assert app.slider.draft == "9"
        assert "! 0 to 5" in app.line
        await pilot.press("backspace", "2", "enter")
        await pilot.pause()
        assert app.changes == [2.0]


async def test_leaving_by_tab_takes_a_value_or_stays() -> None:
    """Tab after typing is as good as Enter; a value that is refused keeps the focus."""
    app = app_for("temperature")
    async with app.run_test() as pilot:
        app.slider.focus()
        await pilot.press("7", "tab")
        assert app.slider.has_focus
        await pilot.press("backspace", "1", "tab")
        await pilot.pause()
        assert app.changes == [1.0]
        assert not app.slider.has_focus


async def test_the_focus_going_elsewhere_drops_what_was_typed() -> None:
    """A half-typed value never takes effect by itself."""
    app = app_for("temperature")
    async with app.run_test() as pilot:
        app.slider.focus()
        await pilot.press("1")
        app.query_one(Input).focus()
        await pilot.pause()
        assert app.changes == []
        assert app.slider.draft is None


async def test_pasting_opens_the_editor() -> None:
    """A pasted number waits for Enter like a typed one."""
    app = app_for("temperature")
    async with app.run_test() as pilot:
        app.slider.focus()
        app.post_message(events.Paste(" 1.4\n"))
        await pilot.pause()
        assert app.changes == []
        await pilot.press("enter")
        await pilot.pause()
        assert app.changes == [1.4]


@pytest.mark.parametrize(("name", "said"), [("max_new_tokens", "no off"), ("min_p", "no earlier value")])
async def test_space_says_why_it_does_nothing(name: str, said: str) -> None:
    """Without an off value, or a value to come back to, Space gives the reason."""
    app = app_for(name)
    async with app.run_test() as pilot:
        app.slider.focus()
        await pilot.press("space")
        await pilot.pause()
        assert app.changes == []
        assert said in app.refusals[0]


async def test_a_question_mark_explains() -> None:
    """`?` says what the parameter does, its range, its default, and the value's source."""
    app = app_for("top_k", 40)
    async with app.run_test() as pilot:
        app.slider.source = "from the settings file"
        app.slider.focus()
        await pilot.press("question_mark")
        await pilot.pause()
        text = app.explanations[0]
        assert SPEC_BY_NAME["top_k"].help in text
        assert "0 to 1000000" in text
        assert "default 50" in text
        assert "from the settings file" in text
        assert str(app.slider.tooltip) == text


async def test_clicking_and_dragging_move_the_knob() -> None:
    """The knob goes where the mouse goes, also beyond the line's ends, until the button is let go."""
    app = app_for("temperature")
    async with app.run_test(size=(60, 5)) as pilot:
        slider = app.slider
        last = slider.track_width - 1
        assert TRACK_START + slider.track_width == WIDTH
        await pilot.mouse_down(slider, offset=(TRACK_START, 0))
        await pilot.pause()
        assert slider.value == 0.0
        await pilot.hover(slider, offset=(TRACK_START + last // 2, 0))
        middle = slider.value
        assert 0.7 < middle < 1.2
        await pilot.hover(slider, offset=(55, 3))
        assert slider.value == 2.0
        await pilot.mouse_up(slider, offset=(55, 3))
        await pilot.pause()
        await pilot.hover(slider, offset=(TRACK_START + 2, 0))
        assert slider.value == 2.0
        assert app.changes[-1] == 2.0


async def test_pressing_on_the_knob_keeps_the_value() -> None:
    """A click where the knob already is does not round the value to the cell's."""
    app = app_for("temperature", 0.83)
    async with app.run_test() as pilot:
        cell = app.line.index("●")
        await pilot.click(app.slider, offset=(cell, 0))
        await pilot.pause()
        assert app.changes == []


@pytest.mark.parametrize("name", [spec.name for spec in SAMPLING_SPECS])
async def test_default_and_neutral_value_can_be_clicked_exactly(name: str) -> None:
    """The cell in which the default or the neutral value lies gives exactly that value."""
    spec = SPEC_BY_NAME[name]
    app = SliderApp(spec)
    async with app.run_test() as pilot:
        for exact in (spec.neutral, spec.default):
            if exact is None:
                continue
            app.slider.set_value(exact)
            cell = next(index for index, sign in enumerate(app.line) if sign in "●○")
            app.slider.set_value(spec.shown[1] if exact != spec.shown[1] else spec.shown[0])
            await pilot.click(app.slider, offset=(cell, 0))
            await pilot.pause()
            assert spec.format(app.slider.value) in {
                spec.format(value) for value in (spec.neutral, spec.default) if value is not None
            }


async def test_the_wheel_moves_the_slider_in_focus_with_a_modifier_only() -> None:
    """By itself, or over a slider without the focus, the wheel changes nothing."""
    app = app_for("temperature")
    async with app.run_test() as pilot:

        async def turn(kind: type[events.MouseScrollUp | events.MouseScrollDown], *, ctrl: bool) -> None:
            app.slider.post_message(kind(app.slider, 30, 0, 0, 0, 0, False, False, ctrl))
            await pilot.pause()

        app.query_one(Input).focus()
        await turn(events.MouseScrollUp, ctrl=True)
        app.slider.focus()
        await turn(events.MouseScrollUp, ctrl=False)
        assert app.changes == []
        await turn(events.MouseScrollUp, ctrl=True)
        await turn(events.MouseScrollDown, ctrl=True)
        assert app.changes == [0.85, 0.8]


async def test_no_explanation_covers_the_rows_below_while_the_mouse_drags() -> None:
    """From the press until the pointer goes elsewhere there is no tooltip."""
    app = app_for("temperature")
    app.TOOLTIP_DELAY = 0.01
    async with app.run_test(size=(60, 12), tooltips=True) as pilot:
        slider, tooltip = app.slider, app.screen.get_child_by_type(Tooltip)
        await pilot.hover(slider, offset=(TRACK_START + 2, 0))
        await wait_until(pilot, lambda: tooltip.display, "the tooltip")
        await pilot.mouse_down(slider, offset=(TRACK_START + 2, 0))
        await pilot.hover(slider, offset=(TRACK_START + 6, 0))
        await pilot.mouse_up(slider, offset=(TRACK_START + 6, 0))
        await pilot.hover(slider, offset=(TRACK_START + 7, 0))
        assert app.changes
        assert slider.tooltip is None
        assert not tooltip.display
        await pilot.hover(Input)
        await pilot.hover(slider, offset=(TRACK_START + 2, 0))
        await wait_until(pilot, lambda: tooltip.display, "the tooltip again")


async def test_it_looks_as_drawn() -> None:
    """Label, value, mark and track stand where they should, and nothing depends on colour alone."""
    app = app_for("temperature")
    async with app.run_test() as pilot:
        assert app.line == " Temperature   0.80   ━━━━━━━━●───────────"
        app.slider.set_value(1.2)
        assert app.line == " Temperature   1.20 ≠ ━━━━━━━━━━━●────────"
        app.slider.inactive = True
        assert app.line == " Temperature   1.20 ≠ ───────────○────────"
        app.slider.inactive = False
        app.slider.set_value(5)
        assert app.line.endswith("━▶")
        app.slider.focus()
        await pilot.pause()
        assert app.line.startswith("›Temperature")
        app.slider.note = "greedy"
        assert app.line.endswith("greedy")


async def test_off_is_a_word_and_an_empty_track() -> None:
    """A parameter at its neutral value says "off" and fills nothing."""
    app = app_for("top_p", 1.0)
    async with app.run_test():
        assert app.line == " Top-p          off ≠ ───────────────────○"


@pytest.mark.parametrize("width", [1, 10, 22, 24, 30])
async def test_a_narrow_slider_does_not_break(width: int) -> None:
    """Too little room costs the track, not the program."""
    app = app_for("temperature")
    async with app.run_test(size=(80, 5)) as pilot:
        app.slider.styles.min_width = 1
        app.slider.styles.width = width
        app.slider.focus()
        await pilot.press("right", "1", "enter", "left")
        await pilot.click(app.slider)
        await pilot.pause()
        assert app.slider.size.height == 1


async def test_long_values_and_long_drafts_fit() -> None:
    """A million stays readable, and the end of a long draft stays in sight."""
    app = app_for("top_k", 1_000_000)
    async with app.run_test() as pilot:
        assert "1000000" in app.line
        app.slider.focus()
        await pilot.press(*"123456789123456789")
        assert "6789▏" in app.line


async def test_a_small_value_is_not_shown_as_zero() -> None:
    """What was typed is shown with the digits it needs."""
    app = app_for("min_p")
    async with app.run_test() as pilot:
        app.slider.focus()
        await pilot.press(*".001", "enter")
        assert "0.001 ≠" in app.line
