"""What each epoch gave: metrics.csv, and TensorBoard's files where it is installed."""

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.durable import write_bytes

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Row = dict[str, float]


@dataclass
class History:
    """A row for each finished epoch; the columns are those of all rows, in order of coming."""

    rows: list[Row] = field(default_factory=list)
    tensorboard: "SummaryWriter | None" = field(default=None, init=False, repr=False)

    def add(self, row: Row) -> None:
        """Add an epoch."""
        self.rows.append(row)

    def best(self, name: str) -> int:
        """The epoch (from 1) of the best score of that name; the last where none has it.

        That's the lowest of a loss, the highest of others, the later of equal ones; a score that
        isn't a number is none.
        """
        sign = -1 if name.endswith("loss") else 1
        scored = [(sign * row[name], row["epoch"]) for row in self.rows if _has(row, name)]
        return int(max(scored)[1]) if scored else len(self.rows)

    def write(self, folder: Path) -> None:
        """Write ``metrics.csv`` again: a resumed run's file has each epoch once."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, _columns(self.rows), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_bytes(folder / "metrics.csv", [text.getvalue().encode()])
        self._write_tensorboard(folder)

    def _write_tensorboard(self, folder: Path) -> None:
        """Add the last epoch to the one file of this process.

        A resumed run begins another file, whose first step hides what a killed one wrote from
        there on.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        step = int(self.rows[-1]["step"])
        if self.tensorboard is None:
            self.tensorboard = SummaryWriter(str(folder / "tensorboard"), purge_step=step)
        for name, value in self.rows[-1].items():
            self.tensorboard.add_scalar(name, value, step)
        self.tensorboard.flush()

    def close(self) -> None:
        """Let go of TensorBoard's file."""
        if self.tensorboard is not None:
            self.tensorboard.close()
            self.tensorboard = None


def _has(row: Row, name: str) -> bool:
    return math.isfinite(row.get(name, math.nan))


def _columns(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))
