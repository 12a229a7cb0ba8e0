"""The one style of all commands' tables: names to the left, numbers to the right, no frame.

No line is ever folded or cut, however narrow the terminal and wherever the output goes: a cut
number is a wrong one, and a folded line is none that ``grep`` finds.
"""

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from ..core.text import printable

_ENDLESS = 100_000  # columns: more than any table of ours has


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    title: str = "",
    left: Sequence[str] = (),
    dim: Sequence[bool] = (),
) -> None:
    """Print a table to standard output: a title, a line of columns, a line a row.

    The first column and those in ``left`` hold words, the others numbers. ``dim`` says which rows
    are pale. Cells are printed as they are, brackets are no markup; but what commands a terminal,
    or ends a line, is escaped.
    """
    console = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for number, column in enumerate(columns):
        words = number == 0 or column in left
        table.add_column(column, justify="left" if words else "right", no_wrap=True)
    pale = list(dim)
    for number, row in enumerate(rows):
        style = "dim" if number < len(pale) and pale[number] else None
        table.add_row(*(Text(_one_line(cell)) for cell in row), style=style)
    width = Measurement.get(console, console.options.update(max_width=_ENDLESS), table).maximum
    console.width = max(console.width, width)  # a terminal folds what is longer; rich would cut it
    if title:
        print_line(title)
    console.print(table)


def print_line(text: str = "") -> None:
    """Print a line as it is: a path in it stays whole, and can be copied."""
    Console(highlight=False).print(printable(text), soft_wrap=True, markup=False)


def _one_line(cell: str) -> str:
    return printable(cell).replace("\n", "\\n")
