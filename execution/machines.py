"""Which machines of a cluster may work for a run: those that proved themselves (see ``proof``)."""

import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from ..core.errors import EnvironmentFault
from ..core.events import report
from .placement import Node

TRIES = 3
"""Processes that may end while they prove their machine, before it is left out."""


@dataclass(slots=True)
class _Machine:
    """A machine that was met. ``ended`` counts processes that ended instead of an answer."""

    name: str
    proven: bool = False
    ended: int = 0
    unfit: str = ""


class Machines:
    """Asks each machine once, as it comes; one that isn't as it should be is left out of the run.

    ``nodes`` are those that live, ``ask`` has one prove itself: the call, which ``answered`` or
    ``ended`` gives back.
    """

    def __init__(
        self,
        nodes: Callable[[], Sequence[Node]],
        ask: Callable[[str], Hashable],
    ):
        self._nodes = nodes
        self._ask = ask
        self._met: dict[str, _Machine] = {}
        self._asked: dict[Hashable, str] = {}

    def usable(self) -> list[Node]:
        """The living machines that proved themselves; asks those that weren't met before."""
        living = list(self._nodes())
        for node in living:
            if node["NodeID"] not in self._met and _works(node):
                self._met[node["NodeID"]] = _Machine(_name(node))
                self._asked[self._ask(node["NodeID"])] = node["NodeID"]
        return [node for node in living if self.is_proven(node["NodeID"])]

    def ask_again(self) -> None:
        """Have those that weren't left out prove themselves again: there is more to show."""
        self._met = {name: machine for name, machine in self._met.items() if machine.unfit}
        self._asked.clear()

    def is_proven(self, machine: str) -> bool:
        """Whether it may work."""
        return machine in self._met and self._met[machine].proven

    @property
    def asked(self) -> list[Hashable]:
        """The calls that have no answer yet."""
        return list(self._asked)

    def asked_of(self, call: Hashable) -> str:
        """The machine that was asked by a call without an answer yet."""
        return self._asked[call]

    def answered(self, call: Hashable, reason: str) -> None:
        """What a machine showed: ``reason`` says why it is left out, "" that it is not.

        Raises EnvironmentFault where no machine is left.
        """
        machine = self._asked.pop(call)
        if reason:
            self.leave_out(machine, reason)
        else:
            self._met[machine].proven = True

    def ended(self, call: Hashable, reason: str) -> None:
        """A process ended before it could answer: another one is asked, unless that is usual."""
        machine = self._asked.pop(call)
        self._met[machine].ended += 1
        if machine not in {node["NodeID"] for node in self._nodes()}:
            del self._met[machine]  # it may come back
        elif self._met[machine].ended < TRIES:
            self._asked[self._ask(machine)] = machine
        else:
            self.leave_out(machine, reason)

    def leave_out(self, machine: str, reason: str, fault: BaseException | None = None) -> None:
        """Use a machine no more.

        Raises where none is left: the fault, if it was the only machine, or EnvironmentFault.
        """
        met = self._met.get(machine)
        if met is None or met.unfit:
            return
        met.proven, met.unfit = False, reason
        living = {node["NodeID"] for node in self._nodes()} | {machine}
        here = [m for name, m in self._met.items() if name in living]
        if not all(m.unfit for m in here):
            text = f"machine {met.name} is left out: {reason}"
            report(logging.WARNING, "machine", text, node=met.name)
            return
        if len(here) == 1 and fault is not None:
            raise fault
        reasons = "; ".join(f"{m.name}: {m.unfit}" for m in here)
        raise EnvironmentFault(
            f"no machine can do this job ({reasons}). Make one like this one, where hw1 was "
            "started, then give the same command again"
        ) from fault


def _works(node: Node) -> bool:
    """Whether the run could use it: a head often has no processors."""
    resources = node["Resources"]
    return bool(resources.get("CPU", 0) >= 1 or resources.get("GPU", 0) > 0)


def _name(node: Node) -> str:
    return f"{node.get('NodeManagerHostname', '')} ({node.get('NodeManagerAddress', '')})"
