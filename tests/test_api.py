"""hw1 as a library: models loaded in this process, and the command's jobs."""

import csv
import inspect
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import click
import numpy as np
import pytest
import torch
from PIL import Image

import hw1
from hw1 import api
from hw1.commands import batch
from hw1.core.preprocessing import Preprocessing
from hw1.jobs.folder import JobFolder
from hw1.models.checkpoints import save
from hw1.models.registry import build

NAMES = ("cat", "dog", "fish")
SQUEEZENET, LRASPP = "torchvision:squeezenet1_1", "torchvision:lraspp_mobilenet_v3_large"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small classifier and a small segmenter, of three classes, with random weights."""
    folder = tmp_path_factory.mktemp("models")
    for word, name, seen in (
        (SQUEEZENET, "labels", Preprocessing(size=32, resize=40)),
        (LRASPP, "masks", Preprocessing(size=None, resize=64)),
    ):
        torch.manual_seed(1)
        network = build(word, classes=len(NAMES))
        save(network, folder / f"{name}.safetensors", word, seen, {}, classes=hw1.Classes(NAMES))
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("in") / "photos"
    folder.mkdir()
    pixels = np.random.default_rng(0)
    for index in range(3):
        image = Image.fromarray(pixels.integers(0, 256, (50, 60 + index, 3), np.uint8))
        exif = Image.Exif()
        exif[0x112] = 6  # turned
        image.save(folder / f"{index}.jpg", exif=exif)
    return folder


@pytest.fixture(scope="module")
def classifier(models: Path) -> hw1.Classifier:
    found = hw1.load(models / "labels.safetensors", batch_size=2)
    assert isinstance(found, hw1.Classifier)
    return found


@pytest.fixture(scope="module")
def segmenter(models: Path) -> hw1.Segmenter:
    found = hw1.load(str(models / "masks.safetensors"), device="cpu", precision="fp32")
    assert isinstance(found, hw1.Segmenter)
    return found


def labels_of(path: Path) -> dict[str, list[str]]:
    with path.open(newline="") as file:
        return {row[0]: row[1:] for row in list(csv.reader(file))[1:]}


def test_labels_are_those_of_the_job(
    classifier: hw1.Classifier, models: Path, photos: Path, tmp_path: Path
) -> None:
    paths = sorted(photos.iterdir())
    found = classifier.predict(paths)
    summary = hw1.classify(
        photos,
        tmp_path / "out.csv",
        model=models / "labels.safetensors",
        engine="inline",
        batch_size=2,
        columns=["confidence", "name"],
    )
    assert (summary.scored, summary.rejected, summary.output) == (3, 0, tmp_path / "out.csv")
    rows = labels_of(tmp_path / "out.csv")
    assert rows == {
        path.name: [str(each.label), f"{each.confidence:.6f}", each.name]
        for path, each in zip(paths, found, strict=True)
    }


def test_paths_pil_images_and_arrays_give_the_same(
    classifier: hw1.Classifier, photos: Path
) -> None:
    path = photos / "0.jpg"
    with Image.open(path) as image:
        upright = np.asarray(image.transpose(Image.Transpose.ROTATE_270))
        found = classifier.predict([path, str(path), image, upright])
    assert len(found) == 4
    for each in found[1:]:
        np.testing.assert_array_equal(each.probabilities, found[0].probabilities)


def test_a_classification_is_plain_and_frozen(classifier: hw1.Classifier, photos: Path) -> None:
    (found,) = classifier.predict(np.zeros((1, 40, 40, 3), np.uint8))
    assert (type(found.label), found.name, found.agreement) == (int, NAMES[found.label], 1.0)
    assert (found.probabilities.dtype, found.probabilities.shape) == (np.float32, (3,))
    assert found.top(2)[0] == (found.name, found.confidence)
    assert [name for name, _ in found.top(9)] == [
        NAMES[label] for label in np.argsort(-found.probabilities)
    ]
    assert "probabilities" not in repr(found)
    with pytest.raises(AttributeError):
        found.label = 3  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        found.probabilities[0] = 1
    assert classifier.predict(iter(())) == []


def test_masks_are_those_of_the_job(
    segmenter: hw1.Segmenter, models: Path, photos: Path, tmp_path: Path
) -> None:
    paths = sorted(photos.iterdir())
    found = segmenter.predict(paths)
    model = models / "masks.safetensors"
    summary = hw1.segment(str(photos), tmp_path / "masks", model=model, engine="inline")
    assert (summary.task, summary.scored) == ("segment", 3)
    for path, each in zip(paths, found, strict=True):
        with Image.open(tmp_path / "masks" / f"{path.stem}.png") as mask:
            np.testing.assert_array_equal(each.coloured(), np.asarray(mask))
        assert each.mask.dtype == np.uint8
        assert each.mask.shape == (60 + int(path.stem), 50)  # upright
        assert sum(each.shares().values()) == pytest.approx(1)
        assert not each.mask.flags.writeable


def test_members_of_a_folder_vote_together(models: Path, photos: Path, tmp_path: Path) -> None:
    content = (models / "labels.safetensors").read_bytes()
    for name in ("a", "b"):
        (tmp_path / f"{name}.safetensors").write_bytes(content)
    toml = '[weights]\n"a.safetensors" = 1\n"b.safetensors" = 2\n'
    (tmp_path / "ensemble.toml").write_text(toml)
    found = hw1.load(tmp_path, batch_size=1, threads=1)
    assert found.members == ("a.safetensors", "b.safetensors")
    assert found.predict([photos / "0.jpg"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("photos/0.jpg", r"give predict\(\[image\]\)"),
        (np.zeros((4, 4, 3), np.uint8), r"give predict\(\[image\]\)"),
        ([np.zeros((4, 4, 3))], r"image 0: expected uint8 \(H, W, 3\), found float64 \(4, 4, 3\)"),
        ([np.zeros((4, 4), np.uint8)], r"found uint8 \(4, 4\)"),
        ([7], "image 0: expected a path, a PIL image, or uint8 .*, found int"),
        (["none.jpg"], "none.jpg: gone: No such file"),
    ],
)
def test_what_is_no_image_is_said(classifier: hw1.Classifier, given: object, message: str) -> None:
    with pytest.raises(hw1.InputError, match=message):
        classifier.predict(given)  # type: ignore[arg-type]


def test_a_damaged_image_is_named(classifier: hw1.Classifier, photos: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes((photos / "0.jpg").read_bytes()[:2000])
    with pytest.raises(hw1.InputError, match=r"bad.jpg: truncated"):
        classifier.predict([bad])
    with Image.open(bad) as image, pytest.raises(hw1.InputError, match="image 0 can't be decoded"):
        classifier.predict([image])


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("vgg61", {}, "did you mean vgg16"),
        ("none.safetensors", {}, "none.safetensors"),
        ("vgg16", {"device": "gpu"}, "device 'gpu': .*cpu, cuda"),
        ("vgg16", {"precision": "fp23"}, "did you mean fp32"),
        ("vgg16", {"batch_size": 0}, "batch_size: expected a whole number from 1, found 0"),
        (".", {"weights": "weights"}, "without weights"),
        ("x.onnx", {"weights": "weights"}, "without weights"),
    ],
)
def test_what_cannot_be_loaded_is_said(
    model: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(hw1.InputError, match=message):
        hw1.load(model, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colums": "name"}, "no option 'colums': did you mean columns"),
        ({"as_json": True}, "no option 'as_json'"),
        (
            {"columns": "nam"},
            "columns: expected among confidence, agreement, voters, name, found 'nam'",
        ),
        ({"device": "gpu"}, "device: 'gpu' is not one of 'auto', 'cpu', 'cuda'"),
        ({"top_k": 0}, "top_k: 0 is not in the range"),
        ({"max_rejected": "some"}, "max_rejected: expected a number or a percentage"),
        ({"bands": (1, 2)}, "bands: expected three bands"),
        ({"engine": "inline", "actors": 2}, "actors needs --engine ray"),
    ],
)
def test_a_wrong_option_is_said_before_anything_is_done(
    options: dict[str, object], message: str, models: Path, photos: Path, tmp_path: Path
) -> None:
    given = {"model": models / "labels.safetensors", **options}
    with pytest.raises(hw1.InputError, match=message):
        hw1.classify(photos, tmp_path / "out.csv", **given)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_sources_that_are_none_are_said(tmp_path: Path) -> None:
    with pytest.raises(hw1.InputError, match="source"):
        hw1.classify(None, tmp_path / "out.csv")  # type: ignore[arg-type]
    with pytest.raises(hw1.InputError, match="output: expected a file's name"):
        hw1.classify("photos", f"{tmp_path}/out/")


@pytest.mark.parametrize(
    ("command", "options"),
    [(batch.classify, api.ClassifyOptions), (batch.segment, api.SegmentOptions)],
)
def test_every_option_of_the_command_has_its_type(command: click.Command, options: type) -> None:
    names = {parameter.name for parameter in command.params}
    assert set(get_type_hints(options)) == names - api._NOT_HERE


def test_the_job_records_the_command_that_does_the_same(
    models: Path, photos: Path, tmp_path: Path
) -> None:
    model, output = models / "labels.safetensors", tmp_path / "out.csv"
    options = {"model": model, "engine": "inline", "top_k": 2, "include": ["*.jpg", "*.png"]}
    summary = hw1.classify(photos, output, columns=["name", "name"], tta=True, **options)
    command = JobFolder(summary.job).read().command
    assert command[:5] == ["hw1", "batch", "classify", str(photos), str(output)]
    parsed = batch.classify.make_context("classify", command[3:]).params
    assert parsed["include"] == ("*.jpg", "*.png")
    assert (parsed["columns"], parsed["tta"], parsed["top_k"]) == (("name",), True, 2)


def test_a_job_runs_in_another_thread_resumes_and_prints_nothing(
    models: Path, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found: list[hw1.Summary] = []

    def job() -> None:
        model = models / "labels.safetensors"
        found.append(hw1.classify(photos, tmp_path / "out.csv", model=model, engine="inline"))

    for _ in range(2):
        thread = threading.Thread(target=job)
        thread.start()
        thread.join()
    assert [(each.scored, each.resumed) for each in found] == [(3, 0), (3, 3)]
    with pytest.raises(hw1.Refused):
        hw1.classify(
            photos,
            tmp_path / "out.csv",
            model=models / "labels.safetensors",
            top_k=2,
            engine="inline",
        )
    assert capfd.readouterr() == ("", "")


def test_import_is_light_and_all_names_are_there() -> None:
    program = """
import sys, hw1
assert not {"numpy", "torch", "ray", "click", "PIL"} & set(sys.modules), sorted(sys.modules)
assert set(hw1.__all__) <= set(dir(hw1))
try:
    hw1.nothing
except AttributeError as error:
    assert "hw1" in str(error)
else:
    sys.exit(1)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    for name in hw1.__all__:
        assert inspect.isclass(getattr(hw1, name)) or callable(getattr(hw1, name))


def blocks() -> list[str]:
    text = (Path(__file__).parents[1] / "docs" / "python.md").read_text()
    return re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)


def run_blocks(
    which: list[str], models: Path, photos: Path, folder: Path, patch: pytest.MonkeyPatch
) -> None:
    """Run code of the docs in a folder that has what it names."""
    (folder / "photos").mkdir()
    for name, index in (("cat.jpg", 0), ("dog.png", 1)):
        with Image.open(photos / f"{index}.jpg") as image:
            image.save(folder / "photos" / name)
    (folder / "my.safetensors").symlink_to(models / "labels.safetensors")
    (folder / "masks.safetensors").symlink_to(models / "masks.safetensors")
    patch.chdir(folder)
    exec("\n".join(which), {"hw1": hw1})


def test_the_code_of_the_docs_runs(
    models: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_blocks([b for b in blocks() if "ray.init" not in b], models, photos, tmp_path, monkeypatch)
    out = capsys.readouterr().out
    assert "2 0 {}" in out
    assert "top_k" in out  # why the last job is refused
    assert (tmp_path / "masks" / "cat.png").is_file()
    assert (tmp_path / "mask.png").is_file()


@pytest.fixture
def initialised_ray() -> Iterator[None]:
    """A Ray of the caller's, with one processor."""
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        yield
        assert ray.is_initialized()
    finally:
        ray.shutdown()


@pytest.mark.ray
@pytest.mark.timeout(400)
@pytest.mark.filterwarnings("ignore")  # of Ray's own init
@pytest.mark.usefixtures("initialised_ray")
def test_a_ray_that_is_there_is_used_from_any_thread(
    models: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    capfd.readouterr()
    model, found = models / "labels.safetensors", []
    thread = threading.Thread(
        target=lambda: found.append(hw1.classify(photos, tmp_path / "a.csv", model=model))
    )
    thread.start()
    thread.join()
    assert [each.scored for each in found] == [3]
    hw1.classify(photos, tmp_path / "b.csv", model=model, engine="inline", threads=1)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    with pytest.raises(hw1.InputError, match="Ray runs in this process already"):
        hw1.classify(photos, tmp_path / "c.csv", model=model, address="auto")
    run_blocks([b for b in blocks() if "ray.init" in b], models, photos, tmp_path, monkeypatch)
    assert len(labels_of(tmp_path / "with_ray.csv")) == 2
    assert capfd.readouterr().out == ""


@pytest.mark.ray
@pytest.mark.timeout(400)
def test_a_job_in_another_thread_starts_a_ray_of_its_own_and_ends_it(
    models: Path, photos: Path, tmp_path: Path
) -> None:
    program = """
import sys, threading, hw1
source, output, model = sys.argv[1:]
thread = threading.Thread(target=lambda: hw1.classify(source, output, model=model))
thread.start()
thread.join()
import ray
assert not ray.is_initialized()
"""
    given = [photos, tmp_path / "a.csv", models / "labels.safetensors"]
    found = subprocess.run([sys.executable, "-c", program, *given], check=True, stdout=-1)
    assert found.stdout == b""
    assert len(labels_of(tmp_path / "a.csv")) == 3


def test_an_architecture_is_no_model() -> None:
    with pytest.raises(
        hw1.InputError, match=f"{SQUEEZENET} is an architecture, .*hw1 models import"
    ):
        hw1.load(SQUEEZENET)
