"""Which machines may work, without Ray."""

from collections.abc import Hashable
from typing import Any

import pytest

from hw1.core.errors import EnvironmentFault, InputError
from hw1.execution.machines import TRIES, Machines


def node(name: str, **resources: float) -> dict[str, Any]:
    return {
        "NodeID": name,
        "NodeManagerHostname": f"host-{name}",
        "NodeManagerAddress": "192.0.2.1",
        "Resources": resources or {"CPU": 2},
    }


class Cluster:
    """Nodes that are there, what was asked of whom, and what was said."""

    def __init__(self, *names: str) -> None:
        self.there = {name: node(name) for name in names}
        self.asked: list[str] = []
        self.machines = Machines(lambda: list(self.there.values()), self.ask)

    def ask(self, machine: str) -> Hashable:
        self.asked.append(machine)
        return f"{machine} {len(self.asked)}"

    def usable(self) -> list[str]:
        return [found["NodeID"] for found in self.machines.usable()]

    def call(self, machine: str) -> Hashable:
        (found,) = (c for c in self.machines.asked if str(c).startswith(machine))
        return found


def test_a_machine_gets_work_when_it_has_proved_itself(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster("a", "b")
    assert cluster.usable() == []
    cluster.machines.answered(cluster.call("b"), "")
    assert cluster.usable() == ["b"]
    cluster.machines.answered(cluster.call("a"), "")
    assert cluster.usable() == ["a", "b"]
    assert cluster.asked == ["a", "b"]  # once each
    assert not caplog.messages


def test_one_that_is_not_alike_is_left_out_with_a_line(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster("a", "b")
    cluster.usable()
    cluster.machines.answered(cluster.call("a"), "it has pillow 1.0, not 13.0.0")
    cluster.machines.answered(cluster.call("b"), "")
    assert cluster.usable() == ["b"]
    assert caplog.messages == [
        "machine host-a (192.0.2.1) is left out: it has pillow 1.0, not 13.0.0"
    ]


def test_the_run_ends_where_nobody_is_left() -> None:
    cluster = Cluster("a", "b")
    cluster.usable()
    cluster.machines.answered(cluster.call("a"), "no IN")
    with pytest.raises(EnvironmentFault, match=r"host-a .*: no IN; host-b .*: no OUT.* again"):
        cluster.machines.answered(cluster.call("b"), "no OUT")


def test_the_only_machine_says_its_own_fault() -> None:
    cluster = Cluster("a")
    cluster.usable()
    cluster.machines.answered(cluster.call("a"), "")
    with pytest.raises(InputError, match="bad weights"):
        cluster.machines.leave_out("a", "bad weights", InputError("bad weights"))


def test_one_that_comes_proves_itself_and_one_that_went_plays_no_part() -> None:
    cluster = Cluster("a")
    cluster.usable()
    cluster.machines.answered(cluster.call("a"), "")
    cluster.there["b"] = node("b")
    assert cluster.usable() == ["a"]
    del cluster.there["a"]
    assert cluster.usable() == []
    with pytest.raises(EnvironmentFault, match="no hw1"):
        cluster.machines.answered(cluster.call("b"), "no hw1")


def test_those_that_were_left_out_are_not_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster("a", "b")
    cluster.usable()
    cluster.machines.answered(cluster.call("a"), "it has pillow 1.0, not 13.0.0")
    cluster.machines.answered(cluster.call("b"), "")
    cluster.machines.ask_again()
    assert cluster.usable() == []
    assert cluster.asked == ["a", "b", "b"]
    cluster.machines.answered(cluster.call("b"), "")
    assert cluster.usable() == ["b"]
    assert len(caplog.messages) == 1


def test_a_process_that_ends_is_followed_by_another(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster("a", "b")
    cluster.usable()
    for _ in range(TRIES - 1):
        cluster.machines.ended(cluster.call("a"), "its process ended")
    assert not caplog.messages
    cluster.machines.ended(cluster.call("a"), "its process ended")
    assert caplog.messages == ["machine host-a (192.0.2.1) is left out: its process ended"]
    del cluster.there["b"]
    cluster.machines.ended(cluster.call("b"), "its machine was lost")
    assert cluster.asked == ["a", "b", "a", "a"]
    cluster.there["b"] = node("b")  # it came back
    cluster.usable()
    assert cluster.asked[-1] == "b"


def test_a_head_without_processors_is_not_asked() -> None:
    cluster = Cluster("a")
    cluster.there["head"] = node("head", memory=1.0)
    cluster.there["gpu"] = node("gpu", CPU=0, GPU=1)
    cluster.usable()
    assert cluster.asked == ["a", "gpu"]
