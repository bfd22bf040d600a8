"""Choosing a file or directory: a tree of what fits, over a line for the path."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import getters, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, DirectoryTree, Tree
from textual.widgets.directory_tree import DirEntry

from llmchat.chat.plain_text import visible
from llmchat.errors import UsageError
from llmchat.files import expanded
from llmchat.ui.model_files import is_model, typed_path
from llmchat.ui.rendering.hints import clickable
from llmchat.ui.widgets.path_input import PathInput
from llmchat.ui.widgets.verdict_line import VerdictLine


class FilteredTree(DirectoryTree):
    """Directories, and the files that fit; nothing hidden."""

    HELP_HEADING = "On the tree of files"
    ICON_NODE = "▸ "
    ICON_NODE_EXPANDED = "▾ "
    ICON_FILE = "  "

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("backspace", "go_up", "The directory above", False),
    ]

    DEFAULT_CSS = """
    FilteredTree {
        height: 1fr;
        background: transparent;
        scrollbar-size: 1 1;
        padding: 0;
        & > .directory-tree--extension { text-style: none; }
        & > .directory-tree--hidden { text-style: none; }
    }
    """

    def __init__(self, path: Path, accepts: Callable[[Path], bool]) -> None:
        """A tree from `path` down."""
        self._accepts = accepts
        super().__init__(path)
        self.show_guides = False

    def filter_paths(self, paths: Iterable[Path]) -> Iterable[Path]:
        """What is shown of a directory."""
        return [path for path in paths if not path.name.startswith(".") and self._fits(path)]

    def process_label(self, label: str | Text) -> Text:
        """A name with what could steer the terminal made visible."""
        return super().process_label(visible(str(label)))

    def _fits(self, path: Path) -> bool:
        try:
            return path.is_dir() or self._accepts(path)
        except OSError:
            return False

    def action_go_up(self) -> None:
        """Show the directory above."""
        root = Path(self.path).absolute()
        self.path = root.parent


class FileBrowser(ModalScreen[Path | None]):
    """Dismisses with the chosen path, or None."""

    AUTO_FOCUS = "FilteredTree"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Choose nothing", False),
    ]

    DEFAULT_CSS = """
    FileBrowser {
        align: center middle;

        & > Vertical {
            width: 92%;
            max-width: 88;
            height: 92%;
            padding: 0 1;
            background: $surface;
            color: $foreground;
            border: round $primary;
            border-title-color: $text-primary;
            border-title-style: bold;
            border-subtitle-color: $text-muted;
        }
        & PathInput { margin-top: 1; background: $panel; padding: 0 1; }
        & VerdictLine { padding: 0 1; }
        & Horizontal { height: 1; margin-top: 1; }
        & Button { margin-right: 2; min-width: 10; }
        & #browser-up, & #browser-cancel { background: $panel; }
    }
    """

    files = getters.query_one(FilteredTree)
    line = getters.query_one(PathInput)

    def __init__(
        self,
        start: Path | None = None,
        accepts: Callable[[Path], bool] = is_model,
        title: str = "Choose a model",
    ) -> None:
        """A browser.

        Args:
            start: Where to begin: a directory, or a file in it; by default the working directory.
            accepts: Whether a path is one to choose.
            title: What is being chosen.
        """
        super().__init__()
        self._start = _directory_of(start or Path.cwd())
        self._accepts = accepts
        self._title = title

    def compose(self) -> ComposeResult:
        """The tree, the line, and what is wrong with it."""
        with Vertical() as frame:
            frame.border_title = self._title
            frame.border_subtitle = clickable("Enter opens · Backspace goes up · Esc cancels")
            yield FilteredTree(self._start, self._accepts)
            yield PathInput(placeholder="a path; Tab completes it")
            yield VerdictLine()
            with Horizontal():
                yield Button("Choose", id="browser-choose", variant="primary", compact=True)
                yield Button("Up", id="browser-up", compact=True)
                yield Button("Cancel", id="browser-cancel", compact=True)

    @on(Tree.NodeHighlighted)
    def show_path(self, event: Tree.NodeHighlighted[DirEntry]) -> None:
        """Write the path under the cursor into the line, unless the person is typing there."""
        if event.node.data is not None and self.focused is not self.line:
            self.line.write(str(event.node.data.path))

    @on(DirectoryTree.FileSelected)
    def choose_file(self, event: DirectoryTree.FileSelected) -> None:
        """Enter on a file chooses it."""
        self.dismiss(event.path)

    @on(DirectoryTree.DirectorySelected)
    def choose_directory(self, event: DirectoryTree.DirectorySelected) -> None:
        """Enter on a directory that is itself what is looked for chooses it."""
        if event.node is not self.files.root and self._accepts(event.path):
            self.dismiss(event.path)

    @on(PathInput.Changed)
    def clear_message(self) -> None:
        """What was wrong is being changed."""
        self.query_one(VerdictLine).clear()

    @on(PathInput.Submitted)
    @on(Button.Pressed, "#browser-choose")
    def choose_typed(self) -> None:
        """Take the path in the line, or show that directory."""
        try:
            path = typed_path(self.line.value, "Choose a file in the tree, or type its path.")
            if not path.exists():
                raise UsageError(f"There is no {path}.")
        except UsageError as error:
            self.query_one(VerdictLine).refuse(error.message)
            return
        if path.is_file() or self._accepts(path):
            self.dismiss(path)
        else:
            self.files.path = path
            self.files.focus()

    @on(Button.Pressed, "#browser-up")
    def go_up(self) -> None:
        """Show the directory above."""
        self.files.action_go_up()

    @on(Button.Pressed, "#browser-cancel")
    def cancel(self) -> None:
        """Choose nothing."""
        self.dismiss(None)


def _directory_of(path: Path) -> Path:
    """The nearest directory that exists, from a path upwards."""
    path = expanded(path).absolute()
    return next((place for place in (path, *path.parents) if place.is_dir()), Path.cwd())
