"""The three shapes a line of text has here: a heading, a labelled paragraph, code to paste."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from steadygrad.report.wording import visible

LABEL_WIDTH = 10
_NARROWEST = 24


@dataclass(frozen=True, slots=True)
class Heading:
    """A section's title, with an empty line before it."""

    title: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the empty line and the title."""
        del console, options
        yield Text()
        yield Text(self.title, style="bold")


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Text behind a label, wrapped so that the label stands alone in its column.

    Words are never broken: a tensor's name can be copied whole, also from a narrow terminal.

    Attributes:
        text: one paragraph.
        label: what it is; empty for text that goes on under the same label.
        style: how the text looks.
        indent: columns to the left of the label.
        label_width: columns of the label.
    """

    text: str
    label: str = ""
    style: str = ""
    indent: int = 2
    label_width: int = LABEL_WIDTH

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the wrapped lines."""
        del console
        margin = self.indent + self.label_width
        width = max(options.max_width - margin, _NARROWEST)
        lines = textwrap.wrap(visible(self.text), width, break_long_words=False, break_on_hyphens=False)
        for i, line in enumerate(lines or [""]):
            label = self.label if i == 0 else ""
            head = Text(" " * self.indent + f"{label:<{self.label_width}}", no_wrap=True, overflow="ignore")
            head.stylize("dim")
            yield head.append(line, style=f"not dim {self.style}")


@dataclass(frozen=True, slots=True)
class Code:
    """Lines to paste: never wrapped, never shortened.

    Attributes:
        code: one or more lines.
        indent: columns to the left.
    """

    code: str
    indent: int = 2 + LABEL_WIDTH + 2

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines as they are."""
        del console, options
        for line in self.code.splitlines():
            yield Text(" " * self.indent + visible(line), style="green", no_wrap=True, overflow="ignore")
