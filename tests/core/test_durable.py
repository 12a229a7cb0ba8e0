"""Files that are whole or not there."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hw1.core.durable import replacing, write_bytes
from hw1.core.errors import EnvironmentFault


def test_a_temporary_file_lies_in_the_scratch_folder(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()

    def chunks() -> Iterator[bytes]:
        yield b"a"
        assert [path.name for path in tmp_path.iterdir()] == ["scratch"]
        assert len(list((tmp_path / "scratch").iterdir())) == 1
        yield b"b"

    write_bytes(tmp_path / "whole", chunks(), scratch=tmp_path / "scratch")
    assert (tmp_path / "whole").read_bytes() == b"ab"
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "whole"
    write_bytes(path, [b"before"])

    def chunks() -> Iterator[bytes]:
        yield b"a"
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(EnvironmentFault, match="No space left"):
        write_bytes(path, chunks())
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_written_where_nothing_can_be_moved_from_the_scratch_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As between two volumes of a container that lie on one disk, of one number."""
    (tmp_path / "scratch").mkdir()
    for name in ("rename", "replace"):
        move = getattr(os, name)

        def within(old: Path, new: Path, move: Callable[..., None] = move) -> None:
            if old.parent != new.parent:
                raise OSError(errno.EXDEV, "Invalid cross-device link")
            move(old, new)

        monkeypatch.setattr(os, name, within)
    write_bytes(tmp_path / "whole", [b"ab"], scratch=tmp_path / "scratch")
    assert (tmp_path / "whole").read_bytes() == b"ab"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["scratch", "whole"]


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    """A retry may write beside a worker that was taken for lost."""
    path = tmp_path / "whole"
    with replacing(path) as first, replacing(path) as second:
        assert first != second
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]
