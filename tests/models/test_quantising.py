import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from networks import save_onnx
from PIL import Image
from rich.console import Console

from hw1.commands.models import models
from hw1.core.errors import InputError, Refused
from hw1.core.spec import ClassifySpec, SegmentSpec
from hw1.jobs.classify import ClassifyJob
from hw1.jobs.progress import Progress
from hw1.jobs.run import run_job
from hw1.jobs.segment import SegmentJob
from hw1.models.checkpoints import load, read_checkpoint


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(9):
        pixels = random.integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def run(photos: Path, **changes: object) -> bytes:
    words: dict[str, object] = {
        "source": str(photos),
        "output": photos.parent / "out.csv",
        "engine": "inline",
        "batch_size": 2,
        "shard_size": 4,
        "threads": 1,
        "columns": ("confidence",),
    }
    job = ClassifyJob.open(ClassifySpec(**(words | changes)))
    run_job(job, Progress(Console(stderr=True), quiet=True))
    content: bytes = job.spec.output.read_bytes()
    return content


@pytest.mark.timeout(300)  # nncf imports much
def test_int8_made_ahead_is_int8_made_by_the_job(tmp_path: Path, photos: Path) -> None:
    pytest.importorskip("nncf")
    model = save_onnx(tmp_path / "net.onnx")
    asked = {"precision": "int8", "model": model}
    expected = run(photos, **asked)
    folder = tmp_path / "out.csv.job"
    record = json.loads((folder / "job.json").read_text())
    assert record["decides"]["profile"]["backend"] == "openvino"
    assert record["decides"]["profile"]["precision"] == "int8"
    # Lost, the model is made again, and the rows with it.
    (folder / "int8" / "0.safetensors").unlink()
    (folder / "parts" / "0000001.csv").unlink()
    assert run(photos, **asked) == expected
    # So it is where nothing is left to score: `jobs verify --sample` needs it.
    whole = (folder / "int8" / "0.safetensors").read_bytes()
    (folder / "int8" / "0.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert run(photos, **asked) == expected
    assert (folder / "int8" / "0.safetensors").read_bytes() == whole
    assert run(photos, **asked, output=tmp_path / "other.csv", shard_size=8) == expected
    made = tmp_path / "net_int8.safetensors"
    result = CliRunner().invoke(
        models, ["quantise", str(model), "--images", str(photos)], catch_exceptions=False
    )
    assert result.exit_code == 0
    assert run(photos, model=made, output=tmp_path / "third.csv") == expected
    assert read_checkpoint(made).is_int8
    with pytest.raises(InputError, match="computes in int8"):
        run(photos, model=made, backend="torch", output=tmp_path / "no.csv")
    with pytest.raises(InputError, match=r"int8 network for scoring: .* leave it out .* --members"):
        load(read_checkpoint(made))
    # Other images give another model: the job says so instead of mixing two.
    (folder / "int8" / "0.safetensors").unlink()
    (folder / "parts" / "0000001.csv").unlink()
    for path in photos.iterdir():
        Image.new("RGB", (40, 48), (9, 9, int(path.stem))).save(path)
    with pytest.raises(Refused, match="can't be made again"):
        run(photos, **asked)


@pytest.mark.timeout(300)
def test_the_truth_says_what_int8_costs(tmp_path: Path, photos: Path) -> None:
    pytest.importorskip("nncf")

    def costs(model: Path, truth: Path) -> str:
        words = ["quantise", str(model), "--images", str(photos), "--truth", str(truth)]
        result = CliRunner().invoke(models, words, catch_exceptions=False)
        assert result.exit_code == 0
        return result.stderr.splitlines()[-1]

    labels = run(photos, model=save_onnx(tmp_path / "net.onnx"), columns=())
    (tmp_path / "truth.csv").write_bytes(labels)
    found = costs(tmp_path / "net.onnx", tmp_path / "truth.csv")
    score = re.fullmatch(r"accuracy 1\.0000, in int8 (\d\.\d{4}): ([+-]\d+\.\d{2}) points", found)
    assert score, found
    assert float(score[2]) == pytest.approx(100 * (float(score[1]) - 1))
    shape = ("n", 3, "h", "w")
    masks = save_onnx(tmp_path / "masks.onnx", shape=shape, classes=7, segments=True)
    job = SegmentJob.open(
        SegmentSpec(source=str(photos), output=tmp_path / "m", model=str(masks), engine="inline")
    )
    run_job(job, Progress(Console(stderr=True), quiet=True))
    assert costs(masks, tmp_path / "m").startswith("mIoU 1.0000, in int8 ")


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """A segmenter."""
    shape = ("n", 3, "h", "w")
    return save_onnx(tmp_path / "masks.onnx", shape=shape, classes=7, segments=True)


def quantise(*words: object) -> list[str]:
    pytest.importorskip("nncf")
    arguments = ["quantise", *map(str, words)]
    result = CliRunner().invoke(models, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stderr.splitlines()


@pytest.mark.timeout(300)
def test_true_masks_beside_their_images_are_no_images(
    tmp_path: Path, photos: Path, masks: Path
) -> None:
    spec = SegmentSpec(source=str(photos), output=tmp_path / "m", model=str(masks), engine="inline")
    run_job(SegmentJob.open(spec), Progress(Console(stderr=True), quiet=True))
    for path in list(photos.iterdir()):
        path.rename(photos / f"{path.stem} [a]_sat.png")
        (tmp_path / "m" / path.name).rename(photos / f"{path.stem} [a]_mask.png")
    said = quantise(masks, "--images", photos, "--truth", photos)
    assert said[0].startswith("left out 9 masks, NAME_mask.png beside NAME_sat")
    assert said[1].startswith("9 images, ")
    assert said[2].startswith("mIoU 1.0000, in int8 ")
    again = [masks, tmp_path / "b.safetensors", "--images", photos, "--truth", photos]
    assert quantise(*again, "--exclude", "*_mask.png") == said[1:]
    (photos / "alone_mask.png").write_bytes((photos / "0 [a]_sat.png").read_bytes())
    last = [masks, tmp_path / "c.safetensors", "--images", photos]
    assert quantise(*last)[1].startswith("10 images, ")
    assert quantise(*last, "--overwrite", "--include", "*.png")[0].startswith("19 images, ")


@pytest.mark.parametrize(
    ("truth", "message"),
    [("nope.csv", "nope.csv: can't be read"), ("masks.onnx", "can't be read as a CSV|alone")],
)
def test_a_truth_that_cannot_be_read_is_said_first(
    truth: str, message: str, tmp_path: Path, photos: Path, masks: Path
) -> None:
    network = save_onnx(tmp_path / "net.onnx")
    with pytest.raises(InputError, match=message):
        quantise(network, "--images", photos, "--truth", tmp_path / truth)
    with pytest.raises(InputError, match="expected a folder of PNG masks"):
        quantise(masks, "--images", photos, "--truth", tmp_path / truth)
    with pytest.raises(InputError, match="save the list to a file"):
        quantise(masks, "--images", "@-", "--truth", photos)
    assert not list(tmp_path.glob("*_int8.safetensors"))


def test_what_is_neither_a_file_nor_a_member(photos: Path) -> None:
    with pytest.raises(InputError, match=r"vgg99: expected .* member's name.*There are vgg16"):
        quantise("vgg99", "--images", photos)


def test_images_that_none_of_can_be_read_are_counted(tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    bad = tmp_path / "bad"
    bad.mkdir()
    for name in ("a.png", "b.jpg"):
        (bad / name).write_text("words")
    network = save_onnx(tmp_path / "net.onnx")
    message = r"net.onnx int8 with: .* found 2 that can't, the first: a.png is not_image \(its cont"
    with pytest.raises(InputError, match=message):
        quantise(network, "--images", bad)
    with pytest.raises(InputError, match=message):
        run(bad, model=network, precision="int8")
