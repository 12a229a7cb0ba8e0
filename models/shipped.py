"""Which checkpoints come with hw1, which can be fetched, and where they lie."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from ..core.user import user_folder

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


def fetched_folder() -> Path | None:
    """Where ``hw1 models fetch`` puts them: in the user's folder for data; None without a home."""
    base = user_folder("XDG_DATA_HOME", ".local/share")
    return base / "hw1/weights" if base else None
