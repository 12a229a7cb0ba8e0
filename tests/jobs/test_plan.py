import gzip
import hashlib
import json
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw1.core.errors import EnvironmentFault, InputError
from hw1.core.records import Planned
from hw1.jobs import plan
from hw1.jobs.plan import read_plan, shards, write_plan
from hw1.pipeline.names import collisions, output_name

names = st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name).map(os.fsdecode)
planned = st.builds(Planned, names, st.integers(-1, 2**40), st.integers(-1, 2**63))


@given(images=st.lists(planned, max_size=20, unique_by=lambda image: image.image_id))
def test_any_plan_is_read_back_sorted(
    tmp_path_factory: pytest.TempPathFactory, images: list[Planned]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    digest = write_plan(images, folder / "plan.jsonl")
    content = (folder / "plan.jsonl").read_bytes()
    assert content.isascii()
    assert content.count(b"\n") == len(images)
    assert hashlib.sha256(content).hexdigest() == digest
    expected = sorted(images, key=lambda image: os.fsencode(image.image_id))
    assert read_plan(folder, digest) == expected


def test_a_line_is_an_object_that_a_person_can_read(tmp_path: Path) -> None:
    write_plan([Planned('a "b"\n,\udcff.png', 12, 34)], tmp_path / "plan.jsonl")
    line = (tmp_path / "plan.jsonl").read_text()
    assert json.loads(line) == {"image_id": 'a "b"\n,\udcff.png', "size": 12, "mtime_ns": 34}
    assert line.endswith("}\n")


def test_a_long_plan_is_compressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [Planned(f"{number:03}.png", 1, 2) for number in range(50)]
    short = write_plan(images, tmp_path / "plan.jsonl")
    monkeypatch.setattr(plan, "LONG", 49)
    assert write_plan(reversed(images), tmp_path / "plan.jsonl") == short
    assert [path.name for path in tmp_path.iterdir()] == ["plan.jsonl.gz"]
    content = (tmp_path / "plan.jsonl.gz").read_bytes()
    assert hashlib.sha256(gzip.decompress(content)).hexdigest() == short
    assert read_plan(tmp_path, short) == images
    write_plan(images, tmp_path / "plan.jsonl")
    assert (tmp_path / "plan.jsonl.gz").read_bytes() == content


def test_a_plan_takes_little_memory(tmp_path: Path) -> None:
    """A million images must stay well under 500 MB: at most 400 bytes each."""
    images = [
        Planned(f"folder/{number:08}.png", 10**6 + number, 10**18 + number)
        for number in range(5000)
    ]
    write_plan(images, tmp_path / "plan.jsonl")
    tracemalloc.start()
    try:
        read = read_plan(tmp_path)
        assert tracemalloc.get_traced_memory()[0] < 400 * len(read)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "damage", [b"", b"{\n", b"[]\n", b'{"image_id": 1, "size": 1}\n', b"\xff\n"]
)
def test_a_plan_that_is_not_what_was_written_is_refused(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "plan.jsonl"
    digest = write_plan([Planned("a.png", 1, 2), Planned("b.png", 1, 2)], path)
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0] + damage)
    with pytest.raises(InputError, match="--overwrite"):
        read_plan(tmp_path, digest)


@pytest.mark.parametrize("end", [10, -9, -1])
def test_a_torn_compressed_plan_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: int
) -> None:
    monkeypatch.setattr(plan, "LONG", 0)
    write_plan([Planned("a.png", 1, 2)], tmp_path / "plan.jsonl")
    path = tmp_path / "plan.jsonl.gz"
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(InputError, match="damaged"):
        read_plan(tmp_path)


def test_no_plan(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no plan"):
        read_plan(tmp_path)


def test_a_plan_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [Planned("a.png", 1, 2)]
    digest = write_plan(images, tmp_path / "plan.jsonl")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EnvironmentFault, match="No space left"):
        write_plan([], tmp_path / "plan.jsonl")
    assert read_plan(tmp_path, digest) == images


@pytest.mark.parametrize(
    ("image_id", "expected", "kept"),
    [
        ("a/0010.jpg", "a/0010.png", "a/0010.jpg.png"),
        ("a.b.JPEG", "a.b.png", "a.b.JPEG.png"),
        ("./a.tif", "a.png", "a.tif.png"),
        ("folder.d/scan", "folder.d/scan.png", "folder.d/scan.png"),
        ("version1.5", "version1.5.png", "version1.5.png"),
        (".png", ".png.png", ".png.png"),
    ],
)
def test_outputs_are_named_after_images(image_id: str, expected: str, kept: str) -> None:
    assert output_name(image_id, ".png") == expected
    assert output_name(image_id, ".png", keep_suffix=True) == kept


def test_collisions_are_named_in_pairs() -> None:
    images = ["a.jpg", "a.png", "b.jpg", "b/c.jpg", "d.jpg", "d.png/e/f.jpg"]
    assert collisions(images, ".png") == [("a.jpg", "a.png"), ("d.jpg", "d.png/e/f.jpg")]
    assert collisions(images, ".png", keep_suffix=True) == []


@given(images=st.lists(st.from_regex(r"([ab]/)?[ab](\.jpg|\.png)?", fullmatch=True), unique=True))
def test_without_collisions_every_output_has_one_image(images: list[str]) -> None:
    for keep in (False, True):
        outputs = {output_name(image, ".png", keep) for image in images}
        assert (len(outputs) < len(images)) <= bool(collisions(images, ".png", keep))


def numbered(count: int) -> list[Planned]:
    return [Planned(f"{number:06}.png", 1, 1) for number in range(count)]


@given(count=st.integers(0, 500), shard_size=st.integers(1, 200), batch_size=st.integers(1, 64))
def test_shards_partition_the_plan_in_whole_batches(
    count: int, shard_size: int, batch_size: int
) -> None:
    images = numbered(count)
    cut = list(shards(images, shard_size, batch_size))
    assert [image for shard in cut for image in shard.images] == images
    assert [shard.id for shard in cut] == list(range(len(cut)))
    for shard in cut:
        assert shard.images
        assert shard.first % batch_size == 0
        assert images[shard.first : shard.stop] == list(shard.images)
    for shard in cut[:-1]:
        assert len(shard.images) % batch_size == 0
        assert shard_size <= len(shard.images) < shard_size + batch_size


def test_shards_are_made_when_they_are_asked_for() -> None:
    class Watched(list[Planned]):
        slices = 0

        def __getitem__(self, key):  # type: ignore[no-untyped-def]
            self.slices += 1
            return super().__getitem__(key)

    images = Watched(numbered(100))
    iterator = shards(images, 10, 5)
    assert images.slices == 0
    next(iterator)
    assert images.slices == 1


@pytest.mark.parametrize("sizes", [(0, 1), (1, 0), (-5, 2)])
def test_sizes_are_at_least_one(sizes: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        list(shards(numbered(3), *sizes))


def test_a_plan_of_brackets_is_damaged(tmp_path: Path) -> None:
    """Found by make fuzz: json gives up on its depth with another error."""
    (tmp_path / "plan.jsonl").write_bytes(b"[" * 5000 + b"\n")
    with pytest.raises(InputError, match="is damaged at line 1"):
        read_plan(tmp_path)
