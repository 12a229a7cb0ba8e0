"""The wheel holds the whole package and nothing else, and scores an image far from the checkout."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parent.parent
NOT_PACKED = {"tests", "bench", "docs", "examples", "build", "dist"}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel holds, built from a copy: a build leaves files behind.

    The checkpoints are empty: their bytes would take longer to pack than all the rest.
    """
    copy, wheels, packed = (tmp_path_factory.mktemp(name) for name in ("copy", "wheel", "packed"))
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, copy)
        elif not path.name.startswith(".") and path.name not in ("build", "dist"):
            shutil.copytree(path, copy / path.name, copy_function=_copy)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--disable-pip-version-check", "-w", wheels, copy]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    (wheel,) = wheels.iterdir()
    with ZipFile(wheel) as file:
        file.extractall(packed)
    return packed


def _copy(source: str, target: str) -> None:
    if source.endswith(".safetensors"):
        Path(target).touch()
    else:
        shutil.copyfile(source, target)


def test_it_holds_every_module_and_nothing_else(packed: Path) -> None:
    folders = [init.parent for init in ROOT.glob("*/__init__.py")]
    assert not {folder.name for folder in folders} & NOT_PACKED
    expected = {*ROOT.glob("*.py"), ROOT / "py.typed"} - {ROOT / "setup.py"}
    for folder in folders:
        expected.update(folder.rglob("*.py"))
    for pattern in ("*.safetensors", "*.toml", "*.md"):
        expected.update((ROOT / "weights").glob(pattern))
    fetched = tomllib.loads((ROOT / "weights" / "index.toml").read_text())
    expected -= {ROOT / "weights" / name for name in fetched}
    found = {str(path.relative_to(packed / "hw1")) for path in _files(packed / "hw1")}
    assert found == {str(path.relative_to(ROOT)) for path in expected}
    (about,) = (path.name for path in packed.iterdir() if path.name != "hw1")
    assert about.endswith(".dist-info")


def test_it_scores_an_image_far_from_the_checkout(
    packed: Path, weights: Path, tmp_path: Path
) -> None:
    shutil.copy(ROOT / "examples" / "photos" / "apple.jpg", tmp_path)
    script = "import hw1; print(hw1.__file__); from hw1.cli import main; main()"
    command = [sys.executable, "-c", script, "batch", "classify", "apple.jpg", "labels.csv"]
    command += ["--engine", "inline", "--weights", str(weights), "--members", "vgg16"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(packed)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{packed / 'hw1' / '__init__.py'}\n")
    assert (tmp_path / "labels.csv").read_text().startswith("image_id,label\napple.jpg,")


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
