import csv
import errno
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_training as tiny
import torch
from click.testing import CliRunner
from networks import save_onnx
from PIL import Image

from hw1.cli import main
from hw1.core.errors import EnvironmentFault, InputError, Refused
from hw1.models import registry
from hw1.models.checkpoints import load
from hw1.models.store import Store
from hw1.pipeline.crops import crop
from hw1.training import loop
from hw1.training.classification import ClassificationTask
from hw1.training.recipe import Recipe
from hw1.training.segmentation import SegmentationTask
from hw1.training.state import hold, read_state
from hw1.training.train import TrainReport, train


@pytest.fixture(autouse=True)
def small_networks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(registry.CLASSIFIERS, "resnet152", tiny.TinyClassifier)
    for name in ("fcn8s", "fcn32s"):
        monkeypatch.setitem(registry.SEGMENTERS, name, tiny.TinySegmenter)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    tiny.write_photos(folder / "train_50", 3)
    tiny.write_photos(folder / "val_50", 1, seed=1)
    return folder


@pytest.fixture(scope="session")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiles")
    tiny.write_tiles(folder / "train", 16)
    tiny.write_tiles(folder / "validation", 4, seed=1)
    return folder


def run(recipe: Recipe, output: Path, **options: Any) -> TrainReport:
    return train(recipe, output, lambda text: None, **options)


def state(output: Path) -> dict[str, Any]:
    found = read_state(output / "state.pt")
    assert found is not None
    return found


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two nested states differ, timings aside."""
    if isinstance(one, torch.Tensor):
        return [] if torch.equal(one, other) else [path]
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        kept = [key for key in one if key != "seconds"]
        return [d for key in kept for d in differences(one[key], other[key], f"{path}/{key}")]
    if isinstance(one, list):
        assert len(one) == len(other)
        return [d for i in range(len(one)) for d in differences(one[i], other[i], f"{path}/{i}")]
    return [] if one == other else [path]


def test_a_killed_run_goes_on_to_the_same_weights(photos: Path, tmp_path: Path) -> None:
    # 6 steps an epoch: step 9 is in the middle of the second one.
    program = [sys.executable, str(Path(tiny.__file__)), str(photos), str(tmp_path / "killed")]
    died = subprocess.run([*program, "9"], check=False, capture_output=True, timeout=110)
    assert died.returncode == -signal.SIGKILL
    assert state(tmp_path / "killed")["epoch"] == 1
    # What a kill during a write leaves: a temporary file, torn.
    (tmp_path / "killed" / ".state.pt.123.tmp").write_bytes(b"PK\x03\x04 torn")
    run(tiny.recipe(photos), tmp_path / "killed")
    assert not list((tmp_path / "killed").glob(".*.tmp"))
    run(tiny.recipe(photos), tmp_path / "whole")
    assert differences(state(tmp_path / "killed"), state(tmp_path / "whole")) == []
    for name in ("resnet152.safetensors", "final/resnet152.safetensors"):
        killed, whole = (load(Store((tmp_path / run / name).parent).checkpoint("resnet152"))
                         for run in ("killed", "whole"))  # fmt: skip
        assert differences(killed.state_dict(), whole.state_dict()) == []


def test_the_seed_decides(photos: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        run(tiny.recipe(photos, epochs=1, seed=seed), tmp_path / name)
    assert differences(state(tmp_path / "a")["network"], state(tmp_path / "b")["network"])


def test_training_learns_and_leaves_what_it_says(photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    recipe = tiny.recipe(photos, epochs=20, lr=0.3, mix="none", holdout=20)
    report = run(recipe, output)
    assert report.scores["final"]["accuracy"] > 0.2  # by chance: 0.02
    assert set(report.scores) == {"best", "early", "middle", "final"}
    for folder in (".", "early", "middle", "final"):
        checkpoint = Store(output / folder).checkpoint("resnet152")
        # Trained on 16 × 16 pixels, enlarged: larger images have to be shrunk to that first.
        assert checkpoint.preprocessing == replace(recipe.preprocessing, shrink=(16, 16))
        assert checkpoint.preprocessing.size == 32
        assert set(checkpoint.scores) >= {"accuracy", "held_out_accuracy"}
        assert checkpoint.metadata["recipe"].startswith("hw1 train classify photos")
    with (output / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(1, 21))
    held_out = [float(row["held_out_log_loss"]) for row in rows]
    assert report.scores["best"]["held_out_log_loss"] == min(held_out)
    assert held_out[report.best_epoch - 1] == min(held_out)
    # Again: nothing is left to do.
    assert run(recipe, output).scores == report.scores


def test_held_out_images_of_several_small_sizes_are_scored_as_jobs_see_them(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(photos, tmp_path / "data")
    for path in (tmp_path / "data" / "train_50").glob("*_0.png"):
        Image.effect_noise((20, 12), 200).convert("RGB").save(path)
    seen: list[torch.Tensor] = []

    def note(self: ClassificationTask, network: Any, part: str) -> dict[str, float]:
        seen.append(self.held_out.images)
        assert self.preprocessing.shrink == (16, 20)
        return {"accuracy": 0.0, "log_loss": 0.0}

    monkeypatch.setattr(ClassificationTask, "score", note)
    recipe = tiny.recipe(tmp_path / "data", epochs=1, holdout=20)
    run(recipe, tmp_path / "run")
    names = (tmp_path / "run" / "held_out.txt").read_text().split()
    framing = replace(recipe.preprocessing, shrink=(16, 20)).framing
    assert framing is not None
    for name, found in zip(names, seen[0], strict=True):
        with Image.open(tmp_path / "data" / "train_50" / name) as image:
            expected = torch.tensor(crop(image.convert("RGB"), framing)).permute(2, 0, 1)
        difference = (found.int() - expected.int()).abs().float().mean()
        assert difference < 15, name  # shrunk once more: 25


def test_segmenters_learn_too(tiles: Path, tmp_path: Path) -> None:
    recipe = tiny.segment_recipe(tiles, epochs=25, score_scale=0.5, holdout=4)
    report = run(recipe, tmp_path / "run")
    assert report.scores["final"]["miou"] > 0.3
    assert Store(tmp_path / "run").checkpoint("fcn8s").preprocessing.scale == 0.5


def test_a_loss_that_is_no_number_is_reported_with_its_step() -> None:
    from hw1.training.loop import _Losses

    losses = _Losses(tiny.recipe(Path()), 7)
    for loss in (1.0, 3.0):
        losses.add(torch.tensor(loss))
    assert losses.mean() == 2
    losses.add(torch.tensor(5.0))
    assert losses.mean() == 3
    losses.add(torch.tensor(float("nan")))  # of step 10
    with pytest.raises(InputError, match="the loss is nan at step 10: training has diverged"):
        losses.add(torch.tensor(1.0))


@pytest.mark.parametrize(("epochs", "epoch_images"), [(4, 8), (1, 32)])
def test_growing_crops_and_epochs_of_any_length(
    tiles: Path, tmp_path: Path, epochs: int, epoch_images: int
) -> None:
    recipe = tiny.segment_recipe(
        tiles, size=64, size_from=32, epochs=epochs, epoch_images=epoch_images
    )
    sides: list[int] = []
    seen: list[int] = []
    batch = SegmentationTask.batch

    def watched(
        self: SegmentationTask, indices: list[int], side: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        seen.extend(indices)
        sides.append(side)
        inputs, targets = batch(self, indices, side, generator)
        assert inputs.shape == (4, 3, side, side)
        return inputs, targets

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SegmentationTask, "batch", watched)
        assert run(recipe, tmp_path / "run").steps == 8
    assert sides == [32] * 4 + [64] * 4
    # Two passes over the 16 tiles, each in an order of its own.
    first, second = seen[:16], seen[16:]
    assert sorted(first) == sorted(second) == list(range(16))
    assert first != second


def test_an_epoch_of_fewer_images_than_a_batch_counts_those(tmp_path: Path) -> None:
    tiny.write_tiles(tmp_path / "train", 3)
    run(tiny.segment_recipe(tmp_path, epochs=1, batch_size=8), tmp_path / "run")
    with (tmp_path / "run" / "metrics.csv").open() as file:
        assert [row["images"] for row in csv.DictReader(file)] == ["3"]


def test_a_run_with_other_options_is_refused(photos: Path, tmp_path: Path) -> None:
    run(tiny.recipe(photos, epochs=1), tmp_path)
    with pytest.raises(InputError, match=r"epochs 1, now 2; .*lr 0.05, now 0.1.*--overwrite"):
        run(tiny.recipe(photos, epochs=2, lr=0.1), tmp_path)
    report = run(tiny.recipe(photos, epochs=2, lr=0.1), tmp_path, overwrite=True)
    assert report.epochs == 2


def test_overwrite_discards_the_run_of_another_member(tiles: Path, tmp_path: Path) -> None:
    old = tiny.segment_recipe(tiles, epochs=1)
    run(old, tmp_path)
    run(replace(old, member="fcn32s", dropout=0.0), tmp_path, overwrite=True)
    assert {path.name for path in tmp_path.rglob("*.safetensors")} == {"fcn32s.safetensors"}


def test_an_earlier_run_outlives_a_new_one_that_cannot_begin(photos: Path, tmp_path: Path) -> None:
    run(tiny.recipe(photos, epochs=1), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    for words in ({"init": str(tmp_path / "typo.safetensors")}, {"freeze": 9}):
        with pytest.raises(InputError):
            run(tiny.recipe(photos, **words), tmp_path, overwrite=True)
    assert {path: path.read_bytes() for path in before} == before
    # Its own checkpoint may be what the new one begins with.
    begin = tmp_path / "resnet152.safetensors"
    report = run(tiny.recipe(photos, epochs=2, init=str(begin)), tmp_path, overwrite=True)
    assert report.epochs == 2


def test_a_diverged_run_stops(photos: Path, tmp_path: Path) -> None:
    recipe = tiny.recipe(photos, lr=1e30)
    with pytest.raises(InputError, match=r"the loss is (nan|inf) at step .*lower --lr than 1e\+30"):
        run(recipe, tmp_path)
    assert state(tmp_path)["step"] == 0  # what was before the epoch is kept
    # Where no step follows, it is seen when the weights are saved.
    recipe = tiny.recipe(photos, lr=1e30, batch_size=75, epochs=1)
    with pytest.raises(InputError, match=r"values beyond torch.float16: training has diverged"):
        run(recipe, tmp_path / "other")


def test_no_epoch_of_a_diverged_run_is_kept(photos: Path, tmp_path: Path) -> None:
    # Of the 8 epochs the first, the fourth and the last one write a checkpoint, and the best.
    recipe = tiny.recipe(photos, lr=1e30, epochs=8, epoch_images=10, batch_size=10, holdout=10)
    with pytest.raises(InputError, match="training has diverged"):
        run(recipe, tmp_path)
    kept = state(tmp_path)
    for part in (kept["network"], kept["ema"]):
        assert all(bool(value.isfinite().all()) for value in part.values())
        assert max(float(value.abs().max()) for value in part.values()) < 65_504


def test_held_out_files_are_named(photos: Path, tiles: Path, tmp_path: Path) -> None:
    run(tiny.recipe(photos, epochs=1, holdout=5), tmp_path / "photos")
    names = (tmp_path / "photos" / "held_out.txt").read_text().splitlines()
    assert len(names) == 5
    assert all((photos / "train_50" / name).is_file() for name in names)
    run(tiny.segment_recipe(tiles, epochs=1, holdout=2), tmp_path / "tiles")
    names = (tmp_path / "tiles" / "held_out.txt").read_text().splitlines()
    assert [name.partition("_")[2] for name in names] == ["sat.jpg", "mask.png"] * 2
    assert all((tiles / "train" / name).is_file() for name in names)
    run(tiny.recipe(photos, epochs=1), tmp_path / "photos", overwrite=True)
    assert not (tmp_path / "photos" / "held_out.txt").exists()


def test_crops_larger_than_a_tile(tiles: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--crop 24 64: 0000_sat.jpg has 48 × 48 .*up to 48"):
        run(tiny.segment_recipe(tiles, crop=(24, 64)), tmp_path)


def test_a_run_on_other_images_is_refused(photos: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    tiny.write_photos(data / "train", 1)
    run(tiny.recipe(data, epochs=1), tmp_path / "run")
    (data / "train" / "0_0.png").rename(data / "train" / "0_9.png")
    with pytest.raises(InputError, match="other training images"):
        run(tiny.recipe(data, epochs=1), tmp_path / "run")


def test_a_resume_with_another_teacher_or_judge_is_refused(photos: Path, tmp_path: Path) -> None:
    data, teacher = tmp_path / "data", tmp_path / "teacher" / "resnet152.safetensors"
    shutil.copytree(photos, data)
    run(tiny.recipe(photos, epochs=1), teacher.parent)
    taught = tiny.recipe(data, epochs=1, teacher=str(teacher))
    run(taught, tmp_path / "run")
    run(tiny.recipe(photos, epochs=1, seed=1), teacher.parent, overwrite=True)
    (data / "val_50" / "0_0.png").rename(data / "val_50" / "0_9.png")
    with pytest.raises(InputError, match="other validation images and teacher"):
        run(taught, tmp_path / "run")


def test_a_run_of_another_trainer_is_refused(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tiny.recipe(photos, epochs=1), tmp_path)
    monkeypatch.setattr(loop, "TRAINER", loop.TRAINER + 1)
    with pytest.raises(InputError, match=r"trains otherwise.*--overwrite"):
        run(tiny.recipe(photos, epochs=1), tmp_path)


def test_a_checkpoint_of_another_origin_is_not_replaced(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "resnet152.safetensors").write_bytes(b"mine")
    with pytest.raises(InputError, match="no run's state beside it"):
        run(tiny.recipe(photos), tmp_path)
    assert (tmp_path / "resnet152.safetensors").read_bytes() == b"mine"


def test_two_runs_into_one_folder(photos: Path, tmp_path: Path) -> None:
    with hold(tmp_path), pytest.raises(Refused, match="another process"):
        run(tiny.recipe(photos), tmp_path)


def test_a_full_disk_keeps_the_earlier_state(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny.recipe(photos, epochs=2)
    save, writes = torch.save, iter(range(10))

    def fails_at_the_third(state: Any, path: Path) -> None:
        if next(writes) == 2:
            path.write_bytes(b"torn")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(state, path)

    monkeypatch.setattr(torch, "save", fails_at_the_third)
    with pytest.raises(EnvironmentFault, match=r"No space left.*is kept"):
        run(recipe, tmp_path / "full")
    assert state(tmp_path / "full")["epoch"] == 1
    run(recipe, tmp_path / "full")
    run(recipe, tmp_path / "whole")
    assert differences(state(tmp_path / "full"), state(tmp_path / "whole")) == []


def test_a_damaged_state_is_reported(photos: Path, tmp_path: Path) -> None:
    file = tmp_path / "state.pt"
    torch.save({"recipe": "{}"}, file)
    for damaged in (b"PK\x03\x04 torn", file.read_bytes().replace(b"recipe", b"re\xffipe")):
        file.write_bytes(damaged)
        with pytest.raises(InputError, match=r"state.pt cannot be read.*--overwrite"):
            run(tiny.recipe(photos), tmp_path)


def test_a_budget_sets_the_schedule_once(photos: Path, tmp_path: Path) -> None:
    recipe = tiny.recipe(photos, budget=0.01)  # 0.6 seconds
    report = run(recipe, tmp_path)
    assert report.steps == state(tmp_path)["steps"] >= 1
    assert "--budget 0.01" in report.recipe
    assert "--epochs" not in report.recipe
    assert run(recipe, tmp_path).steps == report.steps


def test_measuring_leaves_the_scaler_of_fp16_as_it_was(photos: Path, tmp_path: Path) -> None:
    scales: list[float] = []

    def stop(self: loop.Loop) -> None:
        scales.append(self.scaler.get_scale())
        raise KeyboardInterrupt

    recipe = tiny.recipe(photos, precision="fp16", lr=1000.0, budget=1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Loop, "run", stop)
        with pytest.raises(KeyboardInterrupt):
            run(recipe, tmp_path)
    assert scales == [65_536]


def test_measuring_changes_no_weights(photos: Path, tmp_path: Path) -> None:
    from hw1.training import budget

    recipe = tiny.recipe(photos, epochs=1, budget=1.0)
    with pytest.MonkeyPatch.context() as patch:
        # As many steps as without a budget.
        patch.setattr(budget, "fit", lambda schedule, *measured: schedule)
        run(recipe, tmp_path / "measured")
    run(tiny.recipe(photos, epochs=1), tmp_path / "plain")
    assert (
        differences(state(tmp_path / "measured")["network"], state(tmp_path / "plain")["network"])
        == []
    )


def test_a_teacher_and_frozen_blocks(photos: Path, tmp_path: Path) -> None:
    run(tiny.recipe(photos, epochs=1), tmp_path / "teacher")
    teacher = tmp_path / "teacher" / "resnet152.safetensors"
    recipe = tiny.recipe(photos, init=str(teacher), teacher=str(teacher), freeze=1, epochs=1)
    run(recipe, tmp_path / "student")
    before = load(Store(teacher.parent).checkpoint("resnet152")).state_dict()
    after = state(tmp_path / "student")["network"]
    same = {name for name in before if torch.equal(before[name].float(), after[name].float())}
    assert same == {name for name in before if not name.startswith("fc")}  # batch norm's too
    with pytest.raises(InputError, match="--freeze 9: this network has 1 blocks"):
        run(tiny.recipe(photos, freeze=9), tmp_path / "other")


def test_a_teacher_of_another_kind_and_size(photos: Path, tmp_path: Path) -> None:
    teacher = save_onnx(tmp_path / "a.onnx", shape=("n", 3, 24, 32), classes=50)
    taught = tiny.recipe(photos, teacher=str(teacher), epochs=1)
    run(taught, tmp_path / "taught")
    run(tiny.recipe(photos, epochs=1), tmp_path / "alone")
    weights = [state(tmp_path / name)["network"] for name in ("taught", "alone")]
    assert differences(*weights)


def test_scores_of_the_training_images_teach(photos: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in (photos / "train_50").iterdir())
    rows = [[float(label == int(name.split("_")[0])) for label in range(50)] for name in names]
    lines = [",".join(["image_id", *(f"p{label}" for label in range(50))])]
    lines += [",".join([name, *map(str, row)]) for name, row in zip(names, rows, strict=True)]
    scores = tmp_path / "scores.csv"
    scores.write_text("\n".join([*lines, "other.png" + ",0.02" * 50, ""]))
    taught = tiny.recipe(photos, teacher_scores=str(scores), epochs=1)
    run(taught, tmp_path / "taught")
    run(tiny.recipe(photos, epochs=1), tmp_path / "alone")
    assert differences(*(state(tmp_path / name)["network"] for name in ("taught", "alone")))
    scores.write_text("\n".join([*lines[:-1], ""]))
    with pytest.raises(InputError, match=rf"expected a row for each .* missing {names[-1]}"):
        run(taught, tmp_path / "other")
    scores.write_text("\n".join([*lines, ""]))  # another file than the run began with
    with pytest.raises(InputError, match="teacher"):
        run(taught, tmp_path / "taught")


def test_the_command(photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "out[b] [" / "x]"
    words = ["train", "classify", str(photos), "--member", "resnet152", "--init", "scratch"]
    words += ["--size", "32", "--epochs", "1", "--threads", "1", "--output", str(output)]
    done = CliRunner().invoke(main, [*words, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["epochs"] == 1
    assert set(report["scores"]["best"]) == {"accuracy", "log_loss"}
    assert "epoch 1/1" in done.stderr
    # The recipe is a command line: it gives the same recipe again.
    again = report["recipe"].split()[1:]
    again[2] = str(photos)
    done = CliRunner().invoke(
        main, [*again, "--threads", "1", "--output", str(output)], catch_exceptions=False
    )
    assert done.exit_code == 0, done.stderr
    assert "best" in done.stdout
    assert f"{output / 'resnet152.safetensors'}: epoch 1 of 1" in done.stdout


def test_the_command_says_what_is_wrong(photos: Path, tmp_path: Path) -> None:
    def refused(*words: str) -> str:
        done = CliRunner().invoke(main, ["train", *words, "--output", str(tmp_path / "out")])
        assert done.exit_code == 2
        assert "Traceback" not in done.output
        return done.stderr

    classify = ("classify", str(photos), "--member", "resnet152", "--init", "scratch")
    assert "give one" in refused(*classify, "--epochs", "2", "--budget", "5")
    assert "at least 32" in refused(*classify, "--size", "16")
    assert "--size-from" in refused(*classify, "--size-from", "50")
    assert "hold out fewer" in refused(*classify, "--holdout", "150")
    assert "one image to train on: resnet152 has batch norm" in refused(
        *classify, "--holdout", "149"
    )
    assert "'int8' is not one of" in refused(*classify, "--precision", "int8")
    assert "no such folder" in refused("classify", str(tmp_path / "no"), "--member", "resnet152")
    assert "expected 32 to 64" in refused(*classify, "--size-from", "0")
    assert "4294967295" in refused(*classify, "--seed", str(2**32))
    assert "batch norm" in refused(*classify, "--batch-size", "1")
    for option in ("--lr", "--smoothing", "--budget"):
        assert "expected a finite number" in refused(*classify, option, "nan")
    assert "expected a finite number" in refused(*classify, "--lr", "inf")
    assert "is not in the range" in refused(*classify, "--budget", "inf")
    enlarging = ("segment", str(photos), "--size", "256", "--crop", "32", "32")
    assert "enlarged 8 times" in refused(*enlarging)
    for option in ("--colours", "--dropout", "--score-scale"):
        assert "expected a finite number" in refused(*enlarging, option, "nan")
    dropping = ("segment", str(photos), "--model", "fcn32s", "--dropout", "0.5")
    assert "--dropout is for fcn8s" in refused(*dropping)
    assert "resnet152" in refused("classify", str(photos), "--member", "resnet")
    narrow = (*classify[:2], "--arch", "torchvision:mobilenet_v3_small", "--init", "scratch")
    assert "one image to train on: torchvision:mobilenet_v3_small has batch norm" in refused(
        *narrow, "--holdout", "149"
    )
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    refused(*narrow, "--holdout", "149")
    assert (tmp_path / "out").exists()


def test_a_recipe_spells_out_its_command(tmp_path: Path) -> None:
    command = tiny.segment_recipe(tmp_path, init=str(tmp_path / "vgg 16.safetensors")).command
    assert command.startswith(f"hw1 train segment {tmp_path.name} --model fcn8s")
    assert "--init 'vgg 16.safetensors'" in command
    assert "--crop 24 48" in command
    assert "--colours 1.0 --dropout 0.5" in command
    assert "--mix" not in command


def test_a_run_that_began_before_an_option_was_there_goes_on_as_it_began(photos: Path) -> None:
    recipe = tiny.recipe(photos)
    before = json.loads(recipe.to_json())
    del before["augment"]
    recipe.require_same(json.dumps(before), Path("run"))
    with pytest.raises(InputError, match="augment usual, now strong"):
        replace(recipe, augment="strong").require_same(json.dumps(before), Path("run"))


def test_a_size_that_the_network_cannot_take_is_refused_before_the_first_step(
    photos: Path, tmp_path: Path
) -> None:
    recipe = tiny.recipe(photos, member="torchvision:alexnet", size=64, size_from=32)
    with pytest.raises(InputError, match=r"alexnet takes no images of 32 × 32 pixels .*--size"):
        run(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "state.pt").exists()
