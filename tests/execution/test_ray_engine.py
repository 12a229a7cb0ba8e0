"""The engine on a real Ray with one processor, where a process more than there should be hangs."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from fake_work import Calamity, FakeWork, shards

from hw1.core.errors import EnvironmentFault, InputError
from hw1.core.records import Committed, Shard
from hw1.execution import ray_health as health
from hw1.execution.inline import run_inline
from hw1.execution.ray_engine import RayEngine, RayOptions

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]

OPTIONS = RayOptions(device="cpu", processors=1, timeout=60, tries=3, pause=0.1)


@pytest.fixture(scope="module")
def engine() -> Iterator[RayEngine]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))  # for fake_work
        with RayEngine(replace(OPTIONS, device="auto")) as engine:
            yield engine


def run(engine: RayEngine, work: FakeWork, todo: list[Shard]) -> list[Committed]:
    done: list[Committed] = []
    engine.run(work, todo, done.append)
    assert sorted(c.shard for c in done) == [s.id for s in todo]
    return done


def test_another_server_than_rays_is_bad_input() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as web:
        Thread(target=web.serve_forever, daemon=True).start()
        port = web.server_address[1]
        with (
            pytest.raises(InputError, match=f"127.0.0.1:{port}'.*doesn't speak gRPC.*6379"),
            RayEngine(RayOptions(address=f"127.0.0.1:{port}")),
        ):
            pass
        web.shutdown()


def test_a_cluster_that_is_not_there_is_bad_input() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with (
        pytest.raises(InputError, match=f"address '127.0.0.1:{port}': no Ray to use"),
        RayEngine(RayOptions(address=f"127.0.0.1:{port}")),
    ):
        pass
    with (
        pytest.raises(InputError, match="Ray's client protocol is not supported"),
        RayEngine(RayOptions(address="ray://head:10001")),
    ):
        pass
    with (
        pytest.raises(InputError, match="give no --address"),
        RayEngine(RayOptions(address="local")),
    ):
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_is_lost_in_ray_as_it_starts_interrupts(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def start(**_: object) -> None:
        with contextlib.suppress(KeyboardInterrupt):  # as Python does in its hooks
            os.kill(os.getpid(), number)

    monkeypatch.setattr("ray.init", start)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), RayEngine(OPTIONS):
            pass
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(("address", "kind"), [(None, EnvironmentFault), ("auto", InputError)])
def test_a_ray_that_does_not_start_in_time_is_reported(
    monkeypatch: pytest.MonkeyPatch, address: str | None, kind: type[Exception]
) -> None:
    def late(**_: object) -> None:
        raise Exception("The current node timed out during startup.")  # a bare one, as Ray's

    monkeypatch.setattr("ray.init", late)
    with pytest.raises(kind, match="timed out"), RayEngine(RayOptions(address=address)):
        pass


def test_a_cluster_that_asks_for_a_token_is_not_taken_for_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(**_: object) -> None:
        raise ConnectionError("Failed to connect to Ray cluster at head:6379")

    monkeypatch.setattr("ray.init", refuse)
    for mode, hinted in (("disabled", True), ("token", False)):
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
        with (
            pytest.raises(InputError, match="no Ray to use") as error,
            RayEngine(RayOptions(address="auto")),
        ):
            pass
        assert ("set RAY_AUTH_MODE=token" in str(error.value)) == hinted


def test_the_parts_are_those_of_the_inline_engine(engine: RayEngine, tmp_path: Path) -> None:
    ray, inline = tmp_path / "ray", tmp_path / "inline"
    ray.mkdir()
    inline.mkdir()
    todo = shards(12, 8)
    done = run(engine, FakeWork(ray, longest=5), todo)
    expected: list[Committed] = []
    run_inline(FakeWork(inline, longest=5), todo, expected.append)
    assert all((place / "finished").exists() for place in (ray, inline))
    for got, want in zip(sorted(done, key=lambda c: c.shard), expected, strict=True):
        assert replace(got, seconds=0) == replace(want, seconds=0)
        assert (ray / f"{got.shard}.txt").read_bytes() == (inline / f"{got.shard}.txt").read_bytes()


def test_shards_are_taken_as_there_is_room(engine: RayEngine, tmp_path: Path) -> None:
    taken = ahead = done = 0

    def source() -> Iterator[Shard]:
        nonlocal taken, ahead
        for shard in shards(60, 4):
            taken += 1
            ahead = max(ahead, taken - done)
            yield shard

    def commit(_: Committed) -> None:
        nonlocal done
        done += 1

    engine.run(FakeWork(tmp_path), source(), commit)
    assert done == 60
    assert ahead <= 4  # three for the predictor, one for the processor


def test_the_images_that_end_their_processes_are_rejected_and_no_others(
    engine: RayEngine, tmp_path: Path
) -> None:
    acts = {
        "1.png": ("decode", "crash"),
        "4.png": ("predict", "crash"),
        "9.png": ("decode", "hang"),
        "10.png": ("predict", "crash_once"),
        "12.png": ("decode", "crash_once"),
        "13.png": ("predict", "fault_once"),
        "14.png": ("write", "memory_once"),
        "15.png": ("write", "crash_once"),
    }
    engine.options = replace(OPTIONS, timeout=2)
    done = run(engine, FakeWork(tmp_path, acts), shards(10, 2))
    engine.options = OPTIONS
    assert sum(c.rows + c.rejected for c in done) == 19
    lines = [line for k in range(10) for line in (tmp_path / f"{k}.txt").read_text().splitlines()]
    assert [line for line in lines if ":" in line] == [
        "1.png:crashed",
        "4.png:crashed",
        "7.png:truncated",
        "9.png:timeout",
        "17.png:truncated",
    ]


def test_faults_that_stay_are_raised(engine: RayEngine, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="the disk is full"):
        run(engine, FakeWork(tmp_path, {"3.png": ("write", "fault")}), shards(2, 4))
    with pytest.raises(ZeroDivisionError, match="a bug of ours") as bug:
        run(engine, FakeWork(tmp_path, {"3.png": ("predict", "bug")}), shards(2, 4))
    assert "in befall" in bug.value.__notes__[0]
    with pytest.raises(InputError, match=r"vgg16\.safetensors holds no vgg16"):
        run(engine, FakeWork(tmp_path, load_error="input"), shards(2, 4))
    with pytest.raises(EnvironmentFault, match="a worker that was starting to predict ended 3"):
        run(engine, FakeWork(tmp_path, load_error="crash"), shards(2, 4))


def test_what_a_cluster_lacks_is_said(engine: RayEngine, tmp_path: Path) -> None:
    found = engine.resources()
    assert (found.machines, found.processors, found.smallest) == (1, 1, 1)
    assert engine.threads == 1
    if not found.gpus:
        engine.options = replace(OPTIONS, device="cuda")
        with pytest.raises(InputError, match="Ray sees no GPU"):
            run(engine, FakeWork(tmp_path), shards(2, 4))
        engine.options = OPTIONS
    with pytest.raises(InputError, match="Ray runs in this process already"):
        RayEngine(OPTIONS).__enter__()


def test_the_installed_ray_starts_lean_and_is_watched(engine: RayEngine) -> None:
    """What is set in Ray's internals has its effect, and what is read of them is there."""
    commands = " ".join(alive(family(os.getpid())))
    assert "raylet" in commands
    assert "gcs_server" in commands
    for left_out in ("dashboard/dashboard.py", "monitor.py", "log_monitor.py"):
        assert left_out not in commands
    node = health.internal("ray._private.worker", "_global_node", None)
    assert node.dead_processes() == []
    assert health._listens(node.raylet_socket_name)
    assert node.gcs_address.rpartition(":")[2].isdigit()
    assert health.dead() == ""
    assert health.head_answers()


def test_no_process_imports_from_the_current_folder(engine: RayEngine) -> None:
    """Folders of images come from strangers: a numpy.py in there must not run."""
    paths = engine.probe(eval, "__import__('sys').path")
    assert str(Path.cwd()) not in paths
    assert "" not in paths
    assert str(Path(__file__).parents[1]) in paths  # PYTHONPATH's


def test_a_probe_that_waits_for_a_place_says_so(
    engine: RayEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("hw1.execution.ray_engine.SLOW", 0.1)
    engine.probe(time.sleep, 1)
    assert "waits for a free device" in caplog.messages[-1]


def test_a_process_is_probed(engine: RayEngine, tmp_path: Path) -> None:
    assert engine.options.device == ("cuda" if engine.resources().gpus else "cpu")
    assert engine.probe(os.getpid) != os.getpid()
    assert engine.probe(os.getenv, "OMP_NUM_THREADS") == "1"
    with pytest.raises(FileNotFoundError, match="nowhere"):
        engine.probe(os.stat, tmp_path / "nowhere")
    assert engine.probe(Calamity(tmp_path, "x").crash_once) is None  # asked of another one
    with pytest.raises(EnvironmentFault, match="3 processes of the cluster ended"):
        engine.probe(os._exit, 1)


PROGRAM = """
import signal, sys, time
from pathlib import Path
from fake_work import FakeWork, shards
from hw1.execution.ray_engine import RayEngine, RayOptions

handler = lambda *_: None
signal.signal(signal.SIGTERM, handler)
folder = Path(sys.argv[1])
try:
    with RayEngine(RayOptions(processors=1, modules=("wave",))) as engine:
        assert signal.getsignal(signal.SIGTERM) is handler
        acts = {"1.png": ("decode", "crash_once"), "4.png": ("predict", "crash_once")}
        engine.run(FakeWork(folder, acts), shards(4, 2), lambda done: None)
        slow = {f"{k}.png": ("predict", "dawdle") for k in range(10_000)}
        engine.run(FakeWork(folder, slow), shards(5_000, 2), lambda done: print(done.shard))
except KeyboardInterrupt:
    print("interrupted")
"""


def family(pid: int) -> set[int]:
    """The process and what descends from it."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def alive(processes: set[int]) -> list[str]:
    """Those that run, by their command lines. A zombie's is empty."""
    found = []
    for pid in processes:
        with contextlib.suppress(OSError):
            found.append(Path(f"/proc/{pid}/cmdline").read_text())
    return [command for command in found if command]


@contextlib.contextmanager
def program(folder: Path) -> Iterator[tuple[subprocess.Popen[str], set[int]]]:
    """The program, as its first slow shard is committed, and all its processes."""
    home = folder / "home"
    temporary = folder / ("a" * 100)  # no socket fits in there
    current = folder / "current"  # a stranger's
    for new in (home, temporary, current, current / "hw1"):
        new.mkdir()
    for name in ("numpy.py", "PIL.py", "torch.py", "wave.py", "hw1/__init__.py", "ray.py"):
        (current / name).write_text(f"open({str(folder / 'ran')!r}, 'a').write({name!r})\n")
    environment = {
        **os.environ,
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "RAY_ADDRESS": "192.0.2.1:6379",
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "PYTHONUNBUFFERED": "1",
    }
    before = set(Path("/tmp").glob("hw1-ray-*"))
    with subprocess.Popen(
        # -P, as for the command hw1: "-c" alone would look for modules in the current folder.
        [sys.executable, "-P", "-c", PROGRAM, str(folder)],
        env=environment,
        cwd=current,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline().strip().isdigit()
        processes = family(running.pid)
        assert len(processes) > 5
        folders = {f for f in set(Path("/tmp").glob("hw1-ray-*")) - before if owner(f) in processes}
        assert folders
        assert {f.stat().st_mode & 0o777 for f in folders} == {0o700}
        yield running, processes
        running.kill()
    assert not (folder / "ran").exists()
    assert not list(home.iterdir())
    assert not list(temporary.iterdir())
    assert not any(f.exists() for f in folders)


def owner(folder: Path) -> int:
    """The process whose session is in the folder."""
    sessions = [link.name for link in folder.glob("r/session_*_*") if link.is_dir()]
    return int(sessions[0].rpartition("_")[2]) if sessions else 0


def test_an_interrupt_leaves_no_process_no_file_and_no_word(tmp_path: Path) -> None:
    with program(tmp_path) as (running, processes):
        for process in processes:  # as systemd and Slurm do; this driver's handler does nothing
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        assert running.stdout is not None
        for _ in range(5):
            assert running.stdout.readline().strip().isdigit()  # it goes on
        start = time.monotonic()
        running.send_signal(signal.SIGINT)
        time.sleep(0.3)
        running.send_signal(signal.SIGINT)  # of the impatient, while Ray stops
        output, errors = running.communicate()
        assert time.monotonic() - start < 30
        assert all(line.isdigit() for line in output.splitlines()[:-1])
        assert output.splitlines()[-1] == "interrupted"
        assert errors == ""
        assert alive(processes) == []


def test_a_ray_that_ends_is_started_again_once(tmp_path: Path) -> None:
    with program(tmp_path) as (running, processes):
        end_raylet(processes)
        assert running.stdout is not None
        for _ in range(5):
            assert running.stdout.readline().strip().isdigit()
        again = family(running.pid)
        end_raylet(again)
        _, errors = running.communicate()
        assert "EnvironmentFault: Ray's raylet on this machine died" in errors.splitlines()[-1]
        assert alive(processes | again) == []


def end_raylet(processes: set[int]) -> None:
    (raylet,) = (p for p in processes if "/raylet\0" in Path(f"/proc/{p}/cmdline").read_text())
    os.kill(raylet, signal.SIGKILL)


def test_workers_do_not_outlive_a_killed_driver(tmp_path: Path) -> None:
    with program(tmp_path) as (running, processes):
        running.kill()
        start = time.monotonic()
        while alive(processes):
            assert time.monotonic() - start < 45, alive(processes)
            time.sleep(0.2)


@pytest.mark.ray
def test_a_ray_of_the_callers_starts_before_and_after_ours(tmp_path: Path) -> None:
    """Each has a token of its own, which Ray remembers for as long as a process lives."""
    program = """
import ray
from hw1.execution.ray_engine import RayEngine, RayOptions

def ours():
    with RayEngine(RayOptions(processors=1)):
        assert ray.is_initialized()

def theirs():
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    ray.shutdown()

for start in (ours, theirs, ours):
    start()
"""
    environment = {**os.environ, "HOME": str(tmp_path)}  # Ray writes the caller's token there
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
