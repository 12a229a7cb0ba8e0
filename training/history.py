"""What each epoch gave: metrics.csv, and TensorBoard's files where it is installed."""

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .state import replace_file

Row = dict[str, float]


@dataclass
class History:
    """A row for each finished epoch; the columns are those of all rows, in order of coming."""

    rows: list[Row] = field(default_factory=list)

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
        replace_file(folder / "metrics.csv", self._write_csv)
        self._write_tensorboard(folder)

    def _write_csv(self, path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, _columns(self.rows), lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)

    def _write_tensorboard(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        with SummaryWriter(str(folder / "tensorboard")) as writer:
            for name, value in self.rows[-1].items():
                writer.add_scalar(name, value, int(self.rows[-1]["step"]))


def _has(row: Row, name: str) -> bool:
    return math.isfinite(row.get(name, math.nan))


def _columns(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))
