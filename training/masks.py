"""Tiles and their masks as people have them, and the classes that these masks hold."""

from collections.abc import Sequence
from pathlib import Path

from ..core.classes import REFERENCE_SEGMENTER, Classes, numbered, read_classes
from ..core.errors import InputError
from ..evaluation.truth import mask_key
from ..pipeline.formats import SUFFIXES
from ..pipeline.mask_files import MaskReader, require_reference, values_of
from .source import listing

_LISTS = ("classes.csv", "class_dict.csv", "classes.toml")
_WHITE = 255
_LOOKED_AT = 32
FOREGROUND = Classes(("background", "foreground"), ((0, 0, 0), (255, 255, 255)))
"""Of masks that hold 0 and 255 alone."""


def find_tiles(folder: Path) -> tuple[list[Path], list[Path]]:
    """The tiles of a folder and their masks, in the order of the tiles' names.

    ``images/`` and ``masks/`` are paired by stem; else ``NAME_sat.jpg`` lies beside
    ``NAME_mask.png``. Raises InputError for no tiles, and for those without a mask.
    """
    if (folder / "images").is_dir() and (folder / "masks").is_dir():
        paths = _images(folder / "images", "[!.]*")
        known = {
            mask_key(path.name): path for path in (folder / "masks").glob("[!.]*.[pP][nN][gG]")
        }
        masks = [known.get(mask_key(path.name)) for path in paths]
    else:
        paths = _images(folder, "[!.]*_sat.*")  # hidden ones are the system's
        beside = [path.with_name(mask_name(path.name)) for path in paths]
        masks = [path if path.is_file() else None for path in beside]
    if not paths:
        raise InputError(
            f"{folder}: no tiles: expected files named NAME_sat.jpg beside NAME_mask.png, or "
            "folders images and masks"
        )
    if missing := [
        mask_name(path.name) for path, mask in zip(paths, masks, strict=True) if mask is None
    ]:
        other = [
            path.name
            for path in _images(folder / "masks", "[!.]*")
            if path.suffix.lower() != ".png"
        ]
        hint = f" (masks are PNG files, and {other[0]} is none)" if other else ""
        raise InputError(f"{folder}: {len(missing)} tiles have no mask: {listing(missing)}{hint}")
    return paths, [mask for mask in masks if mask is not None]


def mask_name(tile: str) -> str:
    """The name of a tile's mask: ``0010_mask.png`` for ``0010_sat.jpg``."""
    return Path(tile).stem.removesuffix("_sat") + "_mask.png"


def find_classes(given: Path | None, folder: Path, masks: Sequence[Path]) -> tuple[Classes, str]:
    """The classes of masks, and where they come from, in words.

    Those of the file ``given``, or of one beside the tiles or in the folder above (classes.csv, as
    DeepGlobe's class_dict.csv); else what the masks hold says: 0 and 255 alone are background and
    foreground, indices are numbers, and colours those of the reference.
    """
    beside = [up / name for up in (folder, folder.absolute().parent) for name in _LISTS]
    path = given or next((path for path in beside if path.is_file()), None)
    if path is not None:
        found = read_classes(path)
        same = (found.names, found.colours) == (
            REFERENCE_SEGMENTER.names,
            REFERENCE_SEGMENTER.colours,
        )
        return REFERENCE_SEGMENTER if same else found, str(path)
    values: set[int] = set()
    one_channel = False
    for number, mask in enumerate(masks):
        found_values, has_palette = values_of(mask)
        if any(len(set(value)) > 1 for value in found_values):
            require_reference(mask)
            return REFERENCE_SEGMENTER, "the reference's colours"
        if has_palette and MaskReader().kind(mask) == "colour":
            return REFERENCE_SEGMENTER, "the reference's colours"
        one_channel |= any(len(value) == 1 for value in found_values)
        values |= {value[0] for value in found_values}
        if (
            number >= _LOOKED_AT
            and values - {0, _WHITE}
            and max(values - {_WHITE}) + 1 == len(REFERENCE_SEGMENTER)
        ):
            break
    if values == {0, _WHITE}:
        return FOREGROUND, "the masks, which hold 0 and 255"
    highest = max(values - {_WHITE}, default=0)
    if not one_channel and values <= {0}:  # black alone: the check of classes reports it
        return REFERENCE_SEGMENTER, "the reference's colours"
    if highest < 1:
        raise InputError(f"{folder}: all masks hold one class: expected two or more")
    held = sorted(values - {_WHITE})
    if 2 * len(held) <= highest:
        raise InputError(
            f"{folder}: the masks hold {len(held)} values, {listing([str(v) for v in held])}, not "
            f"most indices up to {highest}: --classes FILE lists the classes (these values as r, g "
            "and b), or write two classes as 0 and 255"
        )
    return numbered(highest + 1, "segment"), f"the masks, which hold indices up to {highest}"


def _images(folder: Path, pattern: str) -> list[Path]:
    return sorted(
        path for path in folder.glob(pattern) if path.suffix.lower() in SUFFIXES and path.is_file()
    )
