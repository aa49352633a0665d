"""Tables that fit where they are printed: numbers stay whole, names get short, columns go."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

SPACE = 2  # between columns
ELLIPSIS = "…"


@dataclass(frozen=True)
class Column:
    """One column of a table.

    `drop` says how soon a narrow screen does without it: the largest first, 0 never. What is no
    number may become shorter, down to `least` characters: a "name" in its middle, a "text" by
    going on in the next line (the last column alone). `note` explains it below the table.
    """

    title: str
    drop: int = 0
    kind: Literal["number", "word", "name", "text"] = "number"
    least: int = 12
    most: int = 1000
    note: str = ""

    @property
    def shrinks(self) -> bool:
        """Tell whether its cells may be shortened."""
        return self.kind in ("name", "text")


@dataclass(frozen=True)
class FittedTable:
    """Rows of texts under titles, with a total in bold; printed at the width that there is."""

    columns: tuple[Column, ...]
    rows: Sequence[Sequence[str]]
    total: Sequence[str] | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines that fit, then what was left out and the notes of what was not."""
        shown = self._shown(options.max_width)
        widths = self._widths(shown, options.max_width)
        if any(column.title for column in self.columns):
            yield self._line([column.title for column in self.columns], widths, "bold")
        for row in self.rows:
            yield self._line(row, widths)
        if self.total is not None:
            yield self._line(self.total, widths, "bold")
        missing = [c.title for i, c in enumerate(self.columns) if i not in widths]
        notes = dict.fromkeys(self.columns[i].note for i in shown if self.columns[i].note)
        if missing or notes:
            yield ""
        if missing:
            yield Text(_say_missing(missing), style="dim")
        yield from map(Text, notes)

    def _shown(self, width: int) -> list[int]:
        """Return the columns that there is room for, by their places."""
        shown = list(range(len(self.columns)))
        while sum(map(self._least, shown)) + SPACE * (len(shown) - 1) > width:
            last = max(self.columns[i].drop for i in shown)
            if not last:
                break
            shown = [i for i in shown if self.columns[i].drop != last]
        return shown

    def _widths(self, shown: Sequence[int], width: int) -> dict[int, int]:
        """Return the width of each column that is shown; names share what others leave, in turn."""
        widths = {i: self._least(i) for i in shown}
        spare = width - sum(widths.values()) - SPACE * (len(shown) - 1)
        for i in shown:
            more = max(0, min(self._natural(i) - widths[i], spare))
            widths[i] += more
            spare -= more
        return widths

    def _natural(self, place: int) -> int:
        """Return the width of a column whose cells are whole, but for what it has at most."""
        column = self.columns[place]
        rows = [*self.rows, *([self.total] if self.total is not None else [])]
        longest = max(
            (cell_len(part) for row in rows for part in row[place].split("\n")), default=0
        )
        return min(column.most, max(longest, cell_len(column.title)))

    def _least(self, place: int) -> int:
        natural = self._natural(place)
        return min(self.columns[place].least, natural) if self.columns[place].shrinks else natural

    def _line(self, row: Sequence[str], widths: dict[int, int], style: str = "") -> Text:
        """Return one row; where its last cell is a text, as many lines as that takes."""
        *cells, last = widths
        head = "".join(self._cell(i, row[i], widths[i]) + SPACE * " " for i in cells)
        lines = [self._cell(last, row[last], widths[last])]
        if self.columns[last].kind == "text":
            lines = _wrap(row[last], widths[last])
        indent = "\n" + " " * cell_len(head)
        return Text((head + indent.join(lines)).rstrip(), style, no_wrap=True, overflow="ignore")

    def _cell(self, place: int, text: str, width: int) -> str:
        if self.columns[place].kind == "number":
            return " " * (width - cell_len(text)) + text
        short = shorten(text, width)
        return short + " " * (width - cell_len(short))


def shorten(name: str, width: int) -> str:
    """Return a name of at most `width` characters, its middle replaced by an ellipsis."""
    if cell_len(name) <= width:
        return name
    end = (width - 1) // 2
    return _start(name, width - 1 - end) + ELLIPSIS + _start(name[::-1], end)[::-1]


def _start(name: str, width: int) -> str:
    """Return what of a name fits a width from its start on, without a number that does not."""
    start = set_cell_size(name, width).rstrip()
    inside = re.match(r"[.,]?\d", name[len(start) :])
    return re.sub(r"\d[\d.,]*$", "", start) if inside else start


def _wrap(text: str, width: int) -> list[str]:
    lines = Text(text).wrap(Console(width=width), width) if text else []
    return [line.plain.rstrip() for line in lines] or [""]


def _say_missing(titles: Sequence[str]) -> str:
    count = "1 column is" if len(titles) == 1 else f"{len(titles)} columns are"
    return (
        f"{count} left out at this width: {', '.join(titles)}; a wider terminal or --json shows all"
    )
