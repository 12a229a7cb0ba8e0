"""Checkpoints that don't come with hw1: fetched from a folder or a URL, and checked.

``weights/index.toml`` names each file, its size and its SHA-256: where the bytes come from decides
nothing. A download that was cut goes on where it stopped.
"""

import fcntl
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email.message import Message
from http import HTTPStatus
from http.client import HTTPException, InvalidURL
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

from ..core.durable import make_folder, storage
from ..core.errors import EnvironmentFault, InputError, Refused
from .files import file_digest
from .members import nearest
from .shipped import Indexed, fetched_folder, read_index

SOURCE = "HW1_WEIGHTS_URL"
"""The environment's variable for the source, where none is given."""

TRIES = 5
"""In a row that bring nothing more of a file."""

_SECONDS = 30.0  # without a byte
_PAUSE = 0.5  # s, twice as long after each try in vain
_CHUNK = 2**20
_PART = ".part"


class _OtherFile(Exception):
    """The source's file isn't the wanted one: it says what was found."""


def find(name: str) -> Indexed:
    """The file of that name, with its suffix or without. Raises InputError where there is none."""
    index = read_index()
    stem = name.removesuffix(".safetensors")
    if stem not in index:
        raise InputError(f"no weights {name!r}: {nearest(stem, index)}")
    return index[stem]


def fetch(
    wanted: Indexed, source: str | None, folder: Path | None, say: Callable[[str], None]
) -> Path:
    """Bring a file into ``folder`` (None: where hw1 looks for it), and return its path.

    ``source`` is a folder, or the URL of one (None: of the environment). Raises InputError for no
    source, or one without the file or with other bytes; EnvironmentFault where the connection is
    lost and doesn't come back, or the disk is full: the same command goes on then.
    """
    into = folder or fetched_folder()
    if into is None:
        raise InputError("there is no home folder to put it in: give --output DIR")
    path = into / wanted.name
    if path.is_file() and _is_whole(path, wanted):
        say(f"{path} is there")
        return path
    if path.exists():
        raise InputError(f"{path} is another file: move it away, or give another --output")
    source = source or os.environ.get(SOURCE)
    if not source:
        raise InputError(
            f"{wanted.name}: no source is known: give --from, a folder or a URL that has it "
            f"(or set {SOURCE})"
        )
    part = path.with_name(path.name + _PART)
    with _folder(path.parent), _alone(part):
        try:
            _bring_whole(source, part, wanted, say)
        except _OtherFile as other:
            part.unlink()
            raise InputError(
                f"{source} has another {wanted.name}: expected {wanted.bytes} bytes of SHA-256 "
                f"{wanted.sha256[:12]}…, found {other}. Nothing was kept"
            ) from other
        with storage(path):
            part.replace(path)
    return path


@contextmanager
def _folder(folder: Path) -> Iterator[None]:
    """Make the folder, and remove what was made of it where nothing is in it in the end."""
    above = next(each for each in (folder, *folder.parents) if each.exists())
    if not above.is_dir():
        raise InputError(f"{above} is a file: expected a folder; give another --output")
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    make_folder(folder)
    try:
        yield
    finally:
        with suppress(OSError):  # it isn't empty
            for each in made:
                each.rmdir()


@contextmanager
def _alone(part: Path) -> Iterator[None]:
    """Hold the unfinished file, and remove an empty one in the end.

    Refused where another process fetches it.
    """
    with storage(part), part.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Refused(f"{part}: another process fetches it") from error
        try:
            yield
        finally:
            if part.is_file() and not _size(part):
                part.unlink()


def _bring_whole(source: str, part: Path, wanted: Indexed, say: Callable[[str], None]) -> None:
    """The wanted file's bytes into ``part``, which may hold some. Raises _OtherFile for others."""
    began = _size(part)
    _bring(source, part, wanted, say)
    if began and not _is_whole(part, wanted):  # what lay there may have been another file's
        os.truncate(part, 0)
        _bring(source, part, wanted, say)
    if not _is_whole(part, wanted):
        raise _OtherFile(f"{_size(part)} bytes of {file_digest(part)[:12]}…")


def _bring(source: str, part: Path, wanted: Indexed, say: Callable[[str], None]) -> None:
    if "://" in source:
        _download(f"{source.rstrip('/')}/{quote(wanted.name)}", part, wanted, say)
    else:
        _copy(Path(source) / wanted.name, part)


def _is_whole(path: Path, wanted: Indexed) -> bool:
    return path.stat().st_size == wanted.bytes and file_digest(path) == wanted.sha256


def _copy(source: Path, part: Path) -> None:
    if not source.is_file():
        raise InputError(f"no file {source}: expected it in the folder of --from")
    with storage(part):
        shutil.copyfile(source, part)


def _download(url: str, part: Path, wanted: Indexed, say: Callable[[str], None]) -> None:
    """The file's bytes into ``part``, from where that ends, by as many connections as it takes.

    Raises _OtherFile where the server's has another size.
    """
    tries, begun_again = 0, False
    while (done := _size(part)) < wanted.bytes:
        try:
            for chunk in _rest(url, done, wanted, part):
                _append(part, chunk)
            fault = "it ended early"
        except (OSError, HTTPException) as error:
            fault = str(error) or type(error).__name__
            if (
                done
                and not begun_again
                and getattr(error, "code", None) == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
            ):
                say(f"{url}: {fault}: it begins again")
                os.truncate(part, 0)
                begun_again = True
                continue
        tries = 0 if _size(part) > done else tries + 1
        if _size(part) < wanted.bytes:
            say(f"{url}: {fault}, at {_size(part) / 1e6:.1f} of {wanted.bytes / 1e6:.1f} MB")
        if tries == TRIES:
            raise EnvironmentFault(
                f"{url}: {fault}, {TRIES} times in a row. What came is kept: give the same command "
                "again to go on"
            )
        if tries:
            time.sleep(_PAUSE * 2**tries)


def _rest(url: str, done: int, wanted: Indexed, part: Path) -> Iterator[bytes]:
    """The bytes from ``done`` on, never more than are wanted.

    From the first one, and ``part`` empty, where the server can't go on in the middle. Raises
    _OtherFile where it tells another size than the wanted one.
    """
    if not url.lower().startswith(("http://", "https://")):
        raise InputError(f"{url}: expected a folder, or a URL that begins with http:// or https://")
    try:
        request = Request(url, headers={"Range": f"bytes={done}-"} if done else {})
        reply: Any = urlopen(request, timeout=_SECONDS)
    except HTTPError as error:
        if error.code in (400, 401, 403, 404, 410):
            raise InputError(
                f"{url}: expected the file there, found {error.code} {error.reason}: give another "
                "--from"
            ) from error
        _require_size(_told(error.headers), wanted)
        raise
    except URLError as error:
        raise OSError(str(error.reason)) from error
    except (ValueError, InvalidURL) as error:  # also a host's name that can't be encoded
        raise InputError(f"{url} is no URL: {error}") from error
    with reply:
        if done and reply.status != HTTPStatus.PARTIAL_CONTENT:  # the server sends all of it
            os.truncate(part, 0)
            done = 0
        _require_size(_told(reply.headers) if done else reply.length, wanted)
        while chunk := reply.read(min(_CHUNK, wanted.bytes - done)):
            done += len(chunk)
            yield chunk
        if reply.chunked and reply.status == HTTPStatus.OK:  # cut, it would have raised
            _require_size(done, wanted)


def _told(headers: Message) -> int | None:
    """The whole file's bytes, as a reply about a range of it tells: ``bytes 5-9/10``."""
    match = re.fullmatch(r"bytes .*/(\d{1,18})", headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _require_size(found: int | None, wanted: Indexed) -> None:
    """Raise _OtherFile where the source's file has another size; None: that isn't known."""
    if found not in (None, wanted.bytes):
        raise _OtherFile(f"{found} bytes")


def _append(part: Path, chunk: bytes) -> None:
    with storage(part), part.open("ab") as file:
        file.write(chunk)


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0
