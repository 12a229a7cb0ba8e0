"""Faults of a cluster: machines that aren't like the others, as nodes of this one."""

import contextlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from table import fault, wipe
from world import Skipped, World

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "execution"))

from test_cluster import Cluster  # noqa: E402

RUNS = 8
"""An unlike machine may have its say only when the others have done all of a small job."""

Node = tuple[Sequence[str], dict[str, str]]
"""Words that a node's command follows, and its environment."""


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """A cluster of one node like this machine."""
    from hw1.execution import local_ray as local

    os.environ["RAY_AUTH_MODE"] = "disabled"
    with local.scratch() as folder, local.guard(folder):
        made = Cluster(folder)
        try:
            made.add()
            yield made
        finally:
            made.close()


def left_out(world: World, node: Node, reason: str) -> None:
    """A job on a cluster that has such a node: without it, in equal bytes, and a line says why."""
    wanted = world.fresh()
    with cluster() as made:
        words = ("--address", made.address)
        alone, _ = timed(world, words)
        made.add(*node[0], **node[1])
        for _ in range(RUNS):
            wipe(world)
            both, errors = timed(world, words)
            assert world.results() == wanted
            lines = [line for line in errors.splitlines() if "is left out" in line]
            if lines:
                break
        else:
            raise AssertionError(f"nothing was said of the unlike machine: {errors[-300:]}")
    assert all(reason in line for line in lines), lines
    world.verify()
    world.note = f"{both - alone:+.1f} s beside it; {lines[0].split(': ', 2)[-1][:60]}"


def timed(world: World, words: Sequence[str]) -> tuple[float, str]:
    """The seconds of a job that ends well, and what it said."""
    since = time.monotonic()
    ended = world.run(*words)
    assert ended.code == 0, f"exit {ended.code}: {ended.errors[-300:]}"
    assert ended.is_clean, ended.errors[-500:]
    return time.monotonic() - since, ended.errors


def startup(world: World, code: str) -> Node:
    """A node whose Pythons run this code first."""
    folder = world.folder / "startup"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(code)
    return (), {"PYTHONPATH": str(folder)}


def other_pillow(world: World) -> Node:
    return startup(
        world,
        "from PIL import Image\n"
        "resize = Image.Image.resize\n"
        "Image.Image.resize = lambda self, size, *more, **words: resize(self, size)\n",
    )


def older_hw1(world: World) -> Node:
    there = world.folder / "older" / "hw1"
    skip = shutil.ignore_patterns(".*", "tests", "build", "bench", "*.safetensors", "__pycache__")
    shutil.copytree(ROOT, there, ignore=skip)
    text = (there / "__init__.py").read_text()
    (there / "__init__.py").write_text(text.replace('__version__ = "', '__version__ = "0.0.'))
    return (), {"PYTHONPATH": str(there.parent)}


def missing_package(world: World) -> Node:
    return startup(world, "import sys\nsys.modules['timm'] = None\n")


def unmounted(folder: Path) -> Node:
    """A node that sees nothing in a folder."""
    if os.geteuid() or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        raise Skipped("needs root, to mount a file system")
    folder.mkdir(exist_ok=True)
    script = f"mount -t tmpfs chaos '{folder}' && exec \"$@\""
    return ("unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh"), {}


UNLIKE: dict[str, tuple[Callable[[World], Node], str]] = {
    "resizes to other pixels": (other_pillow, "decodes a test image to other pixels"),
    "has an older hw1": (older_hw1, "it has hw1 0.0."),
    "lacks a package": (missing_package, "timm"),
    "doesn't see IN": (lambda world: unmounted(world.images), "No such file"),
    "doesn't see OUT": (lambda world: unmounted(world.out), "another folder, or none"),
}
for _name, (_node, _reason) in UNLIKE.items():

    def _inject(
        world: World,
        dice: random.Random,
        node: Callable[[World], Node] = _node,
        reason: str = _reason,
    ) -> None:
        left_out(world, node(world), reason)

    fault("cluster", f"a machine {_name}", engine="ray", count=240)(_inject)
