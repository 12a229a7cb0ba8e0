"""Images that change, are bombs or have odd names, and strange weights."""

import os
import random
import shutil
import signal
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from table import BOTH, at_commit, fault, step_on_disk, wipe
from world import Act, Skipped, World


def on_the_way(world: World, act: Act, repair: Act, *words: str, codes: tuple[int, ...]) -> None:
    """Change IN after two shards, put it right after the run, and go on."""
    wanted = world.fresh()
    ended = world.run(before=at_commit(2, act))
    assert ended.code in codes, f"exit {ended.code}: {ended.errors[-300:]}"
    assert ended.is_clean, ended.errors[-500:]
    repair()
    world.finish(*words)
    assert world.results() == wanted


def last(world: World) -> Path:
    """The image that comes last in the plan."""
    return max(p for p in world.images.rglob("*") if p.is_file())


@fault("images", "one is gone, and comes back", BOTH)
def image_gone(world: World, dice: random.Random) -> None:
    path = last(world)
    away = world.folder / "away"
    on_the_way(
        world,
        lambda: path.rename(away) and None,
        lambda: away.rename(path) and None,
        "--retry-rejected",
        codes=(3,),
    )


@fault("images", "one is cut short, and repaired", BOTH)
def image_cut(world: World, dice: random.Random) -> None:
    path = last(world)
    data, times = path.read_bytes(), path.stat()

    def repair() -> None:
        path.write_bytes(data)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    on_the_way(world, lambda: os.truncate(path, 30), repair, "--retry-rejected", codes=(3,))


@fault("images", "the folder is unmounted, and mounted again", BOTH, count=60)
def unmounted(world: World, dice: random.Random) -> None:
    wanted = world.fresh()
    kept = world.folder / "kept"
    world.images.rename(kept)
    world.images.mkdir()

    def mount() -> None:
        if os.geteuid() or os.system(f"mount --bind '{kept}' '{world.images}'"):
            raise Skipped("needs root, to mount a file system")

    mount()
    ended = world.run(
        before=at_commit(2, lambda: os.system(f"umount -l '{world.images}'") and None)
    )
    try:
        assert ended.code == 4, f"exit {ended.code}: {ended.errors[-300:]}"
        mount()
        world.finish()
        assert world.results() == wanted
    finally:
        os.system(f"umount -l '{world.images}' 2>/dev/null")


@fault("images", "new, changed and gone after the job: --update, killed five times", BOTH)
def updated(world: World, dice: random.Random) -> None:
    assert world.run().code == 0
    for name, size in (("0001.png", (51, 47)), ("new.png", (33, 60)), ("zz.jpg", (70, 40))):
        Image.effect_noise(size, 90).convert("RGB").save(world.images / name)
    last(world).with_name("0002.png").unlink()
    assert world.run().code == 3
    seen = world.folder / "steps"
    saved = world.folder / "saved"
    shutil.copytree(world.out, saved)
    assert world.run("--update", before=step_on_disk(-1, seen)).code == 0
    wanted = world.results()
    fresh = world.fresh()
    for name in fresh:  # places in the batches differ, and in fp32 the labels don't
        if not name.endswith(".parquet"):
            assert wanted[name] == fresh[name], name
    for step in sorted(dice.sample(range(1, int(seen.read_text()) + 1), 5)):
        wipe(world)
        shutil.copytree(saved, world.out, dirs_exist_ok=True)
        assert world.run("--update", before=step_on_disk(step)).code == -signal.SIGKILL
        world.finish("--update")
        assert world.results() == wanted, f"killed at step {step}"


def bomb(make: Callable[[Path], None]) -> Callable[[World, random.Random], None]:
    """The bad image is rejected, the others' results stay."""

    def inject(world: World, dice: random.Random) -> None:
        before = world.fresh()
        make(world.images)
        since = time.monotonic()
        ended = world.run()
        assert ended.code == 3, f"exit {ended.code}: {ended.errors[-300:]}"
        assert ended.is_clean, ended.errors[-500:]
        assert time.monotonic() - since < 60, "it held the job up"
        rows = world.results()["labels.csv"].splitlines()
        assert rows == before["labels.csv"].splitlines()
        world.verify()

    return inject


def png(path: Path, width: int, height: int, data: bytes) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def tall(folder: Path) -> None:
    png(folder / "~tall.png", 1, 178_000_000, zlib.compress(bytes(4 * 1_000_000)))


def huge(folder: Path) -> None:
    png(folder / "~huge.png", 2**31 - 1, 2**31 - 1, zlib.compress(bytes(1000)))


def scans(folder: Path) -> None:
    from io import BytesIO

    buffer = BytesIO()
    Image.effect_noise((2000, 2000), 90).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    start = data.rindex(b"\xff\xda")
    (folder / "~scans.jpg").write_bytes(data[:start] + data[start:-2] * 60 + data[-2:])


def not_image(folder: Path) -> None:
    (folder / "~text.png").write_text("this is no picture")


BOMBS = {"1 × 178 million pixels": tall, "2³¹ × 2³¹ pixels": huge, "text in a .png": not_image}
for _name, _make in BOMBS.items():
    fault("bombs", _name)(bomb(_make))

NAMES = [
    "=cmd|' '!A0.png", "a\nb.png", "\x1b[31mred.png", 'quo"te,.png', "ü\u0308.png",
    os.fsdecode(b"\xff\xfe.png"), "x" * 240 + ".png", " lead.png", "-rf.png", "#.png",
]  # fmt: skip


@fault("names", "control characters, quotes, formulas, other bytes", BOTH, quick="classify")
def odd_names(world: World, dice: random.Random) -> None:
    for index, name in enumerate(NAMES):
        Image.new("RGB", (40, 40), (index * 20, 90, 40)).save(world.images / name)
    wanted = world.fresh()
    ended = world.run(before=at_commit(3, lambda: os.kill(os.getpid(), signal.SIGKILL)))
    assert "\x1b[31m" not in ended.errors
    world.finish()
    assert world.results() == wanted


def refused(world: World, data: bytes, name: str) -> None:
    path = world.folder / name
    path.write_bytes(data)
    world.model = path
    ended = world.run()
    assert ended.code == 2, f"exit {ended.code}: {ended.errors[-300:]}"
    assert ended.is_clean, ended.errors[-500:]
    assert len(ended.errors.strip().splitlines()) <= 3, ended.errors


class Runs:
    """A pickle that makes a file where it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.path),)


@fault("weights", "a pickle that runs code", BOTH)
def pickled(world: World, dice: random.Random) -> None:
    import pickle

    refused(world, pickle.dumps(Runs(world.folder / "ran")), "x.pth")
    assert not (world.folder / "ran").exists()


@fault("weights", "cut, empty, noise, a header without end", BOTH)
def broken_weights(world: World, dice: random.Random) -> None:
    whole = world.model.read_bytes()
    for data in (
        whole[: len(whole) // 2], b"", b"{", dice.randbytes(9000), whole[:8] + whole[9:],
        (2**62).to_bytes(8, "little") + b"{}",
    ):  # fmt: skip
        refused(world, data, "x.safetensors")


@fault("weights", "outputs that aren't numbers", BOTH)
def not_finite(world: World, dice: random.Random) -> None:
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(world.model, "pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    for tensor in state.values():
        if tensor.is_floating_point():
            tensor.fill_(float("nan"))
    world.model = world.folder / "nan.safetensors"
    save_file(state, world.model, metadata)
    torch.manual_seed(0)
    ended = world.run()
    assert ended.code == 2, f"exit {ended.code}: {ended.errors[-300:]}"
    assert ended.is_clean


@fault("weights", "another file on resume", BOTH)
def other_weights(world: World, dice: random.Random) -> None:
    wanted = world.fresh()
    world.run(before=at_commit(2, lambda: os.kill(os.getpid(), signal.SIGKILL)))
    kept = world.model
    world.model = world.folder / kept.name
    data = bytearray(kept.read_bytes())
    data[-1] ^= 64
    world.model.write_bytes(data)
    assert world.run().code == 5
    world.model = kept
    world.finish()
    assert world.results() == wanted
