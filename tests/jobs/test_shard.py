import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw1.core.records import Planned
from hw1.jobs.plan import shards


def plan(count: int) -> list[Planned]:
    return [Planned(f"{number:06}.png", 1, 1) for number in range(count)]


@given(count=st.integers(0, 500), shard_size=st.integers(1, 200), batch_size=st.integers(1, 64))
def test_shards_partition_the_plan_in_whole_batches(
    count: int, shard_size: int, batch_size: int
) -> None:
    images = plan(count)
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

    images = Watched(plan(100))
    iterator = shards(images, 10, 5)
    assert images.slices == 0
    next(iterator)
    assert images.slices == 1


@pytest.mark.parametrize("sizes", [(0, 1), (1, 0), (-5, 2)])
def test_sizes_are_at_least_one(sizes: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        list(shards(plan(3), *sizes))
