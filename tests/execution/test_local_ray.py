import importlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import types
from contextlib import AbstractContextManager, ExitStack
from operator import attrgetter
from pathlib import Path

import pytest

from hw1.core.errors import EnvironmentFault
from hw1.execution import local_ray as local


def test_the_folder_is_short_and_goes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("long" * 20)))
    with local.scratch() as folder:
        assert folder.is_dir()
        assert len(str(folder)) + len("/r") + 64 <= 107
        (folder / "session").mkdir()
    assert not folder.exists()


@pytest.mark.parametrize(("given", "why"), [("long" * 20, "since TMPDIR's name"), ("", "no room")])
def test_a_full_temporary_folder_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str, why: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / given) if given else "/tmp")
    full = types.SimpleNamespace(f_bavail=10, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    fault = pytest.raises(EnvironmentFault, match=f"no room in /tmp.*{why if given else ''}")
    with fault, local.scratch():
        pass


def test_a_machine_without_a_loopback_interface_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    local.require_loopback()

    def unreachable(*_: object, **__: object) -> None:
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr("socket.create_connection", unreachable)
    with pytest.raises(EnvironmentFault, match=r"loopback .*Network is unreachable.*inline"):
        local.require_loopback()


def test_the_environment_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    before = dict(os.environ)
    with local.environment():
        assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
        os.environ["RAY_AUTH_MODE"] = "token"  # as Ray does
    assert dict(os.environ) == before
    monkeypatch.setenv("RAY_AUTH_TOKEN", "given")
    with local.environment():
        assert os.environ["RAY_AUTH_TOKEN"] == "given"


def test_the_guard_cleans_up_after_a_kill(tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    program = f"""if True:
        import os
        from pathlib import Path
        from hw1.execution import local_ray as local
        with local.guard(Path({str(folder)!r})):
            os.kill(os.getpid(), 9)
    """
    with ExitStack() as stack:
        left = _sleeper(stack, folder, "w")
        assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
        assert left.wait(30) == -signal.SIGKILL
    deadline = time.monotonic() + 30
    while folder.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_guard_ends_what_writes_into_the_folder(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "inside-not"
    inside.mkdir()
    outside.mkdir()
    with ExitStack() as stack:
        with local.guard(inside):
            ours = _sleeper(stack, inside, "w")
            readers = [_sleeper(stack, inside, "r"), _sleeper(stack, outside, "w")]
        assert ours.wait(10) == -signal.SIGKILL
        assert [reader.poll() for reader in readers] == [None, None]


def test_the_guard_knows_the_folder_by_its_real_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.setattr(local, "LONGEST", 4096)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "link"))
    with ExitStack() as stack, local.scratch() as folder:
        with local.guard(folder):
            left = _sleeper(stack, folder, "w")
        assert left.wait(10) == -signal.SIGKILL


def _sleeper(stack: ExitStack, folder: Path, mode: str) -> subprocess.Popen[bytes]:
    """A process with a file in the folder open; ended with the stack."""
    (folder / "log").touch()
    with (folder / "log").open(mode) as file:
        descriptor = {"stdin" if mode == "r" else "stdout": file}
        process = stack.enter_context(subprocess.Popen(["sleep", "600"], **descriptor))
    stack.callback(process.kill)
    return process


def test_the_guard_does_nothing_otherwise(tmp_path: Path) -> None:
    with local.guard(tmp_path):
        pass
    assert tmp_path.is_dir()


def test_internals_are_set_and_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("ray._private.worker")
    module.__dict__["_worker_logs_enabled"] = True
    monkeypatch.setitem(sys.modules, "ray._private.worker", module)
    with local.quiet():
        assert module.__dict__["_worker_logs_enabled"] is False
    assert module.__dict__["_worker_logs_enabled"] is True


def test_the_installed_ray_has_every_internal_that_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An upgrade that drops one would do what it is set against, without a word."""
    asked: list[tuple[str, str]] = []
    replaced = local._replaced

    def spy(module: str, name: str, value: object) -> AbstractContextManager[None]:
        asked.append((module, name))
        assert callable(attrgetter(name)(importlib.import_module(module))) == callable(value)
        return replaced(module, name, value)

    monkeypatch.setattr(local, "_replaced", spy)
    with local.lean(), local.quiet(), local.shielded(), local.no_sigterm_handler():
        parameters = importlib.import_module("ray._private.parameter").RayParams()
        assert parameters.no_monitor
        assert not parameters.include_log_monitor
    assert len(asked) == 8
    parameters = importlib.import_module("ray._private.parameter").RayParams()
    assert not parameters.no_monitor


def test_a_ray_without_these_internals_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("worker", "node", "parameter", "utils", "services", "ray_constants"):
        empty = types.ModuleType(f"ray._private.{name}")
        monkeypatch.setitem(sys.modules, f"ray._private.{name}", empty)
    with local.quiet(), local.lean(), local.shielded():
        pass


@pytest.mark.parametrize(
    ("free", "expected"),
    [(64 << 20, None), (1 << 30, int((1 << 30) * 0.9)), (1 << 60, None)],
)
def test_the_store_fits_the_memory_file_system(
    monkeypatch: pytest.MonkeyPatch, free: int, expected: int | None
) -> None:
    memory = {"SC_PHYS_PAGES": 16 << 18, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf", memory.__getitem__)
    monkeypatch.setattr(
        os, "statvfs", lambda _: types.SimpleNamespace(f_bavail=free // 4096, f_frsize=4096)
    )
    assert local.store_bytes() == expected
