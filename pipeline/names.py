"""Names of outputs: where a mask is written for an image, and which two would be one file."""

import posixpath
from collections.abc import Iterable

from .formats import SUFFIXES, suffix_of


def output_name(image_id: str, suffix: str, keep_suffix: bool = False) -> str:
    """The path, below the output folder, of what is written for an image: ``a/0010.png``.

    An image's suffix gives way to ``suffix`` (".png"); another is part of the name, and stays, as
    every suffix does with ``keep_suffix`` (``a/0010.jpg.png``).
    """
    path = posixpath.normpath(image_id)
    old = suffix_of(path)
    return path[: len(path) - len(old)] + suffix if _gives_way(old, keep_suffix) else path + suffix


def _gives_way(suffix: str, keep_suffix: bool) -> bool:
    return suffix in SUFFIXES and not keep_suffix


def collisions(
    image_ids: Iterable[str], suffix: str, keep_suffix: bool = False
) -> list[tuple[str, str]]:
    """Pairs of images whose outputs cannot both be: the same file, or one a folder of the other.

    Each pair's first image stands before the second in ``image_ids``, or, for a folder, is the
    one whose output is the file. See output_name for the other arguments.
    """
    writers: dict[str, str] = {}
    pairs = []
    for image_id in image_ids:
        output = output_name(image_id, suffix, keep_suffix)
        earlier = writers.setdefault(output, image_id)
        if earlier is not image_id:
            pairs.append((earlier, image_id))
    folders = {posixpath.dirname(output): image_id for output, image_id in writers.items()}
    for folder, image_id in folders.items():
        above = folder
        while above:
            if above in writers:
                pairs.append((writers[above], image_id))
            above = posixpath.dirname(above)
    return pairs
