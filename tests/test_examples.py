"""The example images are there, licensed, labelled and readable; the bench cuts them repeatably."""

import csv
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
IMAGES = sorted([*EXAMPLES.glob("photos/*"), *EXAMPLES.glob("tiles/*")])


def rows(name: str) -> dict[str, str]:
    with (EXAMPLES / name).open(newline="", encoding="utf-8") as file:
        return dict(list(csv.reader(file))[1:])


@pytest.fixture(scope="module")
def inputs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("inputs", ROOT / "bench" / "inputs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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


def test_bench_cuts_the_same_crops_every_time(inputs: ModuleType, tmp_path: Path) -> None:
    made = [
        inputs.crops(folder, EXAMPLES / "photos", 13, 40, ".png")
        for folder in (tmp_path / "a", tmp_path / "b")
    ]
    one, other = ([path.read_bytes() for path in sorted(each.iterdir())] for each in made)
    assert one == other
    assert len(set(one)) == 13


def test_bench_makes_many_small_images(inputs: ModuleType, tmp_path: Path) -> None:
    files = [path for path in inputs.small_files(tmp_path, 1003).rglob("*") if path.is_file()]
    assert len(files) == 1003
    with Image.open(files[-1]) as image:
        assert image.size == (1, 1)


def test_bench_explains_itself() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "bench" / "run.py", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "classify-40" in done.stdout
