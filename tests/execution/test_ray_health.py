import socket
import sys
import types
from pathlib import Path

import pytest

from hw1.execution import ray_health as health


def test_a_server_that_says_nothing_is_no_grpc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_USE_TLS", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert not health.speaks_grpc("127.0.0.1", port, timeout=0.2)
        monkeypatch.setenv("RAY_USE_TLS", "1")
        assert health.speaks_grpc("127.0.0.1", port, timeout=0.2)
    with pytest.raises(OSError, match="refused"):
        health.speaks_grpc("127.0.0.1", port, timeout=0.2)


def test_the_end_of_a_clusters_raylet_is_seen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's name has to be short
    module = types.ModuleType("ray._private.worker")
    module.__dict__["_global_node"] = types.SimpleNamespace(
        dead_processes=list, raylet_socket_name="raylet"
    )
    monkeypatch.setitem(sys.modules, "ray._private.worker", module)
    with socket.socket(socket.AF_UNIX) as raylet:
        raylet.bind("raylet")
        raylet.listen()
        assert health.dead() == ""
    assert health.dead() == "raylet"


@pytest.mark.parametrize(
    ("text", "kills"),
    [("pgfault 5\noom_kill 7\noom_killed 9\n", 7), ("pgfault 5\n", 0), (None, 0)],
)
def test_oom_kills_are_counted(
    monkeypatch: pytest.MonkeyPatch, text: str | None, kills: int
) -> None:
    def read(path: Path) -> str:
        assert str(path) == "/proc/vmstat"
        if text is None:
            raise FileNotFoundError
        return text

    monkeypatch.setattr(Path, "read_text", read)
    assert health.oom_kills() == kills
