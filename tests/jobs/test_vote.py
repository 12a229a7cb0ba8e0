"""Two unequal members of unequal sizes, with rejected images between, against plain torch."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from networks import random_network
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

from fakes import CHECKPOINT, ENSEMBLE, write_blocks
from hw1.cli import main
from hw1.core.classes import Classes
from hw1.core.errors import InputError
from hw1.core.numerics import detect
from hw1.core.preprocessing import Preprocessing
from hw1.core.records import Planned, Predicted, Shard
from hw1.core.spec import ClassifySpec
from hw1.models.checkpoints import save
from hw1.pipeline.classification import ClassifyWork, require_finite_outputs
from hw1.pipeline.loaded import load
from tiny_jobs import rows_of

FIVE = Classes(("a", "b", "c", "d", "e"))
COUNT = 13
BAD = (2, 7)
SHARES = {"x.safetensors": 2, "y.safetensors": 3}
SEEN = {
    "x.safetensors": Preprocessing(size=(24, 32), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)),
    "y.safetensors": Preprocessing(size=40, resize=44),
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blocks(tmp_path_factory.mktemp("in"), COUNT, BAD, lambda index: 50 + index)


@pytest.fixture(scope="module")
def members(images: Path) -> dict[str, nn.Module]:
    """Networks that often differ, and win in turns: of logits that spread by 2, and by 1."""
    made = {}
    for seed, (name, spread) in enumerate(zip(SEEN, (2.0, 1.0), strict=True), 6):
        network = random_network("timm:test_efficientnet", len(FIVE))
        layer = network.classifier
        assert isinstance(layer, nn.Linear)
        torch.manual_seed(seed)
        layer.weight.data, layer.bias.data = torch.randn(layer.weight.shape), torch.zeros(len(FIVE))
        logits = plain(images, name, network)
        scale = spread / (logits - logits.mean(0)).std()
        layer.weight.data *= scale
        layer.bias.data = -logits.mean(0) * scale
        made[name] = network.half().float()  # as a checkpoint holds it
    return made


def weights(folder: Path, members: dict[str, nn.Module], vote: str) -> Path:
    folder.mkdir()
    for name, network in members.items():
        word = "timm:test_efficientnet"
        save(network, folder / name, word, SEEN[name], {}, classes=FIVE)
    lines = "".join(f'"{name}" = {share}\n' for name, share in SHARES.items())
    (folder / "ensemble.toml").write_text(f'vote = "{vote}"\n[weights]\n{lines}')
    return folder


def plain(images: Path, name: str, network: nn.Module) -> Tensor:
    """The logits of all good images, by torchvision's transforms and torch alone."""
    seen = SEEN[name]
    height, width = seen.sides or (0, 0)
    steps: list[nn.Module] = [
        v2.Resize(seen.resize if isinstance(seen.resize, int) else [height, width]),
        v2.CenterCrop([height, width]),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(list(seen.mean), list(seen.std)),
    ]
    good = [path for index, path in enumerate(sorted(images.iterdir())) if index not in BAD]
    with torch.inference_mode():
        inputs = [v2.Compose(steps)(Image.open(path)) for path in good]
        return torch.cat([network(each[None]) for each in inputs])


@pytest.mark.parametrize(
    ("vote", "lanes"), [("logits", 1), ("probabilities", 1), ("logits", 2), ("probabilities", 2)]
)
def test_the_vote_is_plain_torchs(
    images: Path,
    members: dict[str, nn.Module],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    vote: str,
    lanes: int,
) -> None:
    """Also where members are computed side by side."""
    monkeypatch.setattr("hw1.pipeline.classification._MANY", 2 if lanes == 2 else 3)
    folder, out, scores = weights(tmp_path / "w", members, vote), tmp_path / "o.csv", "p.csv"
    words = ["batch", "classify", images, out, "--weights", folder, "--scores", tmp_path / scores]
    words += ["--columns", "confidence,agreement", "--top-k", "2", "--batch-size", "3"]
    words += ["--shard-size", "6", "--engine", "inline", "--device", "cpu", "--precision", "fp32"]
    words += ["--threads", "2"]
    done = CliRunner().invoke(main, list(map(str, words)))
    assert done.exit_code == 3, done.output
    record = json.loads((tmp_path / "o.csv.job" / "job.json").read_text())
    assert record["decides"]["profile"].get("lanes", 1) == lanes
    logits = [plain(images, name, network) for name, network in members.items()]
    shares = [share / sum(SHARES.values()) for share in SHARES.values()]
    ballots = logits if vote == "logits" else [each.softmax(1) for each in logits]
    total = sum(share * each for share, each in zip(shares, ballots, strict=True))
    assert isinstance(total, Tensor)
    expected = total.softmax(1) if vote == "logits" else total
    labels = expected.argmax(1)
    agreed = sum(
        share * (each.argmax(1) == labels) for share, each in zip(shares, logits, strict=True)
    )
    assert len(set(labels.tolist())) > 2
    assert len(set(agreed.tolist())) > 2  # type: ignore[union-attr]
    rows = rows_of(out)[1:]
    ids = [f"{index:02}.png" for index in range(COUNT) if index not in BAD]
    assert [row[0] for row in rows] == ids
    assert [[int(label) for label in row[1:3]] for row in rows] == expected.topk(2).indices.tolist()
    near = {"atol": 2e-3, "rtol": 0}
    found = torch.tensor([[float(p) for p in row[3:]] for row in rows])
    torch.testing.assert_close(found[:, 0], expected.amax(1), **near)
    torch.testing.assert_close(found[:, 1], agreed, **near)
    table = rows_of(tmp_path / scores)[1:]
    assert [row[0] for row in table] == ids
    written = torch.tensor([[float(p) for p in row[1:]] for row in table])
    torch.testing.assert_close(written, expected, **near)
    verify = ["jobs", "verify", str(out), "--sample", "6", "--weights", str(folder)]
    done = CliRunner().invoke(main, verify)
    assert done.exit_code == 0, done.output
    assert "6 of 6 equal: at most 39 % of rows differ, 95 %" in done.stdout


def test_what_is_loaded_computes_as_many_members_at_once_as_a_job(
    images: Path, members: dict[str, nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = weights(tmp_path / "w", members, "logits")
    paths = [path for index, path in enumerate(sorted(images.iterdir())) if index not in BAD]
    alone = load(folder, device="cpu", precision="fp32", threads=2)
    monkeypatch.setattr("hw1.pipeline.classification._MANY", 2)
    shared = load(folder, device="cpu", precision="fp32", threads=2)
    assert (alone.profile.lanes, shared.profile.lanes) == (1, 2)
    labels = [[found.name for found in each.predict(paths)] for each in (alone, shared)]
    assert labels[0] == labels[1]


def test_members_share_the_threads_only_where_they_are_small_and_many(
    members: dict[str, nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hw1.jobs.classify import ClassifyJob

    folder = weights(tmp_path / "w", members, "logits")
    spec = ClassifySpec(source="x", output=tmp_path / "o.csv", weights=folder)
    job = ClassifyJob.open(spec)
    assert job.lanes("cpu", 2) == 1
    monkeypatch.setattr("hw1.pipeline.classification._MANY", 2)
    assert [job.lanes("cpu", threads) for threads in (1, 2, 3, 4)] == [1, 2, 1, 2]
    assert job.lanes("cuda", 0) == 1
    assert replace(job, spec=replace(spec, cascade=0.5)).lanes("cpu", 2) == 1
    monkeypatch.setattr("hw1.pipeline.classification._SMALL", 39 * 40)
    assert job.lanes("cpu", 2) == 1


def test_of_equal_probabilities_the_lower_class_comes_first(
    members: dict[str, nn.Module], tmp_path: Path
) -> None:
    from hw1.jobs.classify import ClassifyJob
    from hw1.jobs.profile import recorded_profile

    folder = weights(tmp_path / "w", members, "logits")
    spec = ClassifySpec(source="x", output=tmp_path / "o.csv", weights=folder, top_k=3)
    profile = recorded_profile({"profile": PROFILE})
    work = ClassifyJob.open(spec).work(tmp_path, tmp_path, profile)
    scores = np.array([[0.1, 0.3, 0.3, 0.2, 0.1]], np.float32)
    predicted = Predicted(Shard(0, 0, ()), ("a",), (scores, np.ones(1, np.float32)), ())
    assert work.write(predicted).rows == ("a,1,2,3",)
    one = replace(work, spec=replace(spec, top_k=1, columns=("confidence",)))
    assert isinstance(one, ClassifyWork)
    assert one.write(predicted).rows == ("a,1,0.300000",)


PROFILE = {
    "device": "cpu", "device_model": "", "precision": "fp32", "backend": "", "batch_size": 1,
    "threads": 1, "torch": "", "torchvision": "", "pillow": "",
}  # fmt: skip


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_one_output_that_is_no_number_is_refused(
    members: dict[str, nn.Module], tmp_path: Path, value: float
) -> None:
    from hw1.models.store import Store

    checkpoint = Store(weights(tmp_path / "w", members, "logits")).checkpoint("x.safetensors")
    require_finite_outputs(torch.zeros(2, 5), checkpoint)
    logits = torch.zeros(2, 5)
    logits[1, 3] = value
    with pytest.raises(InputError, match=r"x\.safetensors.*aren't finite"):
        require_finite_outputs(logits, checkpoint)


def test_every_batch_has_the_same_shape_whatever_is_rejected(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums depend on it: blanks stand for the rejected, and for what the last batch lacks."""
    shapes: list[tuple[int, ...]] = []
    taken: list[list[int]] = []

    class Member:
        device = torch.device("cpu")

        def __call__(self, pixels: np.ndarray) -> Tensor:
            shapes.append(pixels.shape)
            taken.append(np.flatnonzero(pixels.any(axis=(1, 2, 3))).tolist())
            return torch.zeros(len(pixels), 50)

    monkeypatch.setattr("hw1.models.inference.ready_each", lambda *_: [Member()])
    profile = detect("cpu", "fp32", 4, 1)
    spec = ClassifySpec(source=str(images), output=tmp_path / "out.csv")
    work = ClassifyWork(spec, images, tmp_path, (CHECKPOINT,), ENSEMBLE, profile)
    there = [(path.name, path.stat()) for path in sorted(images.iterdir())]
    planned = tuple(Planned(name, found.st_size, found.st_mtime_ns) for name, found in there)
    whole = Shard(0, 0, planned)
    predicted = work.load()(work.decode(whole))
    assert len(predicted.image_ids) == COUNT - len(BAD)
    assert shapes == [(4, 8, 8, 3)] * 4
    taken.clear()
    work.load()(work.decode(whole.piece(5, 10)))  # an image's place doesn't hang on its piece
    assert taken == [[1, 2], [0, 1]]
