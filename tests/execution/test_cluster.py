"""The engine on a cluster: nodes of this machine, as ``ray start`` makes them."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from fake_work import NODE, FakeWork, shards

from hw1.core.records import Committed
from hw1.execution import actor_pool, items
from hw1.execution import local_ray as local
from hw1.execution.inline import run_inline
from hw1.execution.ray_engine import RayEngine, RayOptions

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]


class Cluster:
    """A head without processors, and nodes of one processor each, which can be killed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._nodes: list[subprocess.Popen[str]] = []
        head = ["--head", "--port=0", "--num-cpus=0", "--include-dashboard=false"]
        self.address = self._start(*head, f"--temp-dir={folder}")

    def add(self, *within: str, **environment: str) -> None:
        """Start a node; ``within`` are words that its command follows, as unshare's."""
        self._start(f"--address={self.address}", "--num-cpus=1", within=within, **environment)

    def kill(self, node: int) -> None:
        """End all of a node's processes, as where its machine fails. Node 0 is the head."""
        os.killpg(self._nodes[node].pid, signal.SIGSTOP)  # so that it starts no more
        # Workers have groups and parents of their own, and outlive their raylet.
        for pid in self._processes(node):
            _kill(pid)
        self._nodes[node].communicate()

    def kill_head(self) -> None:
        """Kill what knows the nodes. The head's raylet stays, as if it were another node's."""
        os.kill(self._nodes[0].pid, signal.SIGSTOP)  # or "ray start --block" ends it, too
        servers = [pid for pid in self._processes(0) if _runs(pid, "gcs_server")]
        assert servers
        for pid in servers:
            _kill(pid)

    def _name(self, node: int) -> str:
        """What marks its processes, among those of other clusters too."""
        return f"{self._folder.name}-{node}"

    def _processes(self, node: int) -> list[int]:
        """The node's processes, as their environment tells."""
        found = []
        mark = f"{NODE}={self._name(node)}\0".encode()
        for environment in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if mark in environment.read_bytes():
                    found.append(int(environment.parent.name))
        return found

    def close(self) -> None:
        for node, process in reversed(list(enumerate(self._nodes))):
            if process.poll() is None:
                self.kill(node)

    def _start(self, *words: str, within: Sequence[str] = (), **environment: str) -> str:
        """Start a node; returns the cluster's address, as a head tells it."""
        command = [*within, sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *words]
        node = subprocess.Popen(
            [*command, "--disable-usage-stats"],
            env={**os.environ, NODE: self._name(len(self._nodes)), **environment},
            start_new_session=True,  # a process group, for kill
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._nodes.append(node)
        assert node.stdout is not None
        address, said = "", []
        for line in node.stdout:
            said.append(line)
            if found := re.search(r"--address='(.*?)'", line):
                address = found[1]
            if "--block" in line:  # the last thing that it says
                return address
        raise AssertionError(f"{command} ended with {node.wait()}: {''.join(said)}")


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _runs(pid: int, program: str) -> bool:
    with contextlib.suppress(OSError):
        return program in Path(f"/proc/{pid}/comm").read_text()
    return False


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))  # for fake_work
    with local.scratch() as folder, local.guard(folder):  # which ends what a node leaves, too
        cluster = Cluster(folder)
        try:
            yield cluster
        finally:
            cluster.close()


def test_nodes_come_and_go_and_nothing_is_lost(
    cluster: Cluster,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (items, actor_pool):  # or what hangs may be done elsewhere before its node ends
        monkeypatch.setattr(module, "LATE", 1000.0)
    ray, inline = tmp_path / "ray", tmp_path / "inline"
    ray.mkdir()
    inline.mkdir()
    todo = shards(40, 4)
    done: list[Committed] = []

    def replace_node() -> None:
        for _ in range(600):  # until then nothing is under way for sure
            if (ray / "30.png.mark").exists():
                break
            time.sleep(0.1)
        else:
            raise AssertionError("the image that hangs was not begun")
        cluster.add()
        cluster.kill(1)

    cluster.add()
    options = RayOptions(address=cluster.address, device="cpu", actors=3, timeout=120, pause=0.1)
    with RayEngine(options) as engine, ThreadPoolExecutor(1) as thread:
        assert engine.resources().machines == 1
        replaced = thread.submit(replace_node)
        signed = {f"{k}.png": ("predict", "sign") for k in range(160)}
        work = FakeWork(ray, signed | {"30.png": ("predict", "hang_once")})
        engine.run(work, todo, done.append)
        replaced.result()
    expected: list[Committed] = []
    run_inline(FakeWork(inline), todo, expected.append)
    for got, want in zip(sorted(done, key=lambda c: c.shard), expected, strict=True):
        assert replace(got, seconds=0) == replace(want, seconds=0)
        assert (ray / f"{got.shard}.txt").read_bytes() == (inline / f"{got.shard}.txt").read_bytes()
    lost = "predict of '28.png' to '31.png' failed and is tried again: "
    assert any(line.startswith(lost) for line in caplog.messages), caplog.text
    signs = {sign.stem: sign.read_text().rpartition("-")[2] for sign in ray.glob("*.sign")}
    assert signs["29.png"] == "2"
    # Actors hold no processor, and the head has none: they belong beside the others, all the same.
    assert set(signs.values()) <= {"1", "2"}


def test_an_unlike_machine_is_left_out_and_the_others_do_the_job(
    cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "pillow-0.0.1.dist-info").mkdir()
    (tmp_path / "pillow-0.0.1.dist-info" / "METADATA").write_text("Name: pillow\nVersion: 0.0.1\n")
    cluster.add(PYTHONPATH=f"{tmp_path}:{os.environ['PYTHONPATH']}")
    cluster.add()
    done: list[Committed] = []
    signed = {f"{k}.png": ("decode", "sign") for k in range(80)}
    with RayEngine(RayOptions(address=cluster.address, device="cpu")) as engine:
        for turn in range(100):  # it may need longer to answer than the other one for the work
            engine.run(FakeWork(tmp_path, signed), shards(20, 4), done.append)
            assert len(done) == 20 * (turn + 1)
            if "left out" in caplog.text:
                break
    (line,) = (line for line in caplog.messages if "left out" in line)
    assert "it has pillow 0.0.1, not " in line
    signs = {sign.read_text().rpartition("-")[2] for sign in tmp_path.glob("*.sign")}
    assert signs == {"2"}


PROGRAM = """
import sys
from pathlib import Path
from fake_work import FakeWork, shards
from hw1.core.errors import EnvironmentFault
from hw1.execution import actor_pool, items
from hw1.execution.ray_engine import RayEngine, RayOptions

actor_pool.LATE = items.LATE = 1000.0  # s: what is late is reported, too
slow = {f"{k}.png": ("predict", "dawdle") for k in range(10_000)}
try:
    with RayEngine(RayOptions(address=sys.argv[1], device="cpu")) as engine:
        work = FakeWork(Path(sys.argv[2]), slow)
        engine.run(work, shards(5_000, 2), lambda done: print(done.shard, flush=True))
except EnvironmentFault as error:
    print(error)
    sys.exit(4)
"""


def test_the_end_of_the_head_is_reported_before_ray_ends_the_driver(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.add()
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, cluster.address, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline().strip().isdigit()
        cluster.kill_head()
        said, errors = running.communicate()

    assert said.splitlines()[-1].startswith("the cluster's head has not answered for 20 s")
    assert (running.returncode, errors) == (4, "")
