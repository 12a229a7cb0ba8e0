"""Whether a Ray lives and answers, asked without Ray itself, which would wait for minutes."""

import importlib
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..core.errors import InputError


def check_address(address: str) -> None:
    """Raise InputError where no cluster can be at the address, or none is there."""
    if address == "local":  # Ray would start one here, without what local_ray.py does for it
        raise InputError("address 'local': for Ray on this machine, give no --address.")
    if "://" in address:
        raise InputError(
            f"address {address!r}: Ray's client protocol is not supported. Run hw1 on a machine "
            "of the cluster, with --address auto."
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        return
    said = f"address {address!r}: no Ray to use"
    try:
        ours = speaks_grpc(host.strip("[]"), int(port), timeout=10)
    except OSError as error:
        raise InputError(f"{said} ({error}).") from error
    if not ours:
        raise InputError(
            f"{said}: what listens there doesn't speak gRPC, as a head of Ray's does, or not "
            "within 10 s. Give the port that ray start --head printed, 6379 by default; for TLS "
            "set RAY_USE_TLS=1."
        )


def dead() -> str:
    """The process of Ray's on this machine that has ended; "" while all is well.

    Of a cluster that is the raylet, whose child we are not: it is asked for a connection.
    """
    node = internal("ray._private.worker", "_global_node", None)
    try:
        ended = ", ".join(kind for kind, _ in node.dead_processes()) if node else ""
        return ended or ("raylet" if node and not _listens(node.raylet_socket_name) else "")
    except AttributeError:
        return ""


def speaks_grpc(host: str, port: int, timeout: float) -> bool:
    """Whether HTTP/2, gRPC's carrier, is spoken there in ``timeout`` s; True where TLS hides it.

    Ray itself would wait minutes for any other server than a head of its own. One of HTTP/2 begins
    with a SETTINGS frame, its type in the fourth byte (RFC 9113, sections 3.4 and 4.1). Raises
    OSError where nothing listens.
    """
    with socket.create_connection((host, port), timeout=timeout) as connection:
        if os.environ.get("RAY_USE_TLS", "").lower() in ("1", "true"):
            return True
        answer = b""
        with suppress(OSError):  # it closed the connection, or waits for other words
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4)) + bytes(5))
            while len(answer) < 4 and (more := connection.recv(4 - len(answer))):
                answer += more
    return answer[3:] == bytes([4])


def head_answers() -> bool:
    """Whether the head of the cluster, or of the Ray here, takes a connection."""
    node = internal("ray._private.worker", "_global_node", None)
    host, _, port = str(getattr(node, "gcs_address", "")).rpartition(":")
    try:
        if port.isdigit():
            socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
    except OSError:
        return False
    return True


def _listens(name: str) -> bool:
    """Whether a process listens on a socket of this machine; True where one can't tell."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(name)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True


def oom_kills() -> int:
    """How many processes this machine's kernel has killed for want of memory, so far."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def internal(module: str, name: str, default: Any) -> Any:
    """What Ray keeps for itself; the default where this version of Ray lacks it."""
    try:
        return getattr(importlib.import_module(module), name, default)
    except ImportError:
        return default
