"""A cascade: what the first member decides alone, and what the others are asked about."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from networks import random_network, save_onnx
from rich.console import Console
from torch import nn

from fakes import CHECKPOINT, write_blocks
from hw1.cli import main
from hw1.core.classes import Classes
from hw1.core.errors import InputError, Refused
from hw1.core.preprocessing import Preprocessing
from hw1.core.spec import ClassifySpec
from hw1.jobs.classify import ClassifyJob
from hw1.jobs.job import Summary
from hw1.jobs.progress import Meter, Progress
from hw1.jobs.run import run_job
from hw1.models import registry
from hw1.models.arithmetic import _MULTIPLICATIONS, cheapest, multiplications
from hw1.models.checkpoints import read_checkpoint, save
from hw1.models.registry import build
from tiny_jobs import rows_of

WORD = "timm:test_efficientnet"
NAMES = ("x.safetensors", "y.safetensors", "z.safetensors")
SIZES = {"x.safetensors": 40, "y.safetensors": 24, "z.safetensors": 32}
FIVE = Classes(("a", "b", "c", "d", "e"))
COUNT, BATCH, BAD = 40, 2, (3, 20)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blocks(tmp_path_factory.mktemp("in"), COUNT, BAD, lambda _: 80)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    for seed, name in enumerate(NAMES):
        network = random_network(WORD, len(FIVE))
        torch.manual_seed(seed)
        layer = network.classifier
        assert isinstance(layer, torch.nn.Linear)
        layer.weight.data = torch.randn(layer.weight.shape)
        with torch.inference_mode():
            spread = network(torch.rand(9, 3, 40, 40)).std()
        layer.weight.data /= spread
        save(network, folder / name, WORD, Preprocessing(size=SIZES[name]), {}, classes=FIVE)
    shares = "".join(f'"{name}" = {share}\n' for share, name in enumerate(NAMES, 1))
    (folder / "ensemble.toml").write_text(f"[weights]\n{shares}")
    return folder


def spec_of(images: Path, weights: Path, output: Path, **changes: object) -> ClassifySpec:
    made = ClassifySpec(
        source=str(images),
        output=output,
        weights=weights,
        engine="inline",
        device="cpu",
        precision="fp32",
        threads=1,
        batch_size=BATCH,
        columns=("confidence", "agreement", "voters"),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def run(spec: ClassifySpec, progress: Progress | None = None) -> Summary:
    quiet = Progress(Console(stderr=True), quiet=True)
    return run_job(ClassifyJob.open(spec), progress or quiet)


def table(path: Path) -> dict[str, list[float]]:
    return {row[0]: list(map(float, row[1:])) for row in rows_of(path)[1:]}


class StopAfter(Progress):
    """Interrupts a job after so many commits."""

    def __init__(self, commits: int) -> None:
        super().__init__(Console(stderr=True), quiet=True)
        self.left = commits

    @contextmanager
    def meter(self, planned: int, done: int) -> Iterator[Meter]:
        yield self

    def advance(self, images: int, rejected: int) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("tta", [False, True])
def test_sure_images_have_the_first_members_rows_and_others_the_ensembles(
    images: Path, weights: Path, tmp_path: Path, tta: bool
) -> None:
    given = images, weights
    run(spec_of(*given, tmp_path / "all.csv", tta=tta, top_k=2))
    first = cheapest(ClassifyJob.open(spec_of(*given, tmp_path / "o.csv")).checkpoints)
    assert first == "y.safetensors"  # the smallest input
    run(spec_of(*given, tmp_path / "first.csv", members=(first,), tta=tta, top_k=2))
    voted, alone = table(tmp_path / "all.csv"), table(tmp_path / "first.csv")
    least = float(np.quantile([row[2] for row in alone.values()], 0.6)) + 1e-4
    out = tmp_path / "cascade.csv"
    summary = run(spec_of(*given, out, cascade=least, tta=tta, top_k=2))
    found = table(out)
    sure = {name for name, row in alone.items() if row[2] >= least}
    assert {name for name, row in found.items() if row[-1] == 1} == sure
    assert summary.early == pytest.approx(len(sure) / (COUNT - len(BAD)))
    assert 0.2 < summary.early < 0.6
    for name, row in found.items():
        expected = [*alone[name][:3], 1, 1] if name in sure else voted[name]
        assert row == pytest.approx(expected, abs=1e-5), name
    assert any(found[name][0] != voted[name][0] for name in sure)  # what it costs


def test_bytes_depend_on_neither_shards_nor_kills(
    images: Path, weights: Path, tmp_path: Path
) -> None:
    spec = spec_of(images, weights, tmp_path / "a.csv", cascade=0.5, scores=tmp_path / "a-p.csv")
    run(spec)
    record = json.loads((tmp_path / "a.csv.job" / "job.json").read_text())
    assert record["decides"]["profile"]["unit"] == 16
    assert record["decides"]["cascade"] == {"from": 0.5, "first": "y.safetensors"}
    assert record["shard_size"] == 16
    other = replace(spec, output=tmp_path / "b.csv", scores=tmp_path / "b-p.csv", shard_size=33)
    run(other)
    assert json.loads((tmp_path / "b.csv.job" / "job.json").read_text())["shard_size"] == 48
    killed = replace(spec, output=tmp_path / "c.csv", scores=tmp_path / "c-p.csv")
    with pytest.raises(KeyboardInterrupt):
        run(killed, StopAfter(1))
    with pytest.raises(Refused, match=r"cascade\.from 0\.5, now 0\.6"):
        run(replace(killed, cascade=0.6))
    with pytest.raises(Refused, match=r"cascade from, first, now none"):
        run(replace(killed, cascade=None))
    summary = run(killed)
    assert summary.resumed == 16
    assert summary.early is not None
    for kind in ("", "-p"):
        assert len({(tmp_path / f"{name}{kind}.csv").read_bytes() for name in "abc"}) == 1
    done = CliRunner().invoke(
        main, ["jobs", "verify", str(spec.output), "--sample", "2", "--weights", str(weights)]
    )
    assert (done.exit_code, "2 of 2 equal" in done.stdout) == (0, True), done.output


def test_a_sampled_image_whose_unit_has_changed_is_not_compared(
    images: Path, weights: Path, tmp_path: Path
) -> None:
    """Its place among the undecided may be another."""
    from hw1.jobs.sample import sample

    (tmp_path / "in").mkdir()
    for path in sorted(images.iterdir())[:18]:
        (tmp_path / "in" / path.name).write_bytes(path.read_bytes())
    spec = spec_of(tmp_path / "in", weights, tmp_path / "a.csv", cascade=0.5)
    job = run(spec).job
    assert sample(job, 99, weights=weights).compared == 17
    (tmp_path / "in" / "05.png").unlink()
    found = sample(job, 99, weights=weights)
    assert (found.compared, len(found.lost), found.differ) == (2, 15, [])


def test_what_makes_no_cascade_is_refused(images: Path, weights: Path, tmp_path: Path) -> None:
    def refused(*words: str) -> str:
        common = ["batch", "classify", str(images), str(tmp_path / "o.csv")]
        done = CliRunner().invoke(main, [*common, "--weights", str(weights), *words])
        assert done.exit_code == 2
        return done.stderr

    one = refused("--cascade", "0.9", "--members", "x.safetensors")
    assert "--cascade needs several members: there is x.safetensors alone" in one
    assert "0<x<=1" in refused("--cascade", "0")
    assert "0<x<=1" in refused("--cascade", "1.1")
    assert "needs --cascade T" in refused("--cascade-first", "x.safetensors")
    assert "expected a member that votes: x.safetensors, y" in refused(
        "--cascade", "0.9", "--cascade-first", "vgg16"
    )
    with pytest.raises(InputError, match="above 0 and up to 1"):
        ClassifyJob.open(spec_of(images, weights, tmp_path / "o.csv", cascade=2.0))
    assert not (tmp_path / "o.csv.job").exists()


def test_the_plan_estimates_between_none_and_all(
    images: Path, weights: Path, tmp_path: Path
) -> None:
    words = ["batch", "plan", "classify", str(images), str(tmp_path / "o.csv")]
    words += ["--weights", str(weights), "--cascade", "0.9", "--batch-size", "8"]
    done = CliRunner().invoke(main, [*words, "--device", "cpu", "--engine", "inline", "--json"])
    assert done.exit_code == 0, done.output
    plan = json.loads(done.stdout)
    assert 0 < plan["least"] <= plan["seconds"]
    assert plan["shard_size"] == 8 * plan["batch_size"]


def test_the_cheapest_is_that_of_the_fewest_multiplications(tmp_path: Path) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    for word in ("vgg16", "vgg19_bn_2"):  # of the others the count takes a second each
        network = build(word, "meta").eval()
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 3, 224, 224, device="meta"))
        counted = counter.get_total_flops() / 2 / 224**2
        assert _MULTIPLICATIONS[word] == pytest.approx(counted, rel=1e-4)
    onnx = read_checkpoint(save_onnx(tmp_path / "a.onnx"))
    with pytest.raises(InputError, match="--cascade-first NAME"):
        multiplications(onnx)


def test_a_network_that_cannot_be_counted_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(1, 1, device="meta")

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images[: int(images.sum().item())]

    monkeypatch.setattr(registry, "build", lambda *_: Odd())
    unknown = replace(CHECKPOINT, member="odd.safetensors", architecture="timm:odd")
    with pytest.raises(InputError, match=r"odd\.safetensors .*meta.*--cascade-first NAME"):
        multiplications(unknown)
