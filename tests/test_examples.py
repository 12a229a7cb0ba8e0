"""The example images are there, licensed, labelled and readable."""

import csv
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
IMAGES = sorted([*EXAMPLES.glob("photos/*"), *EXAMPLES.glob("tiles/*")])


def rows(name: str) -> dict[str, str]:
    with (EXAMPLES / name).open(newline="", encoding="utf-8") as file:
        return dict(list(csv.reader(file))[1:])


def test_each_image_has_its_licence_and_each_licence_its_image() -> None:
    table = re.findall(r"^\| (\S+\.(?:jpg|png)) \|", (EXAMPLES / "LICENSES.md").read_text(), re.M)
    assert sorted(table) == sorted(path.name for path in IMAGES)


def test_images_are_whole_and_small() -> None:
    for path in IMAGES:
        with Image.open(path) as image:
            image.load()
    assert sum(path.stat().st_size for path in IMAGES) < 2_500_000


def test_each_photo_has_a_true_label_of_a_class_that_exists() -> None:
    classes, truth = rows("classes.csv"), rows("photos-truth.csv")
    assert list(classes) == [str(label) for label in range(50)]
    assert set(truth) == {path.name for path in EXAMPLES.glob("photos/*")}
    assert set(truth.values()) <= set(classes)


def test_demo_is_a_shell_script() -> None:
    subprocess.run(["sh", "-n", EXAMPLES / "demo.sh"], check=True)


def draw(monkeypatch: pytest.MonkeyPatch, kind: str, source: Path, target: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["sheet.py", kind, str(source), str(target)])
    runpy.run_path(str(EXAMPLES / "sheet.py"), run_name="__main__")
    with Image.open(target) as image:
        image.load()


def test_sheet_of_photos_counts_those_that_are_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = rows("photos-truth.csv")
    apples = [photo for photo, label in truth.items() if label == "14"]
    lines = ["image_id,label,confidence", *(f"{photo},14,0.5" for photo in truth)]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    draw(monkeypatch, "photos", tmp_path / "labels.csv", tmp_path / "photos.jpg")
    assert f"{len(apples)} of {len(truth)} photos are right." in capsys.readouterr().out


def test_sheet_of_tiles_shows_each_tile_over_its_blend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in EXAMPLES.glob("tiles/*"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{path.stem}.png")
    draw(monkeypatch, "tiles", tmp_path, tmp_path / "tiles.jpg")
