"""The looks of the transcript and their default colours, as Textual CSS.

The colours are variables that every Textual theme has. Where a theme also has
one of llmchat's own variables, that one is taken.
"""

from __future__ import annotations

PREFIX = "transcript--"

THEME_VARIABLES = {
    "role-user": "user",
    "role-assistant": "assistant",
    "role-system": "system",
    "change": "change",
    "muted": "muted",
    "address": "muted",
    "code-label": "muted",
    "code-comment": "muted",
    "dimmed": "muted",
    "note": "muted",
    "thought": "muted",
    **{f"heat-{level}": "heat-text" for level in range(1, 6)},
}
"""Variables of llmchat's own themes, by the look whose text they colour."""

BACKGROUND_VARIABLES = {
    "change": "change-background",
    **{f"heat-{level}": f"heat-{level}" for level in range(1, 6)},
}
"""The same for what lies behind the text."""

LOOK_STYLES = {
    "role-user": "color: $text-accent; text-style: bold;",
    "role-assistant": "color: $text-primary; text-style: bold;",
    "role-system": "color: $text-secondary; text-style: bold;",
    "muted": "color: $text-muted;",
    "dimmed": "color: $text-muted;",
    "rule": "color: $foreground 30%;",
    "notice": "color: $text-warning;",
    "note": "color: $text-muted; text-style: italic;",
    "error": "color: $text-error;",
    "thought": "color: $text-muted; text-style: italic;",
    "change": "color: $text-warning; background: $warning 14%;",
    "cursor": "color: $primary;",
    "strong": "text-style: bold;",
    "emphasis": "text-style: italic;",
    "strike": "text-style: strike;",
    "code": "color: $text-accent; background: $foreground 8%;",
    "link": "color: $text-primary; text-style: underline;",
    "address": "color: $text-muted;",
    "heading": "color: $text-primary; text-style: bold;",
    "heading-1": "text-style: bold underline;",
    "heading-2": "text-style: bold;",
    "heading-3": "text-style: bold italic;",
    "bullet": "color: $text-primary;",
    "quote": "text-style: italic;",
    "quote-bar": "color: $primary;",
    "table-header": "text-style: bold;",
    "code-block": "background: $foreground 5%;",
    "code-label": "color: $text-muted; text-style: italic;",
    "code-comment": "color: $text-muted; text-style: italic;",
    "code-keyword": "color: $text-primary; text-style: bold;",
    "code-string": "color: $text-success;",
    "code-number": "color: $text-warning;",
    "code-name": "color: $text-accent;",
    "code-builtin": "color: $text-secondary;",
    "selected": "background: $primary 9%;",
    "selected-bar": "color: $primary;",
    "selection": "color: $screen-selection-foreground; background: $screen-selection-background;",
    "match": "background: $warning 25%; text-style: underline;",
    "match-current": "color: $warning; text-style: bold reverse;",
    "heat-1": "background: $success 20%;",
    "heat-2": "background: $success 10%;",
    "heat-3": "background: $warning 15%;",
    "heat-4": "background: $warning 30%; text-style: underline;",
    "heat-5": "background: $error 30%; text-style: bold underline;",
    "token-cursor": "color: $primary; background: $background; text-style: bold reverse;",
    "new-text": "color: $primary; text-style: bold reverse;",
}
"""CSS of each look. Those that carry meaning differ in more than their colour."""

NO_BACKGROUND_IN_ANSI = ("change", "code", "code-block", "selected", "match")
"""The terminal's own colours have no faint ones; these looks differ by more than what lies behind them."""

COMPONENT_CLASSES = frozenset(PREFIX + look for look in LOOK_STYLES)


def look_css(widget: str) -> str:
    """The CSS rules of all looks for a widget type."""
    rules = "\n".join(f"    & > .{PREFIX}{look} {{ {style} }}" for look, style in LOOK_STYLES.items())
    ansi = "\n".join(f"    &:ansi > .{PREFIX}{look} {{ background: transparent; }}" for look in NO_BACKGROUND_IN_ANSI)
    return f"{widget} {{\n{rules}\n{ansi}\n}}\n"
