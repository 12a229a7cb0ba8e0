"""The bench's scripts run: one bench in a process of its own, and the plain script beside hw1."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from hw1.cli import main


def test_it_explains_itself(bench: Path) -> None:
    done = subprocess.run(
        [sys.executable, bench / "run.py", "--help"], capture_output=True, text=True, check=True
    )
    for name in ("classify-40", "shipped", "photos-224", "real-flow"):
        assert name in done.stdout


@pytest.mark.timeout(240)
def test_the_plain_script_writes_the_bytes_of_hw1(
    bench: Path, weights: Path, tmp_path: Path
) -> None:
    import inputs

    photos = inputs.crops(tmp_path, inputs.PHOTOS, 9, 40, ".png")
    (photos / "000003.png").rename(photos / 'a,"ü".png')
    options = ["--weights", str(weights), "--members", "vgg16"]
    assert plain_script(bench, photos, options) == hw1(photos, options)


@pytest.mark.timeout(240)
def test_the_plain_script_does_what_the_shipped_ensemble_asks_for(
    bench: Path, tmp_path: Path
) -> None:
    import inputs

    photos = inputs.crops(tmp_path, inputs.PHOTOS, 8, 40, ".png")
    assert plain_script(bench, photos, []) == hw1(photos, ["--batch-size", "8"])


def hw1(photos: Path, options: list[str]) -> bytes:
    """The CSV of hw1 in float32, in this process."""
    output = photos.parent / "ours.csv"
    words = [str(photos), str(output), *options, "--precision", "fp32", "--engine", "inline"]
    result = CliRunner().invoke(main, ["batch", "classify", *words])
    assert result.exit_code == 0, result.output
    return output.read_bytes()


def plain_script(bench: Path, photos: Path, options: list[str]) -> bytes:
    """The CSV of the plain script, in a process of its own."""
    output = photos.parent / "plain.csv"
    command = [sys.executable, bench / "plain_classify.py", photos, output, *options]
    subprocess.run(command, check=True, timeout=200)
    return output.read_bytes()
