"""What a Ray of our own leaves alone on this machine: the home folder, stdout, other people's Ray.

Ray has no options for some of this, so a few of its internals are set while it runs. Where a
version of Ray lacks one, nothing happens, and Ray starts as it does by default.
"""

import functools
import importlib
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..core.errors import EnvironmentFault
from .ray_health import internal

PREFIX = "hw1-ray-"

LONGEST = 22
"""Bytes of a folder's name so that the sockets in there fit the 107 that Linux allows: mkdtemp adds
17, the folder for Ray 2, Ray about 64."""

LEAST_ROOM = 16 << 20
"""Bytes that Ray needs for its logs and sockets, besides what it spills."""

LONGEST_END = 10.0
"""Seconds that a killed process has to be gone; one that waits for a disk may need some."""

SMALL_SHM = 256 << 20
"""Bytes of /dev/shm under which a store on the disk serves better (a container's 64 MB)."""


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for Ray's sockets, logs and spilled objects: short, ours, removed at the end."""
    given = tempfile.gettempdir()
    base = given if len(os.fsencode(given)) <= LONGEST else "/tmp"
    _require_room(base, "" if base == given else ", which is taken since TMPDIR's name is too long")
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _require_room(base: str, why: str) -> None:
    """Raise EnvironmentFault where Ray would wait half a minute for files that can't be written."""
    space = os.statvfs(base)
    if space.f_bavail * space.f_frsize < LEAST_ROOM:
        raise EnvironmentFault(
            f"no room in {base}{why}: Ray needs {LEAST_ROOM >> 20} MB there to start. Make room, "
            f"set TMPDIR to a folder whose name has at most {LONGEST} bytes, or --engine inline"
        )


def require_loopback() -> None:
    """Raise EnvironmentFault where Ray's processes couldn't reach each other: it waits for ever."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=5).close()
    except OSError as error:
        raise EnvironmentFault(
            "no Ray on a machine without a loopback interface (127.0.0.1: "
            f"{error.strerror or error}). Bring it up (ip link set lo up), or give --engine inline"
        ) from error


@contextmanager
def guard(folder: Path) -> Iterator[None]:
    """End what Ray started here and left: its agents, and all of it where its raylet had died.

    Where this process is killed, a shell does that, and removes the folder: it waits for the end
    of its input, which is our end; in a session of its own, so that it outlives Ctrl-C.
    """
    folder = folder.resolve()  # as /proc names files
    script = """
        trap "" TERM
        read -r _
        for process in /proc/[0-9]*; do
            if ls -l "$process/fd" 2>/dev/null | grep '^l.w' | grep -qF -e "-> $0/"; then
                kill -9 "${process#/proc/}"
            fi
        done
        sleep 1
        rm -rf -- "$0"
    """
    with subprocess.Popen(
        ["/bin/sh", "-c", script, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as shell:
        try:
            yield
        finally:
            _end_writers(folder)
            shell.kill()


def _end_writers(folder: Path) -> None:
    end = time.monotonic() + LONGEST_END
    while (processes := _writers(folder)) and time.monotonic() < end:
        for process in processes:
            with suppress(OSError):  # it ended by itself
                os.kill(process, signal.SIGKILL)
        time.sleep(0.02)


def _writers(folder: Path) -> list[int]:
    """The other processes that have a file in the folder open for writing: Ray's, their logs."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        process = int(link.parent.parent.name)
        with suppress(OSError):
            writes = link.lstat().st_mode & stat.S_IWUSR
            if writes and link.readlink().is_relative_to(folder):
                found.add(process)
    return sorted(found - {os.getpid()})


@contextmanager
def environment() -> Iterator[None]:
    """The environment variables that Ray and its processes read; as they were afterwards.

    Ray secures a cluster that it starts with a token. One in the environment lives as long as the
    run; without it Ray would write one in the home folder.
    """
    before = dict(os.environ)
    os.environ.setdefault("RAY_AUTH_TOKEN", _token())
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_IGNORE_UNHANDLED_ERRORS"] = "1"  # the scheduler reads one result of each two
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    _forget_token()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        _forget_token()


def _forget_token() -> None:
    """Have Ray read the token again: a Ray that the caller starts in this process has another."""
    if loader := internal("ray._raylet", "AuthenticationTokenLoader", None):
        loader.instance().reset_cache()


@functools.cache
def _token() -> str:
    return secrets.token_hex(32)


@contextmanager
def lean() -> Iterator[None]:
    """Start Ray without what a run on one machine has no use for: a third of the time.

    That is the dashboard's server and its libraries, the autoscaler's monitor, the log monitor;
    `uv run`'s copying of this folder to the workers; and a second that it sleeps where its raylet
    isn't there at once.
    """
    get_node = internal("ray._private.services", "get_node", None)

    def present_node(gcs_address: str, node_id: str) -> Any:
        _wait_for_node(gcs_address, node_id)
        return get_node(gcs_address, node_id)

    def no_dashboard(node: Any, **_: Any) -> None:
        node._webui_url = ""

    class Params(internal("ray._private.parameter", "RayParams", object)):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{"no_monitor": True, "include_log_monitor": False, **kwargs})

    minimal = ImportError("left out")
    with (
        _replaced("ray._private.node", "Node.start_api_server", no_dashboard),
        _replaced("ray._private.services", "get_node", present_node),
        _replaced("ray._private.parameter", "RayParams", Params),
        _replaced("ray._private.utils", "get_dashboard_dependency_error", lambda: minimal),
        _replaced("ray._private.ray_constants", "RAY_ENABLE_UV_RUN_RUNTIME_ENV", False),
    ):
        yield


def _wait_for_node(gcs_address: str, node_id: str) -> None:
    """Return as soon as a node has registered itself, or after a second."""
    end = time.monotonic() + 1
    with suppress(Exception):  # of Ray's internals; what follows will wait, and tell
        state = internal("ray._private.state", "GlobalState", None)()
        options = internal("ray._private.services", "_get_gcs_client_options", None)
        state._initialize_global_state(options(gcs_address))
        while time.monotonic() < end:
            if any(node["NodeID"] == node_id and node["Alive"] for node in state.node_table()):
                return
            time.sleep(0.01)


@contextmanager
def no_sigterm_handler() -> Iterator[None]:
    """Keep Ray from setting a handler of SIGTERM as it starts."""
    with _replaced("ray._private.utils", "set_sigterm_handler", lambda _: None):
        yield


@contextmanager
def shielded() -> Iterator[None]:
    """Keep SIGTERM and SIGHUP from the processes that Ray starts meanwhile, and from theirs.

    systemd and Slurm, and a terminal that closes, send them to all of a job's processes at once.
    They are for this one, which then stops the others in order: by SIGKILL, for what they write
    is thrown away.
    """

    class Shielded(internal("ray._private.services", "ConsolePopen", subprocess.Popen)):  # type: ignore[misc]
        def __init__(
            self, *args: Any, preexec_fn: Callable[[], object] | None = None, **options: Any
        ) -> None:
            def shield() -> None:
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})
                if preexec_fn is not None:
                    preexec_fn()

            super().__init__(*args, preexec_fn=shield, **options)

        def terminate(self) -> None:
            self.kill()

    with _replaced("ray._private.services", "ConsolePopen", Shielded):
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Ray from printing on stdout, whatever the options say, that a worker died."""
    with _replaced("ray._private.worker", "_worker_logs_enabled", False):
        yield


@contextmanager
def _replaced(module: str, name: str, value: Any) -> Iterator[None]:
    """Set an attribute of a module, or of a class of it ("Class.name"), if it is there."""
    *owner, last = name.split(".")
    target = internal(module, owner[0], None) if owner else importlib.import_module(module)
    if not hasattr(target, last):
        yield
        return
    before = getattr(target, last)
    setattr(target, last, value)
    try:
        yield
    finally:
        setattr(target, last, before)


def store_bytes() -> int | None:
    """The size of the object store; None leaves it to Ray: 30 % of the memory.

    Ray moves the store to the disk where /dev/shm is smaller than that. A smaller store in
    memory is better, if it isn't tiny.
    """
    shm = Path("/dev/shm")
    if not shm.is_dir():
        return None
    space = os.statvfs(shm)
    free = int(space.f_bavail * space.f_frsize * 0.9)
    wanted = int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 0.3)
    return free if SMALL_SHM <= free < wanted else None
