"""The words that name an architecture: a preset, ``torchvision:NAME``, ``timm:NAME``.

One function resolves them all, so that they mean the same in each command, option and file. The
libraries are imported where a word names one of theirs.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Literal

from ..core.classes import Classes, reference_classes
from ..core.errors import InputError
from ..core.preprocessing import Preprocessing
from ..core.records import TaskKind
from .members import MEMBERS
from .metadata import MIN_SIZE, reference_preprocessing

LIBRARIES = ("torchvision", "timm")
ONNX = "onnx"
"""The architecture of an ONNX file, which holds its network itself."""

_NEAREST = 3


@dataclass(frozen=True, slots=True)
class Architecture:
    """A kind of network; of a preset ``library`` is None."""

    word: str
    library: Literal["torchvision", "timm"] | None
    name: str

    @property
    def task(self) -> TaskKind:
        """What the network does."""
        if self.library is None:
            return MEMBERS[self.name].task
        from . import libraries

        return libraries.task(self.library, self.name)

    @property
    def preprocessing(self) -> Preprocessing:
        """What an image becomes by default: of a preset the reference's, else the library's."""
        if self.library is None:
            return reference_preprocessing(self.task)
        from . import libraries

        return libraries.preprocessing(self.library, self.name)

    @property
    def classes(self) -> Classes:
        """The reference's classes of its task."""
        return reference_classes(self.task)


def find_architecture(word: str) -> Architecture:
    """What a word names. Raises InputError, with the nearest words, where it names nothing.

    Also where it names a library that isn't installed, with the line that installs it.
    """
    if word in MEMBERS:
        return Architecture(word, None, word)
    library, colon, name = word.partition(":")
    if not colon or library not in LIBRARIES:
        raise InputError(f"no architecture {word!r}: {_hint(word)}")
    require_library(word)
    from . import libraries

    known = libraries.names(library)
    if name.partition(".")[0] not in known or not libraries.has(library, name):
        close = _close(name, known)
        hint = f"did you mean {' or '.join(f'{library}:{each}' for each in close)}?"
        raise InputError(
            f"no architecture {word!r}: {hint if close else f'{library} has no such network'}"
        )
    return Architecture(word, "timm" if library == "timm" else "torchvision", name)


def require_library(word: str) -> None:
    """Raise InputError where what the word needs isn't installed, without importing it.

    It is an architecture's, "openvino" or "nncf".
    """
    if word.startswith("timm:") and find_spec("timm") is None:
        raise InputError(f'{word} needs timm: pip install "hw1[timm]"')
    if word == "openvino" and find_spec("openvino") is None:
        raise InputError('openvino is not installed: pip install "hw1[openvino]"')
    if word == "nncf" and find_spec("nncf") is None:
        raise InputError('making a network int8 needs nncf: pip install "hw1[openvino]"')
    if word == ONNX and find_spec("onnxruntime") is None:
        raise InputError('an ONNX file needs onnxruntime: pip install "hw1[onnx]"')


def smallest_size(word: str) -> int:
    """Pixels of the smallest side that a classifier takes; of the libraries' it isn't known."""
    return MIN_SIZE if word in MEMBERS else 1


def _hint(word: str) -> str:
    from . import libraries

    library, colon, name = word.rpartition(":")
    known = libraries.names("torchvision")
    if not colon and name in known:
        return f"did you mean torchvision:{name}?"
    close = _close(name, dict.fromkeys([*MEMBERS, *known]))
    named = [each if each in MEMBERS else f"torchvision:{each}" for each in close]
    hint = (
        f"did you mean {' or '.join(named)}? " if named and library in ("", "torchvision") else ""
    )
    return (
        f"{hint}Expected one of {', '.join(MEMBERS)}, or torchvision:NAME or timm:NAME for a "
        "network of these libraries"
    )


def _close(name: str, known: Iterable[str]) -> list[str]:
    return get_close_matches(name.lower(), list(known), n=_NEAREST)
