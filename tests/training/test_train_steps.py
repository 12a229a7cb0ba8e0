"""What a step does to the weights, against the formulas; and what is kept of a run."""

import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_training as tiny
import torch
import torch.nn.functional as F
from networks import random_network
from torch import Generator, Tensor, nn

from hw1.core.classes import REFERENCE_SEGMENTER, Classes
from hw1.core.errors import InputError
from hw1.core.preprocessing import Preprocessing
from hw1.models.checkpoints import save
from hw1.training import augment, optimise
from hw1.training.classification import ClassificationTask
from hw1.training.loop import Loop
from hw1.training.optimise import Schedule
from hw1.training.photos import Photos
from hw1.training.recipe import Recipe
from hw1.training.segmentation import SegmentationTask
from hw1.training.state import read_state, write_state
from hw1.training.teacher import TEMPERATURE, Opinions, Teacher, open_teacher
from hw1.training.tiles import Tiles

CPU = torch.device("cpu")
SEEN = Preprocessing(size=16, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.5))
THREE = Classes(("a", "b", "c"))


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def photos(count: int = 6) -> Photos:
    images = torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8, generator=generator())
    labels = torch.arange(count) % 3
    names = tuple(f"{index}.png" for index in range(count))
    return Photos(names, images, labels, "", THREE)


def classification(
    smoothing: float = 0.0, teacher: Teacher | Opinions | None = None
) -> ClassificationTask:
    nobody = photos()
    return ClassificationTask(
        nobody, nobody, None, SEEN, CPU, smoothing=smoothing, mix="none", teacher=teacher
    )


def test_the_average_follows_by_one_minus_its_decay_and_faster_at_first() -> None:
    for step, decay in ((1, 2 / 11), (8, 9 / 18), (10**6, 0.9)):
        mean, network = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
        network.weight.data.fill_(3.0)
        network.running_mean.fill_(5.0)  # type: ignore[union-attr]
        network.num_batches_tracked.fill_(7)  # type: ignore[union-attr]
        optimise.average(mean, network, step, 0.9)
        assert mean.weight.item() == pytest.approx(decay * 1 + (1 - decay) * 3)
        assert mean.running_mean.item() == pytest.approx((1 - decay) * 5)  # type: ignore[union-attr]
        assert mean.num_batches_tracked == 7


def normalised(pixels: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (SEEN.mean, SEEN.std))
    return (pixels / 255 - mean) / std


def test_a_batch_is_normalised_as_the_checkpoint_says() -> None:
    task = classification()
    inputs, targets = task.batch([4, 0, 2], 16, generator(3))
    raw = augment.photos(task.train.images[[4, 0, 2]], 16, generator(3))
    torch.testing.assert_close(inputs, normalised(raw))
    assert targets.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]


def test_tiles_are_normalised_too_and_unlabelled_pixels_ignored() -> None:
    images = [torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8, generator=generator(1))]
    masks = [torch.randint(0, 7, (40, 40), dtype=torch.uint8, generator=generator(2))]
    tiles = Tiles(("a",), images, masks, "", REFERENCE_SEGMENTER)
    task = SegmentationTask(
        tiles, tiles, None, (32, 32), 1.0, SEEN, CPU, class_weights=torch.ones(7)
    )
    inputs, targets = task.batch([0], 32, generator(3))
    raw, classes = augment.tiles(images, masks, (32, 32), 32, generator(3), 1.0)
    torch.testing.assert_close(inputs, normalised(raw))
    assert torch.equal(targets == 255, classes == 6)


def test_labels_are_smoothed_by_the_share_that_is_asked_for() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 1.0, 3.0]])
    targets = torch.eye(3)[[0, 1]]
    for smoothing in (0.0, 0.1, 0.6):
        expected = -(
            ((1 - smoothing) * targets + smoothing / 3) * logits.log_softmax(1)
        ).sum(1).mean()  # fmt: skip
        found = classification(smoothing).loss(logits, targets)
        torch.testing.assert_close(found, expected)


def test_half_of_the_loss_is_the_teachers() -> None:
    teacher = Opinions(torch.eye(3), "")
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 1.0, 3.0]])
    labels, opinion = torch.eye(3)[[0, 1]], torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
    plain = F.cross_entropy(logits, labels)
    soft = -(opinion * (logits / TEMPERATURE).log_softmax(1)).sum(1).mean() * TEMPERATURE**2
    found = classification(teacher=teacher).loss(logits, torch.cat([labels, opinion], 1))
    torch.testing.assert_close(found, (plain + soft) / 2)


class Red:
    """A teacher's network of three classes: the means of the channels that it is given."""

    device = CPU

    def __call__(self, images: object) -> Tensor:
        raise NotImplementedError

    def logits(self, inputs: Tensor) -> Tensor:
        assert inputs.shape[2:] == (8, 24)
        return inputs.mean((2, 3))


def test_a_teacher_sees_the_crop_in_its_own_size_and_normalisation() -> None:
    own = Preprocessing((8, 24), mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.125))
    pixels = torch.arange(3.0).view(1, 3, 1, 1).expand(2, 3, 16, 16) * 51
    found = Teacher(Red(), own, "").opinion(pixels)
    logits = torch.tensor([(0 - 0.1) / 0.5, (0.2 - 0.2) / 0.25, (0.4 - 0.3) / 0.125])
    torch.testing.assert_close(found, (logits / 2).softmax(0).expand(2, 3))


def test_a_teacher_of_small_images_sees_large_ones_shrunk(tmp_path: Path) -> None:
    word = "timm:test_efficientnet"
    path, network = tmp_path / "a.safetensors", random_network(word, 3)
    own = Preprocessing(size=32, shrink=8)
    save(network, path, word, own, {}, classes=THREE)
    recipe = tiny.recipe(tmp_path, teacher=str(path))
    small, large = (opened(recipe, sides) for sides in ((8, 8), (40, 30)))
    fine = torch.rand(2, 3, 32, 32, generator=generator(0)) * 255
    coarse = F.interpolate(fine, (8, 8), mode="bilinear", antialias=True)
    torch.testing.assert_close(large.opinion(fine), large.opinion(coarse))
    torch.testing.assert_close(small.opinion(coarse), large.opinion(coarse))
    assert not small.opinion(fine).allclose(large.opinion(fine))
    assert small.digest != large.digest


def opened(recipe: Recipe, sides: tuple[int, int]) -> Teacher:
    """The teacher of photos whose files have these sides."""
    images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    labels = torch.zeros(1, dtype=torch.int64)
    found = open_teacher(recipe, Photos(("a",), images, labels, "", THREE, frozenset([sides])))
    assert found is not None
    return found


def test_opening_a_teacher_leaves_the_students_arithmetic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {"allow_tf32": True, "benchmark": True, "deterministic": False}
    for name, value in before.items():
        monkeypatch.setattr(torch.backends.cudnn, name, value)
    word = "timm:test_efficientnet"
    network = random_network(word, 3)
    path = tmp_path / "a.safetensors"
    save(network, path, word, Preprocessing(size=32), {}, classes=THREE)
    opened(tiny.recipe(tmp_path, teacher=str(path)), (32, 32))
    assert {name: getattr(torch.backends.cudnn, name) for name in before} == before


def test_what_a_teacher_said_is_mixed_as_the_labels_are() -> None:
    said = Opinions(torch.tensor([[0.7, 0.2, 0.1]] * 3 + [[0.0, 0.1, 0.9]] * 3), "")
    task = replace(classification(teacher=said), mix="mixup")
    for seed in range(6):
        _, targets = task.batch([0, 5], 16, generator(seed))
        labels, opinions = targets[:, :3], targets[:, 3:]
        share = labels[:, :1]  # of the first image, of class 0; the other is of class 2
        torch.testing.assert_close(opinions, share * said.rows[0] + (1 - share) * said.rows[5])


def test_photos_are_flipped_from_left_to_right_and_never_upside_down() -> None:
    image = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    image[..., :16, :16] = 250  # upper left
    seen = []
    for seed in range(40):
        crop = augment.photos(image, 32, generator(seed))[0, 0]
        quarters = [
            crop[a, b].mean() for a in (slice(8), slice(24, 32)) for b in (slice(8), slice(24, 32))
        ]
        seen.append(max(range(4), key=quarters.__getitem__))
    assert set(seen) == {0, 1}
    assert 10 < seen.count(1) < 30


class Steep(nn.Module):
    """One weight, whose gradient is ``slope``."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.slope = slope

    def forward(self, images: Tensor) -> Tensor:
        return self.weight * self.slope


class Given:
    """A task whose loss is what the network returns."""

    main_score = "accuracy"
    classes = THREE
    preprocessing = SEEN
    digests: dict[str, str] = {}  # noqa: RUF012

    def __len__(self) -> int:
        return 4

    def has(self, part: str) -> bool:
        return False

    def batch(self, *_: object) -> tuple[Tensor, Tensor]:
        return torch.zeros(1, 3, 4, 4), torch.zeros(1)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return logits.sum()


@pytest.mark.parametrize("slope", [0.5, 4.0, 5.0, 100.0, -100.0])
def test_a_step_is_that_of_a_gradient_of_at_most_5(tmp_path: Path, slope: float) -> None:
    network = Steep(slope)
    recipe = tiny.recipe(tmp_path, lr=0.1)
    loop = Loop(
        recipe, Given(), network, [network.weight], [], Schedule(10, 5), tmp_path, print,  # type: ignore[arg-type]
    )  # fmt: skip
    loop.optimizer = torch.optim.SGD([{"params": [network.weight], "factor": 1.0}], lr=0.1)
    loop.step = 5
    loop.train_step([0], generator())
    rate = optimise.learning_rate(recipe, 0.5)
    assert network.weight.item() == pytest.approx(-rate * max(-5, min(5, slope)), rel=1e-4)


def test_the_averaged_weights_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Steep(1.0)
    loop = Loop(
        tiny.recipe(tmp_path), Given(), network, [network.weight], [], Schedule(2, 2), tmp_path,
        lambda text: None,  # type: ignore[arg-type]
    )  # fmt: skip
    kept: list[float] = []
    monkeypatch.setattr(
        "hw1.training.loop.Checkpoints.keep",
        lambda self, given, *_: kept.append(given.weight.item()),
    )
    loop.run()
    assert kept == [loop.ema.weight.item()]
    assert kept != [network.weight.item()]


class Trap:
    """What runs a function when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


def test_a_state_never_runs_code(tmp_path: Path) -> None:
    path, sprung = tmp_path / "state.pt", tmp_path / "sprung"
    torch.save({"recipe": Trap(sprung)}, path, pickle_module=pickle)
    with pytest.raises(InputError, match="cannot be read"):
        read_state(path)
    assert not sprung.exists()


def test_a_state_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        done.append("folder" if path.is_dir() else f"file of {os.fstat(descriptor).st_size > 0}")

    def moved(source: Path, target: Path) -> None:
        replace(source, target)
        done.append("moved")

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", moved)
    write_state(tmp_path / "state.pt", {"recipe": "r", "w": torch.zeros(3)})
    assert done == ["file of True", "moved", "folder"]
    assert read_state(tmp_path / "state.pt") is not None
