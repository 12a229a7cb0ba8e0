import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import tiny_training as tiny
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hw1.core.errors import InputError
from hw1.core.preprocessing import Preprocessing
from hw1.pipeline.crops import crop
from hw1.pipeline.masks import COLOURS
from hw1.training.history import History
from hw1.training.photos import load_photos
from hw1.training.source import find_source, hold_out
from hw1.training.tiles import IGNORED, Tiles, load_tiles


def photos_of(folder: Path, side: int = 32, every_class: bool = True) -> object:
    return load_photos(folder, side, every_class=every_class, tick=lambda count, total: None)


def tiles_of(folder: Path, warnings: list[str] | None = None) -> Tiles:
    warn = (lambda text: None) if warnings is None else warnings.append
    return load_tiles(folder, warn=warn, tick=lambda count, total: None)


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    return tiny.write_tiles(tmp_path / "tiles", 4)


def paint(mask: Path, colour: tuple[int, int, int], pixels: int) -> None:
    image = np.array(Image.open(mask))
    image.reshape(-1, 3)[:pixels] = colour
    Image.fromarray(image).save(mask)


@pytest.mark.parametrize(
    ("train", "validation"), [("train_50", "val_50"), ("train", "validation"), ("training", "val")]
)
def test_folders_are_found(tmp_path: Path, train: str, validation: str) -> None:
    for name in (train, validation):
        (tmp_path / name).mkdir()
    for data in (tmp_path, tmp_path / train):
        source = find_source(data, None)
        assert (source.train, source.validation) == (tmp_path / train, tmp_path / validation)
    given = find_source(tmp_path / train, tmp_path)
    assert given.validation == tmp_path


def test_a_folder_alone_has_no_validation(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    source = find_source(tmp_path / "images", None)
    assert source.train == tmp_path / "images"
    assert source.validation is None


def test_folders_that_look_alike(tmp_path: Path) -> None:
    for name in ("train_a", "train_b"):
        (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="train_a, train_b"):
        find_source(tmp_path, None)
    with pytest.raises(InputError, match="no such folder"):
        find_source(tmp_path / "train_a", tmp_path / "none")


def test_held_out_images_are_the_same_each_time() -> None:
    kept, held_out = hold_out(100, 10)
    assert sorted(kept + held_out) == list(range(100))
    assert len(held_out) == 10
    assert hold_out(100, 10) == (kept, held_out)


def test_photos_and_their_labels(tmp_path: Path) -> None:
    folder = tiny.write_photos(tmp_path, 2)
    photos = load_photos(folder, 32, every_class=True, tick=lambda count, total: None)
    assert photos.images.shape == (100, 3, 16, 16)
    assert [int(name.split("_")[0]) for name in photos.names] == photos.labels.tolist()
    scored = photos.resized(24).images[7].permute(1, 2, 0).numpy()
    assert np.array_equal(scored, crop(Image.open(folder / photos.names[7]), 24))


def test_images_all_smaller_than_the_input_tell_how_far_larger_ones_are_shrunk(
    tmp_path: Path,
) -> None:
    for number, sides in enumerate([(30, 20), (16, 24)]):
        Image.new("RGB", sides).save(tmp_path / f"{number}_0.png")
    found = load_photos(tmp_path, 96, every_class=False, tick=lambda count, total: None)
    assert found.prepared(Preprocessing(96)).shrink == (24, 30)
    assert found.prepared(Preprocessing(28, resize=32)).shrink == 20  # the shorter side
    for enough in (Preprocessing(30), Preprocessing((96, 24)), Preprocessing(28, resize=20)):
        assert found.prepared(enough) == enough


def test_photos_of_differing_sizes_become_squares(tmp_path: Path) -> None:
    folder = tiny.write_photos(tmp_path, 1)
    Image.new("RGB", (30, 20)).save(folder / "3_x.png")
    photos = load_photos(folder, 96, every_class=True, tick=lambda count, total: None)
    assert photos.images.shape == (51, 3, 96, 96)
    for name in ("3_x.png", "3_0.png", "9_0.png"):
        pixels = photos.images[photos.names.index(name)].permute(1, 2, 0).numpy()
        assert np.array_equal(pixels, crop(Image.open(folder / name), 96))


def test_large_photos_are_shrunk_as_they_are_scored(tmp_path: Path) -> None:
    fine = np.indices((200, 200)).sum(0) % 2 * 255
    for label in range(50):
        Image.fromarray(fine.astype(np.uint8)).save(tmp_path / f"{label}_0.png")
    photos = load_photos(tmp_path, 64, every_class=True, tick=lambda count, total: None)
    assert photos.images.shape == (50, 3, 64, 64)
    assert photos.images.float().std() < 3  # grey: a pattern would be one of sampling alone


def test_bad_photos(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no images"):
        photos_of(tmp_path)
    folder = tiny.write_photos(tmp_path / "photos", 1)
    (folder / "7_0.png").unlink()
    (folder / "31_0.png").unlink()
    with pytest.raises(InputError, match="2 of the 50 classes have no image: 7, 31"):
        photos_of(folder)
    photos_of(folder, every_class=False)
    shutil.copy(folder / "8_0.png", folder / "cat.png")
    with pytest.raises(InputError, match=r"1 names .*as in 12_0450.png: cat.png"):
        photos_of(folder)


def test_a_torn_photo(tmp_path: Path) -> None:
    folder = tiny.write_photos(tmp_path, 1)
    torn = folder / "9_0.png"
    torn.write_bytes(torn.read_bytes()[:200])
    with pytest.raises(InputError, match=r"9_0.png cannot be read \(truncated"):
        photos_of(folder)


def test_tiles_and_masks(tiles: Path) -> None:
    found = tiles_of(tiles)
    assert [image.shape for image in found.images] == [(3, 48, 48)] * 4
    assert all(int(mask.max()) < 6 for mask in found.masks)
    kept, held_out = found.split(1)
    assert {*kept.names, *held_out.names} == set(found.names)
    assert len(held_out) == 1
    with pytest.raises(InputError, match="--holdout 4"):
        found.split(4)


def test_bad_tiles(tiles: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no tiles"):
        tiles_of(tmp_path)
    Image.new("RGB", (40, 48)).save(tiles / "0001_mask.png")
    with pytest.raises(InputError, match=r"1 tiles .*0001_sat.jpg \(48 × 48, its mask 40 × 48\)"):
        tiles_of(tiles)
    (tiles / "0001_mask.png").unlink()
    (tiles / "0003_mask.png").unlink()
    with pytest.raises(InputError, match=r"2 tiles have no mask: 0001_mask.png, 0003_mask.png"):
        tiles_of(tiles)


def test_colours_that_are_no_class(tiles: Path) -> None:
    paint(tiles / "0002_mask.png", (255, 0, 0), 3)
    warnings: list[str] = []
    found = tiles_of(tiles, warnings)
    assert "3 of 9,216 mask pixels, in 1 files" in warnings[0]
    assert (found.masks[2].flatten()[:3] == IGNORED).all()
    paint(tiles / "0001_mask.png", (255, 0, 0), 300)
    with pytest.raises(InputError, match=r"303 of 9,216 mask pixels, in 2 .*classes' colours"):
        tiles_of(tiles)


def test_hidden_files_are_no_tiles(tiles: Path) -> None:
    (tiles / "._0000_sat.jpg").write_bytes(b"the system's")
    assert len(tiles_of(tiles)) == 4


def test_unknown_pixels_teach_nothing(tiles: Path) -> None:
    from hw1.core.preprocessing import Preprocessing
    from hw1.training.segmentation import SegmentationTask, balanced_weights, soft_jaccard_loss

    for mask in sorted(tiles.glob("*_mask.png"))[:3]:
        paint(mask, (0, 0, 0), 48 * 48)
    whole = tiles_of(tiles)
    found = Tiles(whole.names[:3], whole.images[:3], whole.masks[:3], whole.digest)
    weights = balanced_weights(found.masks)
    assert weights.tolist() == [0] * 7
    task = SegmentationTask(
        found, found, None, (32, 48), 1.0, Preprocessing(None), torch.device("cpu"), weights
    )
    _, targets = task.batch([0, 1], 32, torch.Generator().manual_seed(0))
    assert (targets == IGNORED).all()
    logits = torch.randn(2, 7, 32, 32, requires_grad=True)
    loss = task.loss(logits, targets)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()
    targets[0, 0, 0] = 3
    assert 0 < float(soft_jaccard_loss(logits.detach(), targets)) < 1
    sure = torch.zeros(2, 7, 32, 32)
    sure[:, 3] = 30
    assert float(soft_jaccard_loss(sure, targets)) == pytest.approx(0, abs=1e-6)


def test_masks_without_classes(tiles: Path) -> None:
    warnings: list[str] = []
    tiles_of(tiles, warnings)
    assert len(warnings) == 1
    assert "no pixel of any mask is" in warnings[0]
    assert " or " in warnings[0]
    for mask in tiles.glob("*_mask.png"):
        paint(mask, (0, 0, 0), 48 * 48)
    with pytest.raises(InputError, match="no pixel of any mask has a class to learn, urban"):
        tiles_of(tiles)


@pytest.mark.parametrize("mode", ["index", "palette"])
def test_masks_in_the_other_forms_that_hw1_writes(tiles: Path, mode: str) -> None:
    expected = tiles_of(tiles).masks
    for mask, classes in zip(sorted(tiles.glob("*_mask.png")), expected, strict=True):
        image = Image.fromarray(classes.numpy())
        if mode == "palette":
            image.putpalette(COLOURS.tobytes())
        image.save(mask)
    assert all(torch.equal(a, b) for a, b in zip(tiles_of(tiles).masks, expected, strict=True))


def test_weights_do_not_make_rare_classes_likelier() -> None:
    from hw1.training.segmentation import balanced_cross_entropy

    # One pixel in eight is of class 4, and nothing tells which: the best logits say just that.
    targets = torch.tensor([1, 1, 1, 4, 1, 1, 1, 1]).view(1, 2, 4)
    weights = torch.tensor([0, 0.5, 0, 0, 3.0, 0, 0])
    logits = torch.zeros(1, 7, 1, 1, requires_grad=True)
    optimiser = torch.optim.SGD([logits], lr=1.0)
    for _ in range(500):
        optimiser.zero_grad()
        balanced_cross_entropy(logits.expand(1, 7, 2, 4), targets, weights).backward()
        optimiser.step()
    chances = logits.detach().flatten().softmax(0)
    assert chances[1] / chances[4] == pytest.approx(7, rel=0.01)
    assert chances[[0, 2, 3, 5, 6]].max() < 0.01


@given(st.integers(0, 10_000), st.integers(1, 7))
def test_the_losses_are_those_of_their_formulas(seed: int, classes: int) -> None:
    from hw1.training.segmentation import balanced_cross_entropy, soft_jaccard_loss

    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 7, 4, 4, generator=generator)
    targets = torch.randint(0, classes, (2, 4, 4), generator=generator)
    targets[torch.rand(2, 4, 4, generator=generator) < 0.3] = IGNORED
    targets[0, 0, 0] = 0
    weights = torch.rand(7, generator=generator) + 0.1
    expected = F.cross_entropy(
        logits + weights.log().view(-1, 1, 1), targets, weights, ignore_index=IGNORED
    )
    assert float(balanced_cross_entropy(logits, targets, weights)) == pytest.approx(
        float(expected), rel=1e-5
    )
    guess = logits.softmax(1).movedim(1, 3)[targets != IGNORED]
    truth = F.one_hot(targets[targets != IGNORED], 7)
    both = (guess * truth).sum(0)
    ious = [float(b / u) for b, u in zip(both, (guess + truth).sum(0) - both, strict=True) if b]
    assert float(soft_jaccard_loss(logits, targets)) == pytest.approx(
        1 - sum(ious) / len(ious), abs=1e-5
    )


def test_rare_classes_weigh_more() -> None:
    from hw1.training.segmentation import balanced_weights

    mask = torch.zeros(100, 100, dtype=torch.uint8)
    mask[:20] = 1
    mask[:1] = 6
    weights = balanced_weights([mask])
    shares = torch.tensor([8000.0, 1900.0]) / 9900
    assert weights[1] / weights[0] == pytest.approx(float((shares[0] / shares[1]).sqrt()))
    assert (weights[:2] * shares).sum() == pytest.approx(1)
    assert not weights[2:].any()


def test_tensorboard_gets_one_file_a_run_and_a_resumed_one_hides_what_it_does_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    steps: list[int] = []

    class SummaryWriter:
        def __init__(self, folder: str, *, purge_step: int) -> None:
            opened.append(purge_step)

        def add_scalar(self, name: str, value: float, step: int) -> None:
            steps.append(step)

        def flush(self) -> None: ...

        def close(self) -> None: ...

    module = types.ModuleType("torch.utils.tensorboard")
    module.__dict__["SummaryWriter"] = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    history = History()
    for epoch in (1, 2, 3):
        history.add({"epoch": epoch, "step": 10 * epoch})
        history.write(tmp_path)
    history.close()
    assert opened == [10]
    assert steps == [10, 10, 20, 20, 30, 30]
    resumed = History(history.rows[:2])
    resumed.add({"epoch": 3, "step": 30})
    resumed.write(tmp_path)
    assert opened == [10, 30]
    assert (tmp_path / "metrics.csv").read_text() == "epoch,step\n1,10\n2,20\n3,30\n"
