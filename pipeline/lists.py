"""Reads a list of image files: ``@list.txt``, or ``@-`` for standard input."""

import codecs
import os
import posixpath
import sys
from pathlib import Path

from ..core.errors import InputError

LONGEST = 4095
"""Bytes of a path that Linux opens."""

_DEVICES = (Path("/dev"), Path("/dev/fd"))
"""Where /dev/stdin and a shell's ``<(…)`` are: no list lies there."""


def read_list(source: str) -> tuple[Path, list[str]]:
    """Return the folder that the names are relative to, and the names, as they are written.

    A name a line. A list with NUL bytes has a name between each two instead, as ``find -print0``
    and ``git ls-files -z`` write them: for names that hold a newline. Empty lines name nothing;
    a byte order mark, and the carriage returns of a list whose every line ends with one, are not
    part of a name. Names need not be UTF-8 (surrogateescape).

    ``source`` is the list's path, or "-". The folder is the current one where the list lies in
    none: on standard input, in a shell's ``<(…)``. Raises InputError where it cannot be read, and
    for an absolute path, one that is too long, a ``..`` and a file named twice, with the line.
    """
    if source == "-":
        if sys.stdin is None:  # closed, as under some daemons
            raise InputError("cannot read the list @-: there is no standard input")
        root, data = Path.cwd(), sys.stdin.buffer.read()
    else:
        path = Path(source).absolute()
        try:
            lies = path.is_file() and path.parent not in _DEVICES
            root = path.parent if lies else Path.cwd()
            data = path.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read the list {source}: {error.strerror}") from error
    title = "standard input" if source == "-" else source
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(f"{title}: expected a list in UTF-8, found UTF-16; write it as UTF-8")
    return root, _checked(_split(data), title, root)


def _split(data: bytes) -> list[str]:
    data = data.removeprefix(b"\xef\xbb\xbf")
    if b"\0" in data:
        lines = data.split(b"\0")
    else:
        lines = data.removesuffix(b"\n").split(b"\n")
        # The last line may end with nothing, whatever ends those before it.
        ended = lines if data.endswith(b"\n") or len(lines) == 1 else lines[:-1]
        if all(line.endswith(b"\r") for line in ended):
            lines = [line.removesuffix(b"\r") for line in lines]
    return [os.fsdecode(line) for line in lines]


def _checked(lines: list[str], title: str, root: Path) -> list[str]:
    """The lines that name something; InputError for one that cannot be a name of the plan."""
    first_line: dict[str, int] = {}
    names = []
    for number, name in enumerate(lines, 1):
        if not name:
            continue
        parts = name.split("/")
        if (size := len(os.fsencode(name))) > LONGEST:
            raise InputError(
                f"{title}, line {number}: expected a file's name, found {name[:40]!r}… of "
                f"{size:,} bytes, which no path may have; a list has a name a line"
            )
        fault = ""
        if not parts[0]:
            fault = "is an absolute path"
        elif ".." in parts:
            fault = 'leads out of a folder with ".."'
        elif ".job" in parts:
            fault = "lies in a job's folder"
        if fault:
            raise InputError(
                f"{title}, line {number}: {name!r} {fault}; names are relative to {root}, and "
                "below it"
            )
        earlier = first_line.setdefault(posixpath.normpath(name), number)
        if earlier != number:
            raise InputError(f"{title}, line {number}: {name!r} is on line {earlier} already")
        names.append(name)
    return names
