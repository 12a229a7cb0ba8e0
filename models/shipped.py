"""Which checkpoints come with hw1, which can be fetched, and where they lie."""

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

SHIPPED = Path(__file__).parents[1] / "weights"
INDEX = SHIPPED / "index.toml"


@dataclass(frozen=True, slots=True)
class Indexed:
    """A file that can be fetched: its name, bytes and SHA-256, in hexadecimal."""

    name: str
    bytes: int
    sha256: str


def read_index() -> dict[str, Indexed]:
    """The files that can be fetched, by their names without the suffix."""
    content = tomllib.loads(INDEX.read_text())
    return {Path(name).stem: Indexed(name, **about) for name, about in content.items()}


def fetched_folder() -> Path:
    """Where ``hw1 models fetch`` puts them: in the user's folder for data.

    That of the XDG Base Directory Specification.
    """
    data = Path(os.environ.get("XDG_DATA_HOME", ""))
    if not data.is_absolute():  # XDG: a relative path is no path
        data = Path(os.path.expanduser("~")) / ".local/share"  # noqa: PTH111  (no home is no error)
    return data / "hw1/weights"
