"""The command line, through the commands that a person types, with real networks."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from networks import save_network
from PIL import Image

from fakes import write_grey
from hw1.cli import main
from hw1.core.numerics import detect
from hw1.core.spec import ClassifySpec, SegmentSpec
from hw1.jobs.classify import ClassifyJob
from hw1.jobs.segment import SegmentJob

INLINE = ["--engine", "inline", "--device", "cpu", "--threads", "1"]


def hw1(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def rows_of(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text().splitlines()))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for index in range(6):
        pixels = random.integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


def test_help_names_every_command_and_loads_neither_torch_nor_ray() -> None:
    code = "import sys, hw1.cli as c; c.main(['--help'], standalone_mode=False); "
    code += "print([m for m in ('torch', 'ray', 'numpy', 'sklearn', 'rich') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")
    for name in ("batch", "evaluate", "plot", "train", "models", "jobs"):
        assert f"\n  {name} " in done.stdout


COMMANDS = """
    batch classify, batch segment, batch plan classify, batch plan segment, evaluate classify,
    evaluate segment, plot tsne, plot masks, train classify, train segment, train ensemble, models,
    models import, jobs list, jobs show, jobs verify
"""


@pytest.mark.parametrize("command", [" ".join(name.split()) for name in COMMANDS.split(",")])
def test_every_command_has_help(command: str) -> None:
    done = hw1(*command.split(), "--help")
    assert done.exit_code == 0, done.output
    assert "Usage:" in done.output


def test_classify_end_to_end(images: Path, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    done = hw1("batch", "classify", images, out, "--weights", weights, *INLINE)
    assert done.exit_code == 0, done.output
    assert "6 of 6 images scored" in done.stdout
    rows = rows_of(out)
    assert rows[0] == ["image_id", "label"]
    assert [row[0] for row in rows[1:]] == [f"{index}.png" for index in range(6)]
    assert hw1("jobs", "verify", out).exit_code == 0
    listed = json.loads(hw1("jobs", "list", tmp_path, "--json").stdout)
    assert [(job["state"], job["planned"]) for job in listed] == [("done", 6)]
    assert "done" in hw1("jobs", "show", out).stdout
    out.write_bytes(out.read_bytes().replace(b"3.png,", b"3.png,1"))
    wrong = hw1("jobs", "verify", out)
    assert wrong.exit_code == 1
    assert "0.png to 5.png" in wrong.stdout


def test_labels_are_plain_torchs(images: Path, weights: Path, tmp_path: Path) -> None:
    import torch

    from hw1.models.checkpoints import load
    from hw1.models.store import Store

    network = load(Store(weights).checkpoint("vgg16"))
    expected = []
    for index in range(6):
        with Image.open(images / f"{index}.png") as image:
            crop = image.convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(crop)).permute(2, 0, 1)[None] / 255
        with torch.inference_mode():
            expected.append(int(network(pixels).argmax()))
    out = tmp_path / "out.csv"
    hw1("batch", "classify", images, out, "--weights", weights, *INLINE)
    assert [int(row[1]) for row in rows_of(out)[1:]] == expected


def test_segment_end_to_end(images: Path, weights: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    done = hw1("batch", "segment", images, masks, "--weights", weights, "--json", *INLINE)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["scored"] == 6
    for index in range(6):
        with Image.open(masks / f"{index}.png") as mask:
            assert (mask.mode, mask.size) == ("RGB", (50, 40))
    assert hw1("jobs", "verify", masks).exit_code == 0
    report = hw1("evaluate", "segment", masks, masks, "--json")
    assert report.exit_code == 0, report.output


def test_a_job_in_a_list_shows_its_output(
    images: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a-folder-with-a-long-name" / "labels-of-all-photos.csv"
    out.parent.mkdir()
    hw1("batch", "classify", images, out, "--weights", weights, *INLINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "40")
    piped = hw1("jobs", "list").stdout
    assert str(out.relative_to(tmp_path)) in piped
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    assert str(out.relative_to(tmp_path)) in hw1("jobs", "list").stdout


def test_outputs_with_odd_names_are_listed(images: Path, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "[b" / "o]\udcff.csv"
    out.parent.mkdir()
    words = [sys.executable, "-m", "hw1", "batch", "classify", images, out, "--weights", weights]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    for command in ([*words, *INLINE], [*words[:3], "jobs", "list", out.parent]):
        done = subprocess.run(command, capture_output=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        assert b"o]" in done.stdout


def test_a_job_is_done_though_its_summary_is_not_read(
    images: Path, weights: Path, tmp_path: Path
) -> None:
    reader, closed = os.pipe()
    os.close(reader)
    words = [sys.executable, "-m", "hw1", "batch", "classify", images, tmp_path / "out.csv"]
    with Path("/dev/full").open("w") as full:
        for stdout, code, said in ((closed, 0, b""), (full, 4, b"summary cannot be printed")):
            done = subprocess.run(
                [*words, "--weights", weights, *INLINE],
                stdout=stdout,
                stderr=subprocess.PIPE,
                check=False,
            )
            assert done.returncode == code
            assert said in done.stderr
            lines = [line for line in done.stderr.splitlines() if line.startswith(b"hw1:")]
            assert len(lines) == (code > 0)  # beside what a slow start says
    os.close(closed)


@pytest.mark.parametrize("words", ["models", "--help", "models --help", "--version"])
def test_a_reader_that_has_its_lines_is_no_bug(words: str) -> None:
    reader, closed = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "hw1", *words.split()]
    done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, check=False)
    os.close(closed)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("words", ["models", "--help", "models --help", "--version"])
def test_what_is_printed_on_a_full_disk_is_an_error_of_a_line(words: str) -> None:
    command = [sys.executable, "-m", "hw1", *words.split()]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 4
    assert done.stderr.splitlines() == [
        b"hw1: No space left on device: make room, and give the same command again"
    ]


def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    images: Path, weights: Path, tmp_path: Path
) -> None:
    for words in (["batch", "plan", "classify"], ["batch", "classify", "--dry-run"]):
        out = tmp_path / "out.csv"
        few = ("--batch-size", 4)  # a batch is timed
        done = hw1(*words, images, out, "--weights", weights, "--json", *few, *INLINE)
        assert done.exit_code == 0, done.output
        plan = json.loads(done.stdout)
        assert (plan["images"], plan["shards"], plan["members"]) == (6, 1, ["vgg16"])
    done = hw1("batch", "plan", "segment", images, tmp_path / "m", "--weights", weights, *INLINE)
    assert done.exit_code == 0, done.output
    assert "6 (6 .png)" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_rejected_images_give_exit_code_3(images: Path, weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_grey(folder / "good.png", 9)
    (folder / "bad.png").write_bytes(b"")
    words = ["batch", "classify", folder, tmp_path / "out.csv", "--weights", weights, *INLINE]
    done = hw1(*words)
    assert done.exit_code == 3
    assert "1 empty" in done.stdout
    assert "rejected.csv" in done.stdout
    assert hw1(*words, "--rejected-ok").exit_code == 0


def test_workers_find_the_weights_whatever_folder_they_run_in(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(weights.parent)
    folder = Path(weights.name)
    classify = ClassifyJob.open(ClassifySpec(source=".", output=tmp_path / "o.csv", weights=folder))
    segment = SegmentJob.open(SegmentSpec(source=".", output=tmp_path / "m", weights=folder))
    profile = detect("cpu", "fp32", 1, 1)
    found = classify.work(tmp_path, tmp_path, profile).checkpoints
    for checkpoint in (*found, segment.work(tmp_path, tmp_path, profile).checkpoint):
        assert checkpoint.path.is_absolute()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["classify", "nowhere", "o.csv"], "nowhere"),
        (["classify", "empty", "o.csv"], "empty"),
        (["classify", "@list.txt", "o.csv"], "list.txt"),
        (["classify", "s3://photos/", "o.csv"], "found an address"),
        (["classify", "in", "no/o.csv"], "no folder"),
        (["classify", "in", "in"], "found a folder"),
        (["classify", "in", "."], "found a folder"),
        (["classify", "in", ".."], "found a folder"),
        (["classify", "in", "/"], "found a folder"),
        (["classify", "in", "o.csv", "--timeout", "inf"], "604800"),
        (["classify", "in", "o.csv", "--timeout", "nan"], "expected a finite number"),
        (["segment", "in", "m", "--timeout", "1e10"], "604800"),
        (["classify", "in", "o" * 253], "File name too long"),
        (["classify", "in", "o" * 300], "File name too long"),
        (["segment", "in", "o" * 300], "File name too long"),
        (["classify", "in", "o.csv", "--members", "vgg61"], "did you mean vgg16"),
        (["classify", "in", "o.csv", "--members", "resnet152"], "no checkpoint of resnet152"),
        (["classify", "in", "o.csv", "--device", "cuda"], "no GPU"),
        (["classify", "in", "o.csv", "--precision", "fp16"], "needs a GPU"),
        (["classify", "in", "o.csv", "--actors", "2"], "--engine ray"),
        (
            ["classify", "in", "o.csv", "--columns", "luck"],
            "among confidence, agreement, voters, name",
        ),
        (["classify", "in", "o.csv", "--max-rejected", "few"], "0.5%"),
        (["classify", "in", "o.csv", "--weights", "in"], "no checkpoint"),
        (["classify", "in", "o.csv", "--weights", "bad"], "vgg16.safetensors"),
        (["classify", "twice/a.jpg", "twice/a.png", "in/1.png", "o.csv"], "quote a glob"),
        (["plan", "segment", "twice/a.jpg", "twice/a.png", "in/1.png", "m"], "IN and MASKS/"),
        (["segment", "in", "in/1.png"], "found a file"),
        (["segment", "in/1.png", "mask.png"], "expected a folder's name"),
        (["classify", "in", "o/"], "found a folder's"),
        (["classify", "in", "o.csv", "--scores", "o/"], "found a folder's"),
        (["segment", "in", "m", "--overlay", "m/o"], "outside MASKS"),
        (["segment", "in", "m", "--overlay", "in/../m"], "outside MASKS"),
        (["segment", "in", "o/m", "--overlay", "o"], "around it"),
        (["segment", "in", "in"], "among the images"),
        (["classify", "in", "o.csv", "--scores", "in/../o.csv"], "that is OUT"),
        (["plan", "classify", "in", "o.csv", "--actors", "2"], "--engine ray"),
        (["segment", "twice", "m"], "--keep-suffix"),
        (["plan", "segment", "twice", "m"], "--keep-suffix"),
    ],
)
def test_a_mistake_is_reported_in_a_line_or_two_with_exit_code_2(
    words: list[str], said: str, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    write_grey(Path("in/1.png"), 9)
    write_grey(Path("twice/a.jpg"), 9)
    write_grey(Path("twice/a.png"), 9)
    Path("empty").mkdir()
    Path("bad").mkdir()
    Path("bad/vgg16.safetensors").write_bytes(b"rubbish")
    before = sorted(Path().rglob("*"))
    given = [] if "--weights" in words else ["--weights", str(weights)]
    done = hw1("batch", *words, *given, "--engine", "inline")
    assert done.exit_code == 2, done.output
    assert said in done.stderr
    assert "Traceback" not in done.output
    assert len(done.stderr.splitlines()) <= 4  # click's own errors begin with the usage
    assert sorted(Path().rglob("*")) == before


def test_a_column_that_is_named_twice_is_written_once(
    images: Path, weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    words = ("--columns", "agreement,confidence,agreement", "--weights", weights, *INLINE)
    assert hw1("batch", "classify", images, out, *words).exit_code == 0
    assert out.read_text().splitlines()[0] == "image_id,label,agreement,confidence"


LONG = "n" * 300


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "classify", "labels.csv", LONG],
        ["evaluate", "segment", LONG, "in"],
        ["jobs", "list", LONG],
        ["models", "--weights", LONG],
        ["models", "import", LONG, "--member", "vgg16"],
        ["models", "import", "in/1.png", "--member", "vgg16", "--output", LONG],
        ["plot", "curves", LONG, "o.png"],
        ["plot", "curves", "in", f"{LONG}.png"],
        ["train", "classify", LONG, "--member", "vgg16", "--output", "run"],
        ["train", "classify", "in", "--member", "vgg16", "--output", "run", "--validation", LONG],
        ["train", "ensemble", LONG, "--weights", "in"],
        ["train", "soup", LONG, LONG, "--output", "o.safetensors"],
        ["train", "soup", "in/1.png", "in/1.png", "--output", LONG],
    ],
)
def test_a_name_that_is_too_long_is_reported_by_every_command(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_grey(Path("in/1.png"), 9)
    Path("labels.csv").write_text("image_id,label\n1.png,0\n")
    done = hw1(*words)
    assert done.exit_code == 2, done.output
    assert "File name too long" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "secret/x"), 2),
        (PermissionError(errno.EPERM, "Operation not permitted", b"secret/x"), 2),
        (PermissionError(errno.EACCES, "Permission denied"), 1),
        (OSError(errno.EIO, "Input/output error", "secret/x"), 1),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "secret/x"), 1),
    ],
)
def test_a_path_that_may_not_be_looked_at_is_reported_and_other_errors_are_bugs(
    error: OSError, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(folder: Path) -> None:
        raise error

    monkeypatch.setattr("hw1.jobs.inspect.find_jobs", fails)
    done = hw1("jobs", "list")
    assert done.exit_code == code
    if code == 2:
        assert done.stderr.startswith(f"hw1: secret/x: {error.strerror}: ")
        assert len(done.stderr.splitlines()) == 1
    else:
        assert done.exception is error


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("segment", "hw1 batch segment, hw1 evaluate segment, hw1 train segment?"),
        ("tsne", "hw1 plot tsne?"),
        ("vgg16", "hw1 models vgg16?"),
        ("bacth", "hw1 batch?"),
    ],
)
def test_a_command_without_its_group_is_explained(name: str, meant: str) -> None:
    done = hw1(name, "in", "out")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.endswith(f"Did you mean {meant}\n")


def test_an_interrupt_says_how_it_goes_on_where_it_does(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object, **words: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hw1.jobs.run.run_job", interrupt)
    monkeypatch.setattr("hw1.training.train.train", interrupt)
    monkeypatch.setattr("hw1.jobs.inspect.find_jobs", interrupt)
    batch = ["batch", "classify", tmp_path, tmp_path / "o.csv", "--weights", weights, *INLINE]
    train = ["train", "classify", tmp_path, "--member", "vgg16", "--output", tmp_path]
    goes_on = "; the same command goes on from here"
    again = "; without --overwrite the same command goes on from what is there"
    for words, said in (
        (batch, goes_on),
        ([*batch, "--overwrite"], again),
        (train, goes_on),
        ([*train, "--overwrite"], again),
        (["jobs", "list"], ""),
    ):
        done = hw1(*words)
        assert (done.exit_code, done.stderr) == (130, f"hw1: interrupted{said}\n")


def test_bad_weights_do_not_cost_an_earlier_result(
    images: Path, weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    assert hw1("batch", "classify", images, out, "--weights", weights, *INLINE).exit_code == 0
    before = out.read_bytes()
    damaged = bytearray((weights / "vgg16.safetensors").read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "vgg16.safetensors").write_bytes(damaged)
    bad = tmp_path / "bad"
    done = hw1("batch", "classify", images, out, "--weights", bad, "--overwrite", *INLINE)
    assert done.exit_code == 2, done.output
    assert out.read_bytes() == before
    assert hw1("jobs", "verify", out).exit_code == 0


def test_options_have_environment_variables(
    images: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HW1_BATCH_CLASSIFY_MEMBERS", "vgg61")
    done = hw1("batch", "classify", images, tmp_path / "o.csv", "--weights", weights, *INLINE)
    assert (done.exit_code, "vgg61" in done.stderr) == (2, True)


def commands_below(
    group: click.Group, context: click.Context
) -> Iterator[tuple[click.Command, click.Context]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        below = click.Context(command, info_name=name, parent=context)
        yield command, below
        if isinstance(command, click.Group):
            yield from commands_below(command, below)


def test_every_options_variable_is_named_as_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    root = click.Context(main, info_name="hw1", auto_envvar_prefix="HW1")
    names = set()
    for command, context in commands_below(main, root):
        for option in command.params:
            if isinstance(option, click.Option):
                long = next(name for name in option.opts if name.startswith("--"))
                words = [*context.command_path.split(), long.removeprefix("--")]
                name = "_".join(words).replace("-", "_").upper()
                monkeypatch.setenv(name, "given")
                assert option.resolve_envvar_value(context) == "given", name
                names.add(name)
    assert {"HW1_JOBS_LIST_JSON", "HW1_MODELS_VGG16_JSON", "HW1_PLOT_MASKS_CHECKPOINT"} <= names


def test_json_by_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HW1_JOBS_LIST_JSON", "1")
    assert hw1("jobs", "list", tmp_path).stdout == "[]\n"


@pytest.mark.timeout(180)
def test_an_interrupted_job_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    """By Ctrl-C; SIGKILL and SIGTERM are among the faults of tests/chaos."""
    for index in range(120):
        write_grey(tmp_path / "in" / f"{index:03d}.png", index)
    out = tmp_path / "out.csv"
    model = save_network(tmp_path / "a.safetensors", "timm:test_efficientnet")
    words = ["batch", "classify", str(tmp_path / "in"), str(out), "--model", str(model)]
    words += [*INLINE, "--batch-size", "1", "--shard-size", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "hw1", *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    ledger = tmp_path / "out.csv.job" / "ledger.jsonl"
    while not (ledger.exists() and ledger.stat().st_size):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert b"Traceback" not in said
    assert not out.exists()
    assert 0 < len(ledger.read_text().splitlines()) < 120
    done = hw1(*words)
    assert done.exit_code == 0, done.output
    assert "were done before" in done.stdout
    again = tmp_path / "again.csv"
    words[3] = str(again)
    assert hw1(*words, "--shard-size", "64").exit_code == 0
    assert again.read_bytes() == out.read_bytes()
