"""What the bench works on: images cut from the examples, many small files, weights."""

import itertools
import random
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image

HW1 = str(Path(sys.executable).with_name("hw1"))
EXAMPLES = Path(__file__).parent.parent / "examples"
PHOTOS = EXAMPLES / "photos"
TILES = EXAMPLES / "tiles"
PHOTOGRAPHS = ((512, 384), (1600, 1200), (4000, 3000))
"""Width and height in pixels: 0.2, 2 and 12 million of them."""

SMALL_FILES_A_FOLDER = 1000


def crops(folder: Path, sources: Path, count: int, side: int, suffix: str) -> Path:
    """A folder of ``count`` images, side × side pixels, cut from those in ``sources``.

    The same call gives the same images: position, size and a mirror are drawn with a fixed seed.
    """
    made = folder / f"{sources.name}-{side}-{count}"
    if made.is_dir():
        return made
    partial = _empty(made.with_name(f".{made.name}"))
    photos = [Image.open(path).convert("RGB") for path in sorted(sources.iterdir())]
    draw = random.Random(side)
    for index in range(count):
        photo = photos[index % len(photos)]
        length = draw.randint(min(photo.size) // 3, min(photo.size))
        left = draw.randint(0, photo.width - length)
        top = draw.randint(0, photo.height - length)
        crop = photo.resize((side, side), box=(left, top, left + length, top + length))
        if draw.random() < 0.5:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        crop.save(partial / f"{index:06}{suffix}", quality=90)
    return partial.rename(made)


def enlarged(folder: Path, sources: Path, count: int, *sizes: tuple[int, int]) -> Path:
    """A folder of ``count`` JPEGs, those in ``sources`` made (width, height) pixels, in turn."""
    named = "-".join(f"{width}x{height}" for width, height in sizes)
    made = folder / f"{sources.name}-{named}-{count}"
    if made.is_dir():
        return made
    partial = _empty(made.with_name(f".{made.name}"))
    photos = [Image.open(path).convert("RGB") for path in sorted(sources.iterdir())]
    turns = zip(range(count), itertools.cycle(photos), itertools.cycle(sizes), strict=False)
    for index, photo, size in turns:
        photo.resize(size).save(partial / f"{index:06}.jpg", quality=90)
    return partial.rename(made)


def mosaic(folder: Path, sources: Path, width: int, height: int) -> Path:
    """One JPEG of width × height pixels, the images in ``sources`` laid side by side."""
    made = folder / f"mosaic-{width}x{height}.jpg"
    if made.is_file():
        return made
    tiles = [Image.open(path).convert("RGB") for path in sorted(sources.iterdir())]
    whole = Image.new("RGB", (width, height))
    step = min(min(tile.size) for tile in tiles)
    places = itertools.product(range(0, height, step), range(0, width, step))
    for tile, (top, left) in zip(itertools.cycle(tiles), places, strict=False):
        whole.paste(tile, (left, top))
    partial = made.with_name(f".{made.name}")
    whole.save(partial, "JPEG", quality=90)
    return partial.rename(made)


def small_files(folder: Path, count: int) -> Path:
    """A tree of ``count`` PNG files of one pixel, 1,000 a folder."""
    made = folder / f"small-{count}"
    if made.is_dir():
        return made
    partial = _empty(made.with_name(f".{made.name}"))
    pixel = partial / "pixel.png"
    Image.new("RGB", (1, 1)).save(pixel)
    content = pixel.read_bytes()
    pixel.unlink()
    for index in range(count):
        inside = partial / f"{index // SMALL_FILES_A_FOLDER:04}"
        if index % SMALL_FILES_A_FOLDER == 0:
            inside.mkdir()
        (inside / f"{index:07}.png").write_bytes(content)
    return partial.rename(made)


def repeated(folder: Path, source: Path, count: int) -> Path:
    """A folder of ``count`` images, those of ``source`` again and again: links, which cost no disk.

    So they're read from the page cache, as those of a fast disk nearly are.
    """
    made = folder / f"{source.name}-{count}"
    if made.is_dir():
        return made
    partial = _empty(made.with_name(f".{made.name}"))
    for index, path in zip(range(count), itertools.cycle(sorted(source.iterdir())), strict=False):
        (partial / f"{index:07}{path.suffix}").hardlink_to(path)
    return partial.rename(made)


def weights(
    folder: Path, members: tuple[str, ...], *, random: bool = False, size: int = 40
) -> tuple[Path, list[str]]:
    """A folder with a checkpoint of each member, and the members whose weights are random.

    The shipped checkpoints are linked; ``random`` ones (all, or those that aren't shipped) are made
    once, with a fixed seed: classifiers for size × size pixels, which a folder has one of.
    """
    import torch

    from hw1.core.preprocessing import Preprocessing
    from hw1.models.checkpoints import save
    from hw1.models.registry import build
    from hw1.models.store import Store

    folder.mkdir(parents=True, exist_ok=True)
    shipped = Store.shipped()
    made_up = []
    for member in members:
        path = folder / f"{member}.safetensors"
        source = None if random else shipped.find(member)
        if source is not None:
            path.unlink(missing_ok=True)
            path.symlink_to(source)
            continue
        made_up.append(member)
        if not path.is_file() or path.is_symlink():
            path.unlink(missing_ok=True)
            torch.manual_seed(0)
            preprocessing = Preprocessing(None if member.startswith("fcn") else size)
            save(build(member), path, member, preprocessing, {"recipe": "random"})
    return folder, made_up


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def int8_weights(folder: Path, made_of: Path, members: tuple[str, ...], images: Path) -> Path:
    """A folder with the int8 checkpoints of the members in another one, and their vote weights.

    Each is made once, and again where what it's made of is newer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for member in members:
        path, source = (each / f"{member}.safetensors" for each in (folder, made_of))
        if not path.is_file() or path.stat().st_mtime < source.stat().st_mtime:
            command = ["models", "quantise", member, str(path), "--weights", str(made_of)]
            subprocess.run([HW1, *command, "--images", str(images), "--overwrite"], check=True)
    votes = made_of / "ensemble.toml"
    if votes.is_file():
        shutil.copy(votes, folder)
    return folder
