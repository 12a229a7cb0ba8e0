"""Masks and overlays, beside what isn't hw1's."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from fakes import write_grey
from hw1.core.errors import InputError, Refused
from hw1.jobs.inspect import verify
from tiny_jobs import COUNT, at_position, interrupt, masks_of, run, segment, spec_of


def test_masks_have_the_images_size_and_the_classes_colour(images: Path) -> None:
    write_grey(images / "deep" / "er" / "x.jpg", 250, (31, 17))
    summary = segment(masks_of(images))
    assert summary.scored == COUNT + 1
    with Image.open(images.parent / "masks" / "deep" / "er" / "x.png") as mask:
        assert (mask.mode, mask.size) == ("RGB", (31, 17))
        assert mask.getcolors() == [(31 * 17, (0, 255, 0))]
    assert verify(summary.job) == []


def test_two_images_for_one_mask_are_refused_with_the_way_out(images: Path) -> None:
    write_grey(images / "00.jpg", 1)
    with pytest.raises(InputError, match=r"00\.jpg and 00\.png.*--keep-suffix"):
        segment(masks_of(images))
    assert not (images.parent / "masks").exists()
    assert segment(masks_of(images, keep_suffix=True)).scored == COUNT + 1
    assert (images.parent / "masks" / "00.jpg.png").exists()


def test_lost_and_changed_masks_are_found_and_made_again(images: Path) -> None:
    summary = segment(masks_of(images))
    masks = images.parent / "masks"
    before = [(masks / name).read_bytes() for name in ("03.png", "04.png")]
    (masks / "03.png").unlink()
    shutil.copy(masks / "22.png", masks / "04.png")
    assert len(verify(summary.job)) == 2
    assert segment(masks_of(images)).resumed == COUNT - 8  # of two shards
    assert [(masks / name).read_bytes() for name in ("03.png", "04.png")] == before


def test_overwrite_removes_what_a_killed_job_wrote_and_nothing_else(images: Path) -> None:
    masks = images.parent / "masks"
    write_grey(masks / "mine.png", 7)
    mine = (masks / "mine.png").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        segment(masks_of(images), at_position(9, interrupt))
    assert segment(masks_of(images, mask_format="index", overwrite=True)).scored == COUNT
    assert (masks / "mine.png").read_bytes() == mine
    with Image.open(masks / "00.png") as mask:
        assert (mask.mode, mask.getpixel((0, 0))) == ("L", 4)


def test_a_mask_that_is_not_ours_is_never_replaced(images: Path) -> None:
    write_grey(images.parent / "masks" / "07.png", 7)
    with pytest.raises(Refused, match=r"07\.png exists"):
        segment(masks_of(images))


def test_overlays_are_blends_of_image_and_mask(images: Path) -> None:
    summary = segment(masks_of(images, overlay=images.parent / "blends"))
    with Image.open(images.parent / "blends" / "20.png") as blend:
        assert blend.getpixel((0, 0)) == (100, (200 + 255) // 2, 100)
    (images.parent / "blends" / "20.png").unlink()
    assert segment(masks_of(images, overlay=images.parent / "blends")).resumed < summary.planned
    assert (images.parent / "blends" / "20.png").exists()


def test_overlays_are_not_images_of_a_later_job(images: Path) -> None:
    overlay = images / "blends"
    first = segment(masks_of(images, overlay=overlay))
    assert segment(masks_of(images, output=images.parent / "again")).planned == COUNT
    assert segment(masks_of(images, overlay=overlay, overwrite=True)).planned == first.planned
    assert run(spec_of(images, source=str(overlay))).planned == COUNT  # asked for by name


@pytest.mark.parametrize("source", ["in", "in/0*.png", "in/03.png", "@in/list", "@list"])
def test_masks_among_the_images_are_refused(
    images: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.chdir(images.parent)
    (images / "list").write_text("03.png\n")
    (images.parent / "link").symlink_to("in")
    (images.parent / "list").write_text("in/03.png\n")
    for output in (Path("in"), Path("link")):
        with pytest.raises(InputError, match="among the images"):
            segment(masks_of(images, source=source, output=output))
    assert not (images / ".job").exists()


def test_overwrite_in_a_copied_job_leaves_the_originals_overlays(images: Path) -> None:
    overlay = images.parent / "blends"
    segment(masks_of(images, overlay=overlay))
    copy = images.parent / "copy"
    shutil.copytree(images.parent / "masks", copy)
    segment(masks_of(images, output=copy, overwrite=True))
    assert len(list(overlay.glob("*.png"))) == COUNT
    assert verify(images.parent / "masks" / ".job") == []
    assert verify(copy / ".job") == []


def test_a_mask_whose_name_would_be_too_long_is_refused_in_the_plan(images: Path) -> None:
    shutil.copy(images / "00.png", images / ("x" * 253))
    with pytest.raises(InputError, match=r"255 bytes.*--exclude"):
        segment(masks_of(images))
    assert not (images.parent / "masks").exists()
    assert segment(masks_of(images, exclude=("x*",))).scored == COUNT


def test_an_overwrite_that_is_refused_keeps_the_earlier_masks(images: Path) -> None:
    segment(masks_of(images))
    write_grey(images.parent / "blends" / "07.png", 7)
    with pytest.raises(Refused, match=r"07\.png exists"):
        segment(masks_of(images, overwrite=True, overlay=images.parent / "blends"))
    assert segment(masks_of(images)).resumed == COUNT


def test_a_refused_overwrite_leaves_the_earlier_masks_as_they_were(images: Path) -> None:
    (images / "05.png").write_bytes(b"")
    summary = segment(masks_of(images))
    write_grey(images.parent / "masks" / "05.png", 7)  # by hand, for the rejected image
    with pytest.raises(Refused, match=r"05\.png exists"):
        segment(masks_of(images, overwrite=True))
    assert verify(summary.job) == []
    (images.parent / "masks" / "05.png").unlink()
    assert segment(masks_of(images, overwrite=True)).rejected == 1
