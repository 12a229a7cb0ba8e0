"""Faults of the storage, the streams, and of what a job wrote."""

import contextlib
import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from table import BOTH, at_commit, fault
from world import Skipped, World, mounted


@fault("storage", "the disk is full", BOTH, count=120)
def disk_full(world: World, dice: random.Random) -> None:
    wanted = world.fresh()
    with mounted(world.out, "size=120k"):
        (world.out / "filler").write_bytes(bytes(40 << 10))
        ended = world.run()
        assert ended.code == 4, f"exit {ended.code}: {ended.errors[-300:]}"
        assert ended.is_clean, ended.errors[-500:]
        (world.out / "filler").unlink()
        os.system(f"mount -o remount,size=8m '{world.out}'")
        world.finish()
        assert world.results() == wanted


@fault("storage", "OUT, an ext4 of its own, is unmounted, and mounted again", BOTH, count=60)
def out_unmounted(world: World, dice: random.Random) -> None:
    wanted = world.fresh()
    disk = world.folder / "disk"
    disk.write_bytes(b"")
    os.truncate(disk, 64 << 20)
    world.out.mkdir(exist_ok=True)

    def mount() -> None:
        if os.geteuid() or os.system(f"mount -o loop '{disk}' '{world.out}' 2>/dev/null"):
            raise Skipped("needs root, and loop devices")

    if os.system(f"mkfs.ext4 -q '{disk}' 2>/dev/null"):
        raise Skipped("needs mkfs.ext4")
    mount()
    try:
        ended = world.run(
            before=at_commit(2, lambda: os.system(f"umount -l '{world.out}'") and None)
        )
        assert ended.code == 4, f"exit {ended.code}: {ended.errors[-300:]}"
        assert ended.is_clean, ended.errors[-500:]
        shutil.rmtree(world.out)  # what was written below the mount, if anything
        world.out.mkdir()
        mount()
        (world.out / "lost+found").rmdir()
        world.finish()
        assert world.results() == wanted
    finally:
        os.system(f"umount -l '{world.out}' 2>/dev/null")


@fault("storage", "it is read-only when a job goes on", BOTH, count=200)
def read_only(world: World, dice: random.Random) -> None:
    wanted = world.fresh()
    with mounted(world.out, "size=64m"):
        world.run(before=at_commit(2, lambda: os.kill(os.getpid(), signal.SIGKILL)))
        os.system(f"mount -o remount,ro '{world.out}'")
        ended = world.run()
        assert ended.code in (2, 4), f"exit {ended.code}: {ended.errors[-300:]}"
        assert ended.is_clean, ended.errors[-500:]
        os.system(f"mount -o remount,rw '{world.out}'")
        world.finish()
        assert world.results() == wanted


@fault("storage", "an I/O error as a shard is committed", BOTH, quick="classify")
def io_error(world: World, dice: random.Random) -> None:
    wanted = world.fresh()

    def fail() -> None:
        raise OSError(5, "Input/output error")

    def install() -> None:
        fsync, count = os.fsync, 0

        def failing(file: int) -> None:
            nonlocal count
            count += 1
            if count == 12:
                fail()
            fsync(file)

        os.fsync = failing

    ended = world.run(before=install)
    assert ended.code == 4, f"exit {ended.code}: {ended.errors[-300:]}"
    world.finish()
    assert world.results() == wanted


@fault("storage", "the folder for temporary files is full")
def temporary_full(world: World, dice: random.Random) -> None:
    wanted = world.fresh()
    with mounted(world.folder / "tmp", "size=4k") as folder:
        with contextlib.suppress(OSError):
            (folder / "filler").write_bytes(bytes(1 << 20))
        ended = world.run(before=lambda: os.environ.update(TMPDIR=str(folder)))
        assert ended.code in (0, 4), f"exit {ended.code}: {ended.errors[-300:]}"
        assert ended.is_clean
    world.finish()
    assert world.results() == wanted


@fault("streams", "nobody reads stdout and stderr")
def broken_pipe(world: World, dice: random.Random) -> None:
    wanted = world.fresh()

    def close() -> None:
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 1)
        os.dup2(writer, 2)

    assert world.run(before=close).code == 0
    assert world.results() == wanted


@fault("streams", "stdout and stderr are full")
def full_streams(world: World, dice: random.Random) -> None:
    wanted = world.fresh()

    def full() -> None:
        device = os.open("/dev/full", os.O_WRONLY)
        os.dup2(device, 1)
        os.dup2(device, 2)

    assert world.run(before=full).code in (0, 4)
    world.finish()
    assert world.results() == wanted


def damaged_ledger(change: Callable[[bytes], bytes]) -> Callable[[World, random.Random], None]:
    def inject(world: World, dice: random.Random) -> None:
        wanted = world.fresh()
        world.run(before=at_commit(3, lambda: os.kill(os.getpid(), signal.SIGKILL)))
        world.ledger.write_bytes(change(world.ledger.read_bytes()))
        world.finish()
        assert world.results() == wanted

    return inject


def second_line(data: bytes, line: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    return b"".join([lines[0], line, *lines[2:]])


LEDGERS: dict[str, Callable[[bytes], bytes]] = {
    "a blank line in the ledger": lambda d: second_line(d, b"\n"),
    "NUL bytes at the ledger's end": lambda d: d + bytes(300),
    "NUL bytes before a newline": lambda d: second_line(d, bytes(80) + b"\n"),
    "the ledger's last line is cut": lambda d: d[:-9],
    "a line of the ledger isn't JSON": lambda d: second_line(d, b"{]\n"),
    "a shard number that is too high": lambda d: second_line(
        d, d.splitlines(keepends=True)[1].replace(b'"shard":1', b'"shard":900')
    ),
    "values of another type": lambda d: second_line(d, b'{"shard": "one", "first": null}\n'),
    "an empty ledger": lambda d: b"",
}
for _name, _change in LEDGERS.items():
    fault("job folder", _name, quick="classify" if _name.startswith("NUL bytes b") else None)(
        damaged_ledger(_change)
    )


def damaged_parts(change: Callable[[Path], None]) -> Callable[[World, random.Random], None]:
    def inject(world: World, dice: random.Random) -> None:
        wanted = world.fresh()
        world.run(before=at_commit(3, lambda: os.kill(os.getpid(), signal.SIGKILL)))
        change(min(p for p in (world.job / "parts").iterdir() if p.suffix == ".csv"))
        world.finish()
        assert world.results() == wanted

    return inject


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def become_link(path: Path) -> None:
    target = path.with_name("elsewhere")
    path.rename(target)
    path.symlink_to(target)


def swap(path: Path) -> None:
    other = max(p for p in path.parent.iterdir() if p.suffix == path.suffix)
    path.write_bytes(other.read_bytes())


DAMAGES: dict[str, Callable[[Path], None]] = {
    "is gone": Path.unlink,
    "is cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "is empty": lambda path: os.truncate(path, 0),
    "has another bit": flip,
    "has another's content": swap,
    "is a folder": become_folder,
    "is a link": become_link,
}
for _name, _damage in DAMAGES.items():
    if _name not in ("is a folder", "is a link"):
        fault("job folder", f"a part {_name}")(damaged_parts(_damage))


def damaged_masks(change: Callable[[Path], None]) -> Callable[[World, random.Random], None]:
    def inject(world: World, dice: random.Random) -> None:
        wanted = world.fresh()
        assert world.run().code == 0
        change(world.out / "masks" / "0001.png")
        world.finish()
        assert {k: v for k, v in world.results().items() if "elsewhere" not in k} == wanted

    return inject


for _name, _damage in DAMAGES.items():
    fault(
        "results", f"a mask {_name}", ["segment"], quick="segment" if "another's" in _name else None
    )(damaged_masks(_damage))


@fault("job folder", "half of job.json", BOTH)
def half_description(world: World, dice: random.Random) -> None:
    wanted = world.fresh()
    world.run(before=at_commit(3, lambda: os.kill(os.getpid(), signal.SIGKILL)))
    path = world.job / "job.json"
    os.truncate(path, path.stat().st_size // 2)
    world.finish()
    assert world.results() == wanted


@fault("job folder", "each of its files in turn is noise: --overwrite", BOTH)
def overwritten(world: World, dice: random.Random) -> None:
    wanted = world.fresh()
    assert world.run().code == 0
    for path in sorted(p for p in world.job.rglob("*") if p.is_file()):
        path.write_bytes(dice.randbytes(50))
        ended = world.run("--overwrite")
        assert ended.code == 0, f"{path.name}: exit {ended.code}: {ended.errors[-300:]}"
        assert world.results() == wanted, path.name
