"""Checkpoint files as bytes: safetensors, and what torch.save wrote in its old and new formats.

Nothing in a file is ever executed: torch's are read with ``weights_only=True``.
"""

import argparse
import errno
import hashlib
import io
import json
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PosixPath
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO

from ..core.durable import make_folder, write_bytes
from ..core.errors import EnvironmentFault, InputError
from ..core.text import first_line
from . import eight_bits
from .wrappers import unwrap

if TYPE_CHECKING:
    from torch import Tensor

_MAX_HEADER = 100_000_000  # safetensors' own bound
_SAID = 120  # characters of a library's reason

_unpickling = Lock()
"""What torch may unpickle, and which warnings show, is the whole process's."""

_NO_SUCH_FILE = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EACCES,
    errno.EPERM,
)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with _readable(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_bytes(path: Path) -> bytes:
    """The whole file. Raises InputError where it can't be read, EnvironmentFault for a disk's."""
    with _readable(path):
        content = path.read_bytes()
    _require_no_pointer(content[:9], path)
    return content


def read_metadata(path: Path) -> dict[str, str]:
    """A safetensors file's metadata, without its tensors; a torch file has none: empty."""
    with _readable(path), path.open("rb") as file:
        start = file.read(9)
        _require_no_pointer(start, path)
        if not _is_safetensors(start):
            if path.suffix == ".safetensors" and not _is_torch(start):
                raise InputError(f"{path} is damaged (it has no header): copy it again")
            return {}
        header = start[8:] + file.read(_length(start) - 1)
    return _metadata(header, path)


def parse(content: bytes, path: Path) -> tuple[dict[str, "Tensor"], dict[str, str]]:
    """The state dict in a checkpoint's bytes, and its metadata (torch's formats have none).

    Reads a state dict as people save it (see ``wrappers``); weights that are stored in eight bits
    come as floats. Raises InputError, which names
    ``path``, for everything else: an empty, truncated or foreign file, a pickle that holds more.
    """
    loaded, metadata = unpack(content, path)
    return unwrap(loaded, path), metadata


def read_old(path: Path) -> dict[str, "Tensor"]:
    """The state dict in one of torch's files, read from the disk into its tensors' memory.

    Raises InputError as `parse`.
    """
    with _readable(path), path.open("rb") as file:
        if _is_safetensors(file.read(9)):
            return parse(path.read_bytes(), path)[0]
        file.seek(0)
        return unwrap(_parse_torch(file, path), path)


def read_known(path: Path) -> dict[str, "Tensor"]:
    """The state dict in a safetensors file whose bytes were checked already. Raises as `parse`."""
    metadata = read_metadata(path)
    with _readable(path):
        # Copies: what's written to the file later must not show.
        loaded = {name: tensor.clone() for name, tensor in mapped(path).items()}
    if metadata.get(eight_bits.KEY) == eight_bits.STORED:
        loaded = eight_bits.decode(loaded, path)
    return unwrap(loaded, path)


def mapped(path: Path) -> dict[str, "Tensor"]:
    """The tensors of a safetensors file, mapped into memory: read where and when they're used.

    For files that nobody cuts or writes to: that would show, or end the process. Raises InputError
    where it's damaged.
    """
    import safetensors.torch

    with _damage_told(path):
        return safetensors.torch.load_file(path)


def unpack(content: bytes, path: Path) -> tuple[Any, dict[str, str]]:
    """What a checkpoint's bytes hold, whatever lies around its tensors, and its metadata.

    Raises InputError as `parse`.
    """
    if not content:
        raise InputError(f"{path} is empty: copy it again")
    metadata: dict[str, str] = {}
    if _is_safetensors(content[:9]):
        loaded = _parse_safetensors(content, path)
        metadata = _metadata(content[8 : 8 + _length(content)], path)
        if metadata.get(eight_bits.KEY) == eight_bits.STORED:
            loaded = eight_bits.decode(loaded, path)
    else:
        loaded = _parse_torch(io.BytesIO(content), path)
    return loaded, metadata


def require_writable(path: Path) -> None:
    """Raise InputError, before any work is done, where no file can be written to ``path``."""
    if path.is_dir():
        raise InputError(f"{path}: expected a file's name, found a folder")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise InputError(f"{path} can't be written: {above} is no folder that you may write to")


def write(state: Mapping[str, "Tensor"], path: Path, metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, whole or not at all; equal states give equal bytes.

    Raises EnvironmentFault where the disk is full or the folder can't be written.
    """
    content = content_of(state, metadata)
    make_folder(path.parent)
    write_bytes(path, content)


def content_of(state: Mapping[str, "Tensor"], metadata: Mapping[str, str]) -> list[bytes]:
    """The bytes of a safetensors file, in parts."""
    import safetensors.torch

    # The library writes metadata in an order that changes from run to run: write the header again.
    content = safetensors.torch.save(_apart(state))
    stop = 8 + _length(content)
    header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(content[8:stop])}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of eight
    return [len(text).to_bytes(8, "little"), text, content[stop:]]


def _apart(state: Mapping[str, "Tensor"]) -> dict[str, "Tensor"]:
    """The state with a tensor of its own for each name, which safetensors insists on."""
    apart: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, tensor in state.items():
        place = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.contiguous() if place not in taken else tensor.clone().contiguous()
        taken.add(place)
    return apart


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what reading a file raises into an error for the user."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_SUCH_FILE:
            said = f"{path}: {error.strerror}: expected a checkpoint's file"
            raise InputError(said) from error
        raise EnvironmentFault(f"{path}: {error.strerror}, while reading it") from error


def _require_no_pointer(start: bytes, path: Path) -> None:
    """Raise InputError for what Git leaves in place of a large file, by its first nine bytes."""
    if start == b"version h":  # ttps://git-lfs.github.com/spec/v1
        raise InputError(f"{path} is a pointer of Git LFS, not the file itself: git lfs pull")


def _is_safetensors(start: bytes) -> bool:
    """Whether a file's first nine bytes are a header's length and its opening brace.

    torch's files begin with a zip's or a pickle's bytes, which are no header's length; the first
    one or two of them, though, are some header's.
    """
    return start[8:9] == b"{" and _length(start) <= _MAX_HEADER


def _is_torch(start: bytes) -> bool:
    """Whether a file begins as torch.save's do: a zip, or a pickle of protocol 2 and above."""
    return start.startswith((b"PK", b"\x80"))


def _length(content: bytes) -> int:
    """The length of a safetensors file's header, from its first eight bytes."""
    return int.from_bytes(content[:8], "little")


def _metadata(header: bytes, path: Path) -> dict[str, str]:
    # safetensors gives metadata of a path alone (safe_open), and a checkpoint is parsed from the
    # very bytes that were hashed. So a header is read here, for both.
    try:
        metadata = json.loads(header).get("__metadata__", {})
        return {str(key): str(value) for key, value in metadata.items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is damaged (its header can't be read): copy it again") from error


def _parse_safetensors(content: bytes, path: Path) -> dict[str, "Tensor"]:
    import safetensors.torch

    with _damage_told(path):
        return safetensors.torch.load(content)


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    try:
        yield
    except (MemoryError, OSError):
        raise
    except Exception as error:  # SafetensorError, KeyError for a dtype that torch lacks, …
        raise InputError(f"{path} is damaged ({_reason(error)}): copy it again") from error


def _parse_torch(file: BinaryIO, path: Path) -> Any:
    import torch

    try:
        safe = torch.serialization.safe_globals(_inert())
        with _unpickling, warnings.catch_warnings(), safe:
            warnings.simplefilter("ignore")  # what torch deprecates isn't the reader's business
            return torch.load(file, map_location="cpu", weights_only=True)
    except (MemoryError, OSError):
        raise
    except Exception as error:  # garbage makes the unpickler raise nearly anything
        raise InputError(_why_not(path, error)) from error


def _inert() -> list[Any]:
    """What else trainers save beside tensors and does nothing when it's made: options, scores."""
    from numpy import dtype, dtypes, ndarray
    from numpy._core import multiarray

    kinds = ("Float16", "Float32", "Float64", "Int32", "Int64", "Bool")
    return [
        argparse.Namespace,
        PosixPath,
        dtype,
        ndarray,
        *(getattr(dtypes, f"{kind}DType") for kind in kinds),
        *(
            (getattr(multiarray, name), f"numpy.{core}.multiarray.{name}")
            for name in ("scalar", "_reconstruct")
            for core in ("core", "_core")
        ),
    ]


def _why_not(path: Path, error: Exception) -> str:
    """Why torch refused a file, without its advice to read it unsafely, and the way out."""
    text = str(error)
    if "TorchScript" in text:
        return _unsafe(path, "is TorchScript", f'torch.jit.load("{path.name}", map_location="cpu")')
    if named := re.search(r"GLOBAL (\S+)|[Uu]nsupported (?:global|class) (\S+)", text):
        found = next(group for group in named.groups() if group).rstrip(".")
        if found.partition(".")[0] in sys.stdlib_module_names:  # no network's class
            return (
                f"{path} holds more than tensors ({found}) and was not read, since that could run "
                "code. Where it came from, save torch.save(model.state_dict(), FILE)"
            )
        how = (
            f'torch.load("{path.name}", map_location="cpu", weights_only=False)'
            '  # a dict? then its ["model"]'
        )
        return _unsafe(path, f"holds more than tensors ({found})", how)
    return (
        f"{path} is not a whole checkpoint ({_reason(error)}): expected safetensors, or a "
        "state dict written by torch.save. If it was copied, copy it again"
    )


def _unsafe(path: Path, what: str, load: str) -> str:
    return (
        f"{path} {what} and was not read, since that could run code. Where you trust it, two "
        f"lines of Python save its weights alone:\n"
        f"  model = {load}\n"
        f'  torch.save(model.state_dict(), "{path.stem}_state.pth")'
    )


def _reason(error: Exception) -> str:
    kind, said = type(error).__name__, first_line(error, _SAID)
    if "weights_only" in said:  # advice to read it unsafely
        return "a pickle that can't be read safely"
    return kind if said == kind else f"{kind}: {said}"
