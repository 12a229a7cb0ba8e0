import errno
import io
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from hw1.core.errors import EnvironmentFault, InputError
from hw1.core.records import Planned
from hw1.pipeline.find import Found, find
from hw1.pipeline.formats import HEAD_BYTES, format_of, suffix_of


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (2, 2)).save(file, "PNG")
    return file.getvalue()


def put(root: Path, *names: str, content: bytes = b"?") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def ids(found: Found) -> list[str]:
    return [planned.image_id for planned in found.images]


def test_a_folder_is_listed_with_all_below_it(tmp_path: Path) -> None:
    put(tmp_path, "b.png", "a.JPG", "sub/deep/c.jpeg", "sub/notes.txt", "d.xyz", "README")
    put(tmp_path, "sub/scan", "odd.dat", content=png())
    found = find(str(tmp_path))
    assert ids(found) == ["a.JPG", "b.png", "odd.dat", "sub/deep/c.jpeg", "sub/scan"]
    assert found.root == tmp_path
    assert found.ignored == 3
    assert found.formats == {".jpg": 1, ".png": 1, ".dat": 1, ".jpeg": 1, "": 1}
    status = (tmp_path / "b.png").stat()
    assert found.images[1] == Planned("b.png", status.st_size, status.st_mtime_ns)


def test_a_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "photos/a.png")
    monkeypatch.chdir(tmp_path / "photos")
    for source in (".", "../photos", "../photos/"):
        found = find(source)
        assert ids(found) == ["a.png"]
        assert found.root.is_absolute()
        assert (found.root / "a.png").exists()


def test_images_are_sorted_by_the_bytes_of_their_names(tmp_path: Path) -> None:
    for name in (b"\xff.png", "é.png".encode(), b"a.png", b"Z.png", b"a/b.png", b"a-b.png"):
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    assert [os.fsencode(name) for name in ids(find(str(tmp_path)))] == [
        b"Z.png",
        b"a-b.png",
        b"a.png",
        b"a/b.png",
        "é.png".encode(),
        b"\xff.png",
    ]


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(
    names=st.sets(
        st.binary(min_size=1, max_size=20).filter(
            lambda name: not set(name) & {0, ord("/")} and not name.startswith(b".")
        ),
        min_size=1,
        max_size=5,
    )
)
def test_any_file_name_survives(
    tmp_path_factory: pytest.TempPathFactory, names: set[bytes]
) -> None:
    root = tmp_path_factory.mktemp("names")
    expected = sorted(name + b".png" for name in names)
    for name in expected:
        Path(os.fsdecode(os.fsencode(root) + b"/" + name)).write_bytes(b"1")
    found = find(str(root))
    assert [os.fsencode(name) for name in ids(found)] == expected
    assert all((found.root / name).read_bytes() == b"1" for name in ids(found))


def test_hidden_files_and_what_hw1_writes_are_not_listed(tmp_path: Path) -> None:
    put(tmp_path, "a.png", ".b.png", ".git/c.png", "._d.jpg")
    put(tmp_path, "out.csv.job/job.json", "out.csv.job/x.png")
    put(tmp_path, "old_masks/.job/job.json", "old_masks/a.png", "old_masks/sub/b.png")
    put(tmp_path, "masks/a.png", "overlay/a.png", "plot.png", "steve.job/e.png")
    skip = [tmp_path / name for name in ("masks", "overlay", "plot.png", "nothing_yet")]
    found = find(str(tmp_path), skip=skip)
    assert ids(found) == ["a.png", "steve.job/e.png"]
    assert found.ignored == 0


def test_what_is_skipped_is_known_by_any_name(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "masks/a.png")
    (tmp_path / "again").symlink_to("masks")
    (tmp_path / "other").symlink_to(tmp_path, target_is_directory=True)
    assert ids(find(str(tmp_path), skip=[tmp_path / "other" / "masks"])) == ["a.png"]


def test_links_are_followed_and_circles_end(tmp_path: Path) -> None:
    put(tmp_path, "in/a/x.png", "in/b/y.png", "elsewhere/z.png")
    root = tmp_path / "in"
    (root / "far").symlink_to(tmp_path / "elsewhere")
    (root / "up").symlink_to(root)
    (root / "a" / "up").symlink_to(root)
    (root / "a" / "b").symlink_to(root / "b")
    (root / "b" / "a").symlink_to("../a")
    (root / "self.png").symlink_to("self.png")
    (root / "self").symlink_to("self")
    found = find(str(root))
    assert {"a/x.png", "b/y.png", "far/z.png", "a/b/y.png", "b/a/x.png"} < set(ids(found))
    assert found.images[-1] == Planned("self.png", -1, -1)
    assert len(found.images) < 10


def test_a_link_to_nothing_is_planned_as_gone(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to("nowhere")
    (tmp_path / "b").symlink_to("nowhere")
    found = find(str(tmp_path))
    assert found.images == [Planned("a.png", -1, -1)]
    assert found.ignored == 1


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    os.mkfifo(tmp_path / "fifo")
    os.mkfifo(tmp_path / "fifo.png")
    found = find(str(tmp_path))
    assert ids(found) == ["a.png"]
    assert found.ignored == 2
    with pytest.raises(InputError, match="not a file or folder"):
        find(str(tmp_path / "fifo.png"))


def test_include_and_exclude_look_at_the_whole_name(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "a.jpg", "raw/a.png", "raw/b/c.png", "x/raw.png")
    assert ids(find(str(tmp_path), exclude=["*.jpg", "raw/*"])) == ["a.png", "x/raw.png"]
    assert ids(find(str(tmp_path), include=["raw/*"])) == ["raw/a.png", "raw/b/c.png"]
    found = find(str(tmp_path), include=["*.png"], exclude=["*/b/*", "a.*"])
    assert ids(found) == ["raw/a.png", "x/raw.png"]
    assert found.ignored == 2
    with pytest.raises(InputError, match=r"nothing to do.*--include"):
        find(str(tmp_path), include=["*.gif"])


def test_one_file_is_filtered_as_those_of_a_folder(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    one = str(tmp_path / "a.png")
    assert ids(find(one, include=["*.png"])) == ["a.png"]
    with pytest.raises(InputError, match="the one file is no image that --include"):
        find(one, exclude=["*.png"])


def test_one_file_is_planned_whatever_it_is(tmp_path: Path) -> None:
    put(tmp_path, "notes.txt", "[1].png", ".hidden.png")
    for name in ("notes.txt", "[1].png", ".hidden.png"):
        found = find(str(tmp_path / name))
        assert ids(found) == [name]
        assert found.root == tmp_path


@pytest.mark.parametrize(
    ("glob", "root", "expected"),
    [
        ("*.png", "", ["a.png", "b.png"]),
        ("?.[jp]*", "", ["a.png", "b.png", "c.jpg"]),
        ("2024-*/*.png", "", ["2024-01/d.png", "2024-02/e.png"]),
        ("2024-01/[d]*", "2024-01", ["d.png", "deep/f.png"][:1]),
        (
            "**/*.png",
            "",
            ["2024-01/d.png", "2024-01/deep/f.png", "2024-02/e.png", "a.png", "b.png"],
        ),
        ("2024-01/**", "2024-01", ["d.png", "deep/f.png"]),
        ("*/deep/*", "", ["2024-01/deep/f.png"]),
        ("*01/../2024-02/*", "", None),
    ],
)
def test_a_glob_is_relative_to_what_stands_before_its_wildcard(
    tmp_path: Path, glob: str, root: str, expected: list[str] | None
) -> None:
    put(tmp_path, "a.png", "b.png", "c.jpg", "2024-01/d.png", "2024-02/e.png", "2024-01/deep/f.png")
    put(tmp_path, ".hidden/g.png", ".h.png", "notes.txt")
    if expected is None:
        with pytest.raises(InputError, match="nothing to do"):
            find(f"{tmp_path}/{glob}")
    else:
        found = find(f"{tmp_path}/{glob}")
        assert ids(found) == expected
        assert found.root == tmp_path / root


def test_a_glob_lists_only_folders_that_may_match(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "in/a/x.png", "in/private/y.png", "in/a/deep/z.png")
    forbid(monkeypatch, "private", "deep")
    assert ids(find(f"{tmp_path}/in/a*/*.png")) == ["a/x.png"]
    monkeypatch.chdir(tmp_path)
    assert ids(find("*/a/*.png")) == ["in/a/x.png"]


def test_a_list_is_planned_line_by_line(tmp_path: Path) -> None:
    put(tmp_path, "b.png", "sub/a.png", "notes.txt", "with space .png")
    lines = "sub/a.png\nb.png\n\nmissing.png\nnotes.txt\nwith space .png\n./b2.png"
    (tmp_path / "list.txt").write_text(lines)
    found = find(f"@{tmp_path}/list.txt")
    assert ids(found) == sorted(line for line in lines.split("\n") if line)
    assert Planned("missing.png", -1, -1) in found.images
    assert found.root == tmp_path
    assert ids(find(f"@{tmp_path}/list.txt", include=["*b*"])) == ["./b2.png", "b.png", "sub/a.png"]


@pytest.mark.parametrize(
    "content",
    [
        b"a.png\r\nb\xff.png\r\n",
        b"a.png\r\nb\xff.png",
        b"\xef\xbb\xbfa.png\nb\xff.png",
        b"a.png\0b\xff.png\0",
    ],
)
def test_lists_as_other_programs_write_them(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "list").write_bytes(content)
    assert ids(find(f"@{tmp_path}/list")) == ["a.png", "b\udcff.png"]


def test_names_in_a_list_may_end_in_a_carriage_return_or_hold_a_newline(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"a.png\r\nb.png\n")
    assert ids(find(f"@{tmp_path}/list")) == ["a.png\r", "b.png"]
    (tmp_path / "list").write_bytes(b"a\nb.png\0c\r\0")
    assert ids(find(f"@{tmp_path}/list")) == ["a\nb.png", "c\r"]


def test_a_list_on_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"a.png\n")))
    found = find("@-")
    assert found.root == tmp_path
    assert found.images[0].size == 1
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"/etc/passwd\n")))
    with pytest.raises(InputError, match=f"standard input, line 1.* to {tmp_path}, "):
        find("@-")
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(InputError, match="no standard input"):
        find("@-")


def test_a_list_that_lies_in_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a.png")
    monkeypatch.chdir(tmp_path)
    reading, writing = os.pipe()
    os.write(writing, b"a.png\n")
    os.close(writing)
    found = find(f"@/dev/fd/{reading}")  # as a shell's <(…) names it
    os.close(reading)
    assert found.root == tmp_path
    assert found.images[0].size == 1
    (tmp_path / "list").write_text("a.png\n")
    with (tmp_path / "list").open() as redirected:  # as @/dev/stdin < list is
        assert find(f"@/dev/fd/{redirected.fileno()}").root == tmp_path


def test_a_list_in_utf16(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes("a.png\n".encode("utf-16"))
    with pytest.raises(InputError, match="found UTF-16"):
        find(f"@{tmp_path}/list")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/abs.png", "absolute"),
        ("a/../../b.png", r"\.\."),
        ("..", r"\.\."),
        ("a.png", "line 1 already"),
        ("./a.png", "line 1 already"),
        ("x/.job/a.png", "job"),
        ("x/" * 100_000, "200,000 bytes, which no path may have"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused_with_the_line(
    tmp_path: Path, line: str, words: str
) -> None:
    (tmp_path / "list.txt").write_text(f"a.png\nb.png\n{line}\n")
    with pytest.raises(InputError, match=rf"list\.txt, line 3: .*{words}"):
        find(f"@{tmp_path}/list.txt")


def test_there_must_be_something_to_do(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    put(tmp_path, "texts/a.txt", "texts/b.txt", "list.txt", content=b"\n\n")
    for source, words in (
        ("missing", "No such file"),
        ("missing/*.png", "no such folder"),
        ("@missing.txt", "cannot read the list"),
        ("empty", "no file is there"),
        ("texts", "of 2 files none is an image"),
        ("texts/*.png", "no file is there"),
        ("@list.txt", "the list names no file"),
        ("list.txt/x", "Not a directory"),
    ):
        full = f"@{tmp_path}/{source[1:]}" if source[0] == "@" else f"{tmp_path}/{source}"
        with pytest.raises(InputError, match=words):
            find(full)
    with pytest.raises(InputError, match="not a file or folder: ''"):
        find("")


def forbid(monkeypatch: pytest.MonkeyPatch, *names: str, number: int = errno.EACCES) -> None:
    """Make folders of these names impossible to list, as permissions do for all but root."""
    original = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path).name in names:
            raise OSError(number, os.strerror(number), path)
        return original(path)

    monkeypatch.setattr(os, "scandir", scandir)


def test_a_folder_that_may_not_be_listed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "a.png", "private/b.png")
    forbid(monkeypatch, "private")
    with pytest.raises(InputError, match=r"private/: Permission denied.*--exclude 'private/\*'"):
        find(str(tmp_path))
    assert ids(find(str(tmp_path), exclude=["private/*"])) == ["a.png"]


def test_faults_of_the_file_system_are_the_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "a.png", "disk/b.png")
    forbid(monkeypatch, "disk", number=errno.EIO)
    with pytest.raises(EnvironmentFault, match="cannot list"):
        find(str(tmp_path))
    forbid(monkeypatch, "disk", number=errno.ENOENT)  # removed while the parent was listed
    assert ids(find(str(tmp_path))) == ["a.png"]


def test_files_that_may_not_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an image's suffix they are planned, and rejected later; else none can know."""
    put(tmp_path, "a.png", "b", content=png())

    def forbidden(*_: Any, **__: Any) -> Iterator[Any]:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("builtins.open", forbidden)
    found = find(str(tmp_path))
    assert ids(found) == ["a.png"]
    assert found.ignored == 1


@pytest.mark.parametrize(
    "kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF"]
)
def test_formats_are_known_by_their_first_bytes(kind: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (9, 9)).save(file, kind)
    assert format_of(file.getvalue()[:HEAD_BYTES]) == kind


@pytest.mark.parametrize(
    "head",
    [b"", b"BMW is a car maker from Munich", b"P5 is a play station", b"RIFF....WAVEfmt ", b"P"],
)
def test_text_is_no_image(head: bytes) -> None:
    assert format_of(head) is None


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.PNG", ".png"),
        ("a/b.c/d", ""),
        (".png", ""),
        ("x.tar.gz", ".gz"),
        ("a/.jpg", ""),
        ("a.", "."),
    ],
)
def test_suffixes(name: str, suffix: str) -> None:
    assert suffix_of(name) == suffix


def test_images_that_are_not_read_are_planned_so_that_they_are_named(tmp_path: Path) -> None:
    put(tmp_path, "a.heic", "b.NEF", "c.jxl", "notes.txt", "clip.mov")
    put(tmp_path, "photo", content=b"\0\0\0\x18ftypheic" + bytes(30))
    found = find(str(tmp_path))
    assert ids(found) == ["a.heic", "b.NEF", "c.jxl", "photo"]
    assert found.ignored == 2
    assert found.ignored_formats == {".txt": 1, ".mov": 1}


def test_a_folder_without_images_says_what_is_there(tmp_path: Path) -> None:
    put(tmp_path, "a.mov", "b.mov", "c.txt")
    with pytest.raises(InputError, match=r"of 3 files none is an image \(.mov 2, .txt 1\)"):
        find(str(tmp_path))
