"""Pictures of what the demo found: all photos with label and confidence; tiles over their masks.

python examples/sheet.py photos build/demo/photos.csv build/demo/photos.jpg
python examples/sheet.py tiles build/demo/overlays build/demo/tiles.jpg
"""

import csv
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps
from rich.console import Console
from rich.table import Table

EXAMPLES = Path(__file__).parent
LAND = {
    "urban": (0, 255, 255),
    "agriculture": (255, 255, 0),
    "rangeland": (255, 0, 255),
    "forest": (0, 255, 0),
    "water": (0, 0, 255),
    "barren": (255, 255, 255),
    "unknown": (0, 0, 0),
}
"""The masks' colours, as hw1 batch segment writes them."""

COLUMNS = 9
CELL = 148  # pixels; a picture is smaller by the frame around it
TILE = 240
GREEN, RED, INK, GREY = "#1a7f37", "#cf222e", "#1f2328", "#656d76"


def read(path: Path) -> dict[str, list[str]]:
    """The rows of a CSV file after its header, by their first field."""
    with path.open(newline="", encoding="utf-8") as file:
        return {row[0]: row[1:] for row in list(csv.reader(file))[1:]}


def photos(predictions: Path, output: Path) -> None:
    """Print a row a photo and how many are right, and draw all of them on one sheet."""
    names = {label: name for label, (name,) in read(EXAMPLES / "classes.csv").items()}
    truth = {photo: names[label] for photo, (label,) in read(EXAMPLES / "photos-truth.csv").items()}
    table = Table(title="Predictions for examples/photos")
    for column in ("photo", "prediction", "confidence", "true class", ""):
        table.add_column(column, justify="right" if column == "confidence" else "left")
    found = {
        photo: (names[label], float(confidence))
        for photo, (label, confidence, *_) in read(predictions).items()
    }
    for photo, (name, confidence) in found.items():
        mark = "[green]right[/]" if name == truth[photo] else "[red]wrong[/]"
        table.add_row(photo, name, f"{confidence:.2f}", truth[photo], mark)
    right = sum(name == truth[photo] for photo, (name, _) in found.items())
    console = Console()
    console.print(table)
    console.print(f"{right} of {len(found)} photos are right.")
    draw_photos(found, truth, output)


def draw_photos(found: dict[str, tuple[str, float]], truth: dict[str, str], output: Path) -> None:
    """Draw each photo over its prediction, framed in green where right, red where not."""
    rows = -(-len(found) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * CELL, rows * (CELL + 40)), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (photo, (name, confidence)) in enumerate(found.items()):
        left, top = index % COLUMNS * CELL, index // COLUMNS * (CELL + 40)
        colour = GREEN if name == truth[photo] else RED
        draw.rectangle((left + 3, top + 3, left + CELL - 4, top + CELL - 4), fill=colour)
        with Image.open(EXAMPLES / "photos" / photo) as image:
            square = ImageOps.fit(image.convert("RGB"), (CELL - 12, CELL - 12))
        sheet.paste(square, (left + 6, top + 6))
        line = f"{name} {confidence:.2f}"
        draw.text((left + 6, top + CELL - 1), line, colour, ImageFont.load_default(14))
        if name != truth[photo]:
            line = f"is: {truth[photo]}"
            draw.text((left + 6, top + CELL + 16), line, GREY, ImageFont.load_default(12))
    sheet.save(output, quality=85)


def tiles(overlays: Path, output: Path) -> None:
    """Draw each tile over the blend of it and its mask, and the colours' names below."""
    paths = sorted((EXAMPLES / "tiles").iterdir())
    sheet = Image.new("RGB", (len(paths) * (TILE + 6), 2 * (TILE + 6) + 50), "white")
    draw = ImageDraw.Draw(sheet)
    for index, path in enumerate(paths):
        left = index * (TILE + 6) + 3
        for row, source in enumerate((path, overlays / f"{path.stem}.png")):
            with Image.open(source) as image:
                square = ImageOps.fit(image.convert("RGB"), (TILE, TILE))
            sheet.paste(square, (left, row * (TILE + 6) + 3))
        draw.text((left, 2 * (TILE + 6)), path.stem, INK, ImageFont.load_default(14))
    left, top = 3, 2 * (TILE + 6) + 26
    for name, colour in LAND.items():
        draw.rectangle((left, top, left + 16, top + 16), fill=colour, outline=GREY)
        draw.text((left + 22, top), name, INK, ImageFont.load_default(14))
        left += 130
    sheet.save(output, quality=85)


if __name__ == "__main__":
    kind, source, target = sys.argv[1:]
    {"photos": photos, "tiles": tiles}[kind](Path(source), Path(target))
