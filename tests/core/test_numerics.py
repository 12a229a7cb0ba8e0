import os
from pathlib import Path

import pytest

from hw1.core import numerics
from hw1.execution import ray_engine as engine
from hw1.execution.engines import EngineOptions, start
from hw1.execution.placement import RayOptions


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 6),
        ({"cpu.max": "max 100000"}, 6),
        ({"cpu.max": "250000 100000"}, 2),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "900000 100000"}, 6),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 6),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
    ],
)
def test_cores_are_those_that_this_process_may_use(
    files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu").mkdir()
    for name, content in files.items():
        (tmp_path / name).write_text(content + "\n")
    monkeypatch.setattr(numerics, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    assert numerics.cores() == expected


def test_both_engines_count_the_same_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else their threads differ, and with these the bytes."""
    seen: list[RayOptions] = []

    class Engine:
        def __init__(self, options: RayOptions) -> None:
            seen.append(options)

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(engine, "RayEngine", Engine)
    monkeypatch.setattr("hw1.execution.engines.cores", lambda: 3)
    monkeypatch.setattr("hw1.execution.inline.cores", lambda: 3)
    with start(EngineOptions()):
        pass
    with start(EngineOptions(engine="inline")) as inline:
        assert inline.threads() == 3
    assert [options.processors for options in seen] == [3]


@pytest.mark.parametrize(
    ("side", "gigabytes", "expected"),
    [
        *((40, 80, 1024), (40, 8, 1024), (56, 80, 512), (64, 80, 256), (96, 80, 256)),
        *((224, 80, 256), (224, 16, 128), (224, 8, 64), (1024, 80, 32)),
    ],
)
def test_a_gpus_batch_is_the_larger_the_smaller_its_images(
    side: int, gigabytes: int, expected: int
) -> None:
    found = numerics.gpu_batch_size(side * side, 10**8, gigabytes * 10**9)
    assert found == expected


def test_a_gpus_batch_leaves_room_for_the_weights() -> None:
    assert numerics.gpu_batch_size(224 * 224, 10**9, 20 * 10**9) == 128
    assert numerics.gpu_batch_size(40 * 40, 10**9, 10**9) == 1


def test_a_gpus_tiles_are_as_many_as_half_its_memory_holds() -> None:
    assert [numerics.gpu_tiles(gib << 30) for gib in (80, 8, 4, 1)] == [16, 16, 8, 2]
