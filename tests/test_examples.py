"""The example images are there, licensed, labelled and readable."""

import csv
import re
import subprocess
from pathlib import Path

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
    assert sum(path.stat().st_size for path in IMAGES) < 3_000_000


def test_true_labels_are_of_photos_and_classes_that_exist() -> None:
    classes, truth = rows("classes.csv"), rows("photos-truth.csv")
    assert list(classes) == [str(label) for label in range(50)]
    assert set(truth) <= {path.name for path in IMAGES}
    assert set(truth.values()) <= set(classes)


def test_demo_is_a_shell_script() -> None:
    subprocess.run(["sh", "-n", EXAMPLES / "demo.sh"], check=True)
