"""Tiles of several images in one forward pass, as on a GPU; here with a network that is a sum."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fakes import SEGMENTER, FakeSegmentJob, write_grey
from hw1.core.numerics import detect
from hw1.core.preprocessing import Preprocessing
from hw1.core.records import Decoded, Planned, Shard, UInt8
from hw1.core.spec import SegmentSpec
from hw1.pipeline.decode import Picture
from hw1.pipeline.decode_pieces import decode_photos
from hw1.pipeline.segmentation import MaskPredictor, SegmentWork

BATCH = 4


@dataclass
class Counting:
    """A network that notes its inputs' shapes; its logits hang on their pixels alone."""

    shapes: list[tuple[int, ...]] = field(default_factory=list)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def logits(self, inputs: Tensor) -> Tensor:
        self.shapes.append(tuple(inputs.shape))
        levels = torch.linspace(0, 1, 7).view(1, 7, 1, 1)
        return -(inputs.mean(1, keepdim=True) - levels).abs()


def predictor(tmp_path: Path, batch: int, **changes: object) -> tuple[MaskPredictor, Counting]:
    spec = SegmentSpec(source="", output=tmp_path, tta=bool(changes.pop("tta", False)))
    profile = replace(detect("cpu", "fp32", 1, 1), batch_size=batch)
    checkpoint = replace(SEGMENTER, preprocessing=Preprocessing(size=None), **changes)
    work = SegmentWork(spec, tmp_path, tmp_path, tmp_path, None, checkpoint, profile)
    made = MaskPredictor.__new__(MaskPredictor)
    network = Counting()
    made._work, made._ready = work, network  # type: ignore[assignment]
    return made, network


def decoded(*images: tuple[int, UInt8]) -> Decoded:
    """Images at these positions of the plan."""
    positions = tuple(position for position, _ in images)
    names = tuple(map(str, positions))
    return Decoded(Shard(0, 0, ()), positions, names, tuple(image for _, image in images), ())


def photo(seed: int, height: int = 40, width: int = 70) -> UInt8:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("tta", [False, True])
def test_masks_are_those_of_single_passes(tmp_path: Path, tta: bool) -> None:
    images = [(position, photo(position)) for position in (0, 1, 3, 4, 6)]
    alone, _ = predictor(tmp_path, 1, tta=tta)
    together, network = predictor(tmp_path, BATCH, tta=tta)
    expected, found = alone(decoded(*images)), together(decoded(*images))
    assert len(np.unique(expected.arrays[0])) >= 4
    for one, other in zip(expected.arrays, found.arrays, strict=True):
        np.testing.assert_array_equal(one, other)
    assert {shape[0] for shape in network.shapes} == {BATCH}
    assert len(network.shapes) == (6 if tta else 2)  # of images 0 to 3, and 4 to 7


def test_the_piece_that_an_image_comes_in_does_not_matter(tmp_path: Path) -> None:
    """Its place in the pass is its own; the others' are blank."""
    images = [(position, photo(position)) for position in range(4)]
    made, network = predictor(tmp_path, BATCH)
    whole = made(decoded(*images)).arrays
    parts = [mask for image in images for mask in made(decoded(image)).arrays]
    assert all(map(np.array_equal, whole, parts))
    assert set(network.shapes) == {(BATCH, 3, 64, 96)}


@pytest.mark.parametrize(
    ("images", "changes"),
    [
        ([(0, photo(0)), (1, photo(1, 41))], {}),  # of two sizes
        ([(0, photo(0, 1100, 1000)), (1, photo(1, 1100, 1000))], {}),  # large enough alone
        ([(0, photo(0)), (1, photo(1))], {"architecture": "torchvision:fcn_resnet50"}),
    ],
)
def test_others_are_scored_one_by_one(
    tmp_path: Path, images: list[tuple[int, UInt8]], changes: dict[str, object]
) -> None:
    made, network = predictor(tmp_path, BATCH, **changes)
    masks = made(decoded(*images)).arrays
    assert [mask.shape for mask in masks] == [image.shape[:2] for _, image in images]
    assert {shape[0] for shape in network.shapes} == {1}


def test_a_piece_ends_with_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    pixels = Picture.rgb

    def counted(picture: Picture) -> Image.Image:
        read.append(tmp_path)
        return pixels(picture)

    monkeypatch.setattr(Picture, "rgb", counted)
    for index in range(10):
        write_grey(tmp_path / f"{index}.png", 9, (10, 10))
    images = tuple(Planned(p.name, *_stat(p)) for p in sorted(tmp_path.iterdir()))
    ends = []
    piece = Shard(0, 0, images)
    while piece.images:
        found = decode_photos(piece, tmp_path, 5 * 300, together=4)
        assert found.positions == tuple(range(piece.first, found.piece.stop))
        ends.append(found.piece.stop)
        piece = piece.piece(found.piece.stop, 10)
    assert ends == [4, 8, 10]
    assert len(read) == 10  # none twice
    # Where a batch alone is too large, it is cut all the same.
    assert decode_photos(Shard(0, 0, images), tmp_path, 2 * 300, together=4).piece.stop == 2


def _stat(path: Path) -> tuple[int, int]:
    return path.stat().st_size, path.stat().st_mtime_ns


def test_a_gpus_batch_follows_from_its_memory(tmp_path: Path) -> None:
    job = FakeSegmentJob.of(SegmentSpec(source="", output=tmp_path / "masks"))
    assert (job.batch_size("cpu", 0), job.shard_size(1)) == (1, 16)
    assert (job.batch_size("cuda", 80 << 30), job.shard_size(16)) == (16, 32)
    assert replace(job, spec=replace(job.spec, shard_size=20)).shard_size(16) == 32
