"""The engine on a cluster: nodes of this machine, as ``ray start`` makes them."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fake_work import FakeWork, shards

from hw1.pipeline import local
from hw1.pipeline.engine import RayEngine, RayOptions
from hw1.pipeline.inline import run_inline
from hw1.pipeline.records import Committed

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]


class Cluster:
    """A head without processors, and nodes of one processor each, which can be killed."""

    def __init__(self, folder: Path) -> None:
        self._nodes: list[subprocess.Popen[str]] = []
        head = ["--head", "--port=0", "--num-cpus=0", "--include-dashboard=false"]
        self.address = self._start(*head, f"--temp-dir={folder}")

    def add(self) -> None:
        self._start(f"--address={self.address}", "--num-cpus=1")

    def kill(self, node: int) -> None:
        """Node 0 is the head."""
        os.killpg(self._nodes[node].pid, signal.SIGKILL)
        self._nodes[node].communicate()

    def kill_head(self) -> None:
        """Kill what knows the nodes. The head's raylet stays, as if it were another node's."""
        os.kill(self._nodes[0].pid, signal.SIGSTOP)  # or "ray start --block" ends it, too
        for status in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                name, fields = status.read_text().rsplit(")", 1)
                if "gcs_server" in name and int(fields.split()[2]) == self._nodes[0].pid:
                    os.kill(int(status.parent.name), signal.SIGKILL)
                    return
        raise AssertionError("no gcs_server runs")

    def close(self) -> None:
        for node, process in reversed(list(enumerate(self._nodes))):
            if process.poll() is None:
                self.kill(node)

    def _start(self, *words: str) -> str:
        """Start a node; returns the cluster's address, as a head tells it."""
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *words]
        node = subprocess.Popen(
            [*command, "--disable-usage-stats"],
            start_new_session=True,  # a process group, for kill
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._nodes.append(node)
        assert node.stdout is not None
        address = ""
        for line in node.stdout:
            if found := re.search(r"--address='(.*?)'", line):
                address = found[1]
            if "--block" in line:  # the last thing that it says
                return address
        raise AssertionError(f"{command} ended with {node.wait()}")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # the workers need fake_work, too
    with local.scratch() as folder, local.guard(folder):  # which ends what a node leaves, too
        cluster = Cluster(folder)
        try:
            yield cluster
        finally:
            cluster.close()


def test_nodes_come_and_go_and_nothing_is_lost(cluster: Cluster, tmp_path: Path) -> None:
    ray, inline = tmp_path / "ray", tmp_path / "inline"
    ray.mkdir()
    inline.mkdir()
    todo = shards(400, 4)  # more than can be under way when the node goes
    done: list[Committed] = []

    def commit(committed: Committed) -> None:
        done.append(committed)
        if len(done) == 1:
            cluster.add()
            cluster.kill(1)

    cluster.add()
    options = RayOptions(address=cluster.address, device="cpu", timeout=60, pause=0.1)
    with RayEngine(options) as engine:
        assert engine.resources().machines == 1
        engine.run(FakeWork(ray), todo, commit)
    expected: list[Committed] = []
    run_inline(FakeWork(inline), todo, expected.append)
    for got, want in zip(sorted(done, key=lambda c: c.shard), expected, strict=True):
        assert replace(got, seconds=0) == replace(want, seconds=0)
        assert (ray / f"{got.shard}.txt").read_bytes() == (inline / f"{got.shard}.txt").read_bytes()


PROGRAM = """
import sys
from pathlib import Path
from fake_work import FakeWork, shards
from hw1.errors import EnvironmentFault
from hw1.pipeline.engine import RayEngine, RayOptions

slow = {f"{k}.png": ("predict", "dawdle") for k in range(10_000)}
try:
    with RayEngine(RayOptions(address=sys.argv[1], device="cpu")) as engine:
        work = FakeWork(Path(sys.argv[2]), slow)
        engine.run(work, shards(5_000, 2), lambda done: print(done.shard, flush=True))
except EnvironmentFault as error:
    print(error)
    sys.exit(4)
"""


def test_the_end_of_the_head_is_told_before_ray_ends_the_driver(
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
