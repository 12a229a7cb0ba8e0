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
    assert "classify-40" in done.stdout


@pytest.mark.timeout(240)
def test_the_plain_script_writes_the_bytes_of_hw1(
    bench: Path, weights: Path, tmp_path: Path
) -> None:
    import inputs

    photos = inputs.crops(tmp_path, inputs.EXAMPLES / "photos", 9, 40, ".png")
    (photos / "000003.png").rename(photos / 'a,"ü".png')
    options = ["--weights", str(weights), "--members", "vgg16"]
    ours, plain = tmp_path / "ours.csv", tmp_path / "plain.csv"
    common = [*options, "--precision", "fp32", "--engine", "inline"]
    result = CliRunner().invoke(main, ["batch", "classify", str(photos), str(ours), *common])
    assert result.exit_code == 0, result.output
    command = [sys.executable, bench / "plain_classify.py", photos, plain, *options]
    subprocess.run(command, check=True, timeout=200)
    assert plain.read_bytes() == ours.read_bytes()
