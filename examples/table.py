"""Print the predictions for the example photos beside their true classes, where they have one."""

import csv
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

EXAMPLES = Path(__file__).parent


def read(path: Path) -> dict[str, list[str]]:
    """The rows of a CSV file behind its header, by their first field."""
    with path.open(newline="", encoding="utf-8") as file:
        return {row[0]: row[1:] for row in list(csv.reader(file))[1:]}


def main(predictions: Path) -> None:
    """Print one row a photo, and how many of those with a true class were right."""
    names = {label: name for label, (name,) in read(EXAMPLES / "classes.csv").items()}
    truth = {photo: label for photo, (label,) in read(EXAMPLES / "photos-truth.csv").items()}
    table = Table(title="Predictions for examples/photos")
    table.add_column("photo")
    table.add_column("prediction")
    table.add_column("confidence", justify="right")
    table.add_column("true class")
    table.add_column("")
    right = 0
    for photo, (label, confidence, *_) in read(predictions).items():
        true = truth.get(photo)
        right += label == true
        mark = "" if true is None else "[green]right[/]" if label == true else "[red]wrong[/]"
        shown = "[dim]none of the 50[/]" if true is None else names[true]
        table.add_row(photo, names[label], f"{float(confidence):.2f}", shown, mark)
    console = Console()
    console.print(table)
    console.print(f"{right} right of {len(truth)} photos that have a true class")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
