"""Jobs with checkpoints of other networks and classes: names, colours, forms, and equal bytes."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner, Result
from networks import PETS, random_network, save_network, save_onnx
from PIL import Image

from hw1.cli import main
from hw1.core.classes import Classes
from hw1.core.preprocessing import Preprocessing
from hw1.models.checkpoints import save
from hw1.models.importing import Given, import_checkpoint

INLINE = ["--engine", "inline", "--device", "cpu", "--threads", "1", "--precision", "fp32"]
LAND = Classes(("no", "roof", "road"), ((0, 0, 0), (200, 10, 10), (9, 9, 99)), unlabelled=0)


def hw1(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def rows_of(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text().splitlines()))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("in")
    random = np.random.default_rng(0)
    for index in range(12):
        pixels = random.integers(0, 256, (40 + index, 50, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:02}.png")
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    raw = save_onnx(folder / "raw.onnx")
    made = import_checkpoint(raw, folder / "a.onnx", Given(classes=PETS)).checkpoint
    timm = save_network(folder / "a.safetensors", "timm:test_efficientnet")
    return {"onnx": made.path, "timm": timm}


def classify(images: Path, output: Path, *options: object) -> Result:
    done = hw1("batch", "classify", images, output, "--batch-size", 2, *INLINE, *options)
    assert done.exit_code == 0, done.output
    return done


@pytest.mark.parametrize("kind", ["onnx", "timm"])
def test_names_and_ranks(kind: str, images: Path, files: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    classify(images, out, "--model", files[kind], "--top-k", 3, "--columns", "name,confidence")
    header, *rows = rows_of(out)
    ranks = ["label", "label_2", "label_3"]
    assert header == ["image_id", *ranks, "name", "name_2", "name_3", "confidence"]
    assert len(rows) == 12
    for row in rows:
        assert sorted(row[1:4]) == ["0", "1", "2"]
        assert row[4:7] == [PETS.names[int(label)] for label in row[1:4]]
    assert rows_of(tmp_path / "out.csv.job" / "classes.csv")[1:] == [
        ["0", "cat"], ["1", "dog"], ["2", "fox"],
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["onnx", "timm"])
def test_equal_bytes_whatever_the_shards_and_kills(
    kind: str, images: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    options = ["--model", files[kind], "--columns", "name,confidence"]
    classify(images, tmp_path / "a.csv", "--shard-size", 2, *options)
    classify(images, tmp_path / "b.csv", "--shard-size", 12, *options)
    expected = (tmp_path / "a.csv").read_bytes()
    assert (tmp_path / "b.csv").read_bytes() == expected
    if kind != "onnx":  # a kill takes a process of its own, which is slow to start: once will do
        return
    killed = tmp_path / "c.csv"
    words = ["batch", "classify", images, killed, "--batch-size", 2, "--shard-size", 2]
    code = "import sys; from hw1.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, *map(str, [*words, *INLINE, *options])]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    ledger = tmp_path / "c.csv.job" / "ledger.jsonl"
    while process.poll() is None and not (ledger.exists() and ledger.read_bytes()):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    classify(images, killed, "--shard-size", 2, *options)
    assert killed.read_bytes() == expected


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_equal_bytes_under_ray(images: Path, files: dict[str, Path], tmp_path: Path) -> None:
    """One job of both, since each Ray takes its time to start."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for file in files.values():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "ensemble.toml").write_text('[weights]\n"a.onnx" = 1\n"a.safetensors" = 1\n')
    options = ["--weights", folder, "--columns", "confidence"]
    classify(images, tmp_path / "inline.csv", *options)
    words = ["--batch-size", 2, "--device", "cpu", "--threads", 1, "--precision", "fp32"]
    done = hw1("batch", "classify", images, tmp_path / "ray.csv", *words, *options)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "ray.csv").read_bytes() == (tmp_path / "inline.csv").read_bytes()


def test_the_suffix_chooses_the_form(images: Path, files: dict[str, Path], tmp_path: Path) -> None:
    options = ["--model", files["onnx"], "--columns", "name,confidence"]
    for form in ("csv", "jsonl", "parquet"):
        scores = tmp_path / f"{form}_s.{'csv' if form == 'csv' else 'parquet'}"
        classify(images, tmp_path / f"out.{form}", *options, "--scores", scores)
        done = hw1("jobs", "verify", tmp_path / f"out.{form}")
        assert done.exit_code == 0, done.output
    rows = rows_of(tmp_path / "out.csv")[1:]
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    table = pq.read_table(tmp_path / "out.parquet")
    expected = [
        {"image_id": i, "label": int(label), "name": name, "confidence": float(confidence)}
        for i, label, name, confidence in rows
    ]
    assert lines == table.to_pylist() == expected
    assert json.loads(table.schema.metadata[b"classes"])["names"] == ["cat", "dog", "fox"]
    scores = pq.read_table(tmp_path / "parquet_s.parquet")
    assert [scores.schema.field(f"p{i}").metadata[b"class"] for i in range(3)] == [
        b"cat", b"dog", b"fox",
    ]  # fmt: skip
    header, *texts = rows_of(tmp_path / "csv_s.csv")
    assert header == scores.column_names
    found = np.array([[float(p) for p in row[1:]] for row in texts], np.float32)
    stored = np.stack([scores[f"p{i}"].to_numpy() for i in range(3)], 1)
    assert np.array_equal(found, stored)


def test_a_changed_result_of_each_form_is_found(
    images: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    for form in ("jsonl", "parquet"):
        out = tmp_path / f"out.{form}"
        classify(images, out, "--model", files["onnx"])
        if form == "jsonl":
            out.write_text(out.read_text().replace('"label": ', '"label": 1'))
        else:
            table = pq.read_table(out)
            pq.write_table(table.slice(0, 5), out)
        done = hw1("jobs", "verify", out)
        assert done.exit_code == 1
        assert "are not what was scored" in done.output


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("out.txt", [], "expected a name that ends in .csv, .parquet or .jsonl"),
        ("out", [], "expected a name that ends in"),
        ("out.csv", ["--scores", "s.txt"], "expected a name that ends in .parquet or .csv"),
        ("out.csv", ["--top-k", "4"], "--top-k 4: there are 3 classes"),
        (
            "out.csv",
            ["--ensemble", "fast"],
            "--model is one file: give it without --members, --ens",
        ),
        ("out.csv", ["--members", "vgg16"], "--model is one file: give it without --members"),
    ],
)
def test_bad_usage(
    name: str, options: list[str], message: str, images: Path, files: dict[str, Path],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    done = hw1("batch", "classify", images, name, "--model", files["onnx"], *INLINE, *options)
    assert done.exit_code == 2
    assert message in done.output
    assert not list(tmp_path.iterdir())


def test_files_vote_together(images: Path, files: dict[str, Path], tmp_path: Path) -> None:
    """One decode serves members of several sizes; a member's own labels are those it has alone."""
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "one.safetensors").write_bytes(files["timm"].read_bytes())
    other = Preprocessing(size=40)
    save_network(folder / "two.safetensors", "torchvision:mobilenet_v3_small", other)
    (folder / "three.onnx").write_bytes(files["onnx"].read_bytes())
    (folder / "ensemble.toml").write_text(
        'vote = "probabilities"\n[weights]\n"one.safetensors" = 1\n"two.safetensors" = 1\n'
        '"three.onnx" = 2\n'
    )
    classify(images, tmp_path / "all.csv", "--weights", folder, "--columns", "agreement")
    assert len(rows_of(tmp_path / "all.csv")) == 13
    classify(images, tmp_path / "a.csv", "--weights", folder, "--members", "one.safetensors")
    classify(images, tmp_path / "b.csv", "--model", files["timm"])
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    save_network(folder / "two.safetensors", "torchvision:mobilenet_v3_small", other, LAND)
    done = hw1("batch", "classify", images, tmp_path / "c.csv", "--weights", folder, *INLINE)
    assert done.exit_code == 2
    assert "class 0 is 'cat', and 'no'" in done.output


def test_masks_have_the_checkpoints_colours(images: Path, tmp_path: Path) -> None:
    word = "torchvision:lraspp_mobilenet_v3_large"
    file = save_network(tmp_path / "s.safetensors", word, Preprocessing(None, resize=48), LAND)
    masks = {}
    for form in ("rgb", "palette", "index"):
        folder = tmp_path / form
        options = ["--model", file, "--mask-format", form]
        done = hw1("batch", "segment", images, folder, *options, *INLINE)
        assert done.exit_code == 0, done.output
        with Image.open(folder / "00.png") as mask:
            masks[form] = mask.copy()
    index = np.asarray(masks["index"])
    assert index.shape == (40, 50)
    assert LAND.colours is not None
    expected = np.array(LAND.colours, np.uint8)[index]
    assert np.array_equal(np.asarray(masks["rgb"]), expected)
    assert np.array_equal(np.asarray(masks["palette"].convert("RGB")), expected)
    table = rows_of(tmp_path / "rgb" / ".job" / "classes.csv")
    assert table[2][:5] == ["1", "roof", "200", "10", "10"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("fcn9s", "expected a checkpoint's file, or one of fcn8s, fcn32s"),
        ("missing.onnx", "No such file"),
    ],
)
def test_no_such_segmenter(model: str, message: str, images: Path, tmp_path: Path) -> None:
    done = hw1("batch", "segment", images, tmp_path / "masks", "--model", model, *INLINE)
    assert done.exit_code == 2
    assert message in done.output


def test_a_classifier_is_no_segmenter(images: Path, files: dict[str, Path], tmp_path: Path) -> None:
    done = hw1("batch", "segment", images, tmp_path / "m", "--model", files["timm"], *INLINE)
    assert done.exit_code == 2
    assert "that is a classifier" in done.output


def test_an_onnx_segmenter(images: Path, tmp_path: Path) -> None:
    file = save_onnx(tmp_path / "s.onnx", shape=(1, 3, 32, 48), segments=True)
    done = hw1("batch", "segment", images, tmp_path / "m", "--model", file, *INLINE)
    assert done.exit_code == 0, done.output
    with Image.open(tmp_path / "m" / "03.png") as mask:
        assert mask.size == (50, 43)
    views = hw1("batch", "segment", images, tmp_path / "v", "--model", file, "--tta", *INLINE)
    assert views.exit_code == 2
    assert "--tta looks at each image in three sizes, and " in views.output
    assert not (tmp_path / "v").exists()


def test_a_job_of_one_file_is_sampled_with_that_file(images: Path, tmp_path: Path) -> None:
    file = save_onnx(tmp_path / "k.onnx")
    classify(images, tmp_path / "out.csv", "--model", file)
    words = "jobs", "verify", tmp_path / "out.csv", "--sample", 2
    done = hw1(*words)
    assert done.exit_code == 2
    assert "Give the folder or the file that scored with --weights" in done.output
    assert hw1(*words, "--weights", file).exit_code == 0


def test_a_thousand_classes(images: Path, tmp_path: Path) -> None:
    file = save_onnx(tmp_path / "k.onnx", classes=1000)
    scores = tmp_path / "s.parquet"
    classify(images, tmp_path / "out.csv", "--model", file, "--top-k", 5, "--scores", scores)
    assert len(pq.read_table(scores).column_names) == 1001


@pytest.mark.parametrize(
    ("task", "word", "size"),
    [
        ("classify", "timm:test_efficientnet", 48),
        ("segment", "torchvision:lraspp_mobilenet_v3_large", None),
    ],
)
def test_outputs_that_are_not_finite_end_the_job_with_the_members_name(
    images: Path, tmp_path: Path, task: str, word: str, size: int | None
) -> None:
    network = random_network(word, len(PETS))
    weight = list(network.parameters())[-2]  # of the last layer: finite, unlike what it gives
    torch.nn.init.constant_(weight, 3e38)
    file = tmp_path / "huge.safetensors"
    save(network, file, word, Preprocessing(size), {}, dtype="fp32", classes=PETS)
    output = tmp_path / ("o.csv" if task == "classify" else "masks")
    done = hw1("batch", task, images, output, "--model", file, *INLINE)
    assert done.exit_code == 2, done.output
    assert "huge.safetensors): its outputs aren't finite" in done.stderr
    assert not output.exists()
