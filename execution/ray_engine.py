"""The engine on Ray: decode and write tasks, and a pool of processes that hold the models.

The one module of the runner that imports Ray. What is done next, and what follows when something
fails, is the scheduler's; here it is done. Ray's own retries are off: they hide who died, and
give the poison to the next process.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

import ray
from ray import cloudpickle, exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..core.errors import EnvironmentFault, Hw1Error, InputError
from ..core.records import Committed, Shard, Work, Written
from . import local_ray as local
from . import worker
from .actor_pool import SLOW
from .backend import DecodedData, Fault, Policy, Room, Stage
from .placement import Node, Placement, RayOptions, Resources
from .scheduler import Scheduler

__all__ = ["RayEngine", "RayOptions", "Resources"]

# Any: what Ray's decorators make of these has types of its own, which differ by version.
_DECODE: Any = ray.remote(max_retries=0, num_returns=2, scheduling_strategy="SPREAD")(worker.decode)
_WRITE: Any = ray.remote(max_retries=0)(worker.write)
_COMMIT: Any = ray.remote(max_retries=0)(worker.commit)
_PROCESS: Any = ray.remote(max_restarts=0, max_task_retries=0)(worker.Process)

T = TypeVar("T")

MISSING = (
    exceptions.ObjectLostError,
    exceptions.ObjectStoreFullError,
    exceptions.OutOfDiskError,
)

MACHINE = (
    *MISSING,
    exceptions.OutOfMemoryError,
    exceptions.NodeDiedError,
    exceptions.RaySystemError,
    exceptions.WorkerCrashedError,
    exceptions.RayActorError,
)
"""Ray's errors that a task can fail with where its code raised nothing."""

HEAD_SECONDS = 20.0
"""How long a cluster may be without its head; Ray itself ends this process after 60."""

HEARTBEAT = 5.0
"""Seconds between two looks whether Ray lives: where it died it ends this process after 15."""

PROBED = 3
"""Processes that are asked what they can do before a job is given up: a machine may just leave."""

NODE_DIED = "its node has died"
"""What an ActorDiedError says where the machine went with the actor; it has no field for that."""


class RayEngine:
    """A Ray for the length of a with-statement, entered on the main thread.

    Its processes would die with the thread that starts them. SIGTERM's handler is kept. Nothing is
    printed, nothing is written into the home folder, and no process is left at the end. ``status``
    gets a line of text for what went wrong and is being tried again, and for what takes long.

    Raises InputError where no cluster answers at the address, EnvironmentFault where Ray does not
    start here.
    """

    def __init__(self, options: RayOptions, status: Callable[[str], None] | None = None):
        self.options = options
        self._status = status or (lambda _: None)
        self._stack = ExitStack()
        self._spares: list[_Placed] = []

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("RayEngine has to be entered on the main thread")
        if ray.is_initialized():
            raise InputError("Ray runs in this process already: call ray.shutdown() first.")
        with ExitStack() as stack:
            stack.enter_context(local.quiet())
            stack.callback(logging.getLogger("ray").setLevel, logging.getLogger("ray").level)
            if self.options.address is None:
                stack.enter_context(local.environment())
                folder = stack.enter_context(local.scratch())
                stack.enter_context(local.guard(folder))
                stack.callback(ray.shutdown)
                # Ray opens its folder to everyone; the one around it stays ours.
                _start(str(folder / "r"), self.options.processors)
            else:
                stack.callback(ray.shutdown)
                _connect(self.options.address)
            if self.options.device == "auto":
                device = "cuda" if self.resources().gpus else "cpu"
                self.options = replace(self.options, device=device)
            self._require_device()
            if self.options.modules:
                placement = Placement(self.options, _nodes)
                for _ in range(placement.room().predictors):
                    self._spares.append(_place("predict", placement, self._spares))
                    self._spares[-1].process.warm.remote(self.options.modules)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with local.uninterrupted():
            self._spares.clear()
            self._stack.close()

    def resources(self) -> Resources:
        """What the cluster has now."""
        return Placement(self.options, _nodes).resources()

    @property
    def threads(self) -> int:
        """Threads of an actor on cpu: the option, or the same for every actor of the cluster."""
        return Placement(self.options, _nodes).threads()

    def probe(self, function: Callable[..., T], *arguments: object) -> T:
        """The function's result in a process that will predict.

        Raises what it raises, or EnvironmentFault where several processes end, one after another.
        """
        placement = Placement(self.options, _nodes)
        ended: exceptions.RayError | None = None
        for _ in range(PROBED):
            if not self._spares:
                self._spares.append(_place("predict", placement, ()))
            call = self._spares[0].process.probe.remote(function, arguments)
            try:
                while not ray.wait([call], timeout=SLOW)[0]:
                    self._status(
                        "no worker is ready to predict: it waits for a free device, or starts"
                    )
                result: T = ray.get(call)
            except exceptions.RayTaskError as error:
                cause = _raised(error).error
                raise cause or error from error
            except exceptions.RayError as error:
                ended = error
                if home := self._spares.pop(0).home:
                    placement.avoid(home)
            else:
                return result
        assert ended is not None
        raise EnvironmentFault(
            f"{PROBED} processes of the cluster ended as they were asked what they can do, the "
            f"last one because: {_first_line(ended)}. Repair the machine, and give the same "
            "command again."
        ) from ended

    def run(
        self,
        work: Work,
        shards: Iterable[Shard],
        commit: Callable[[Committed], None],
    ) -> None:
        """Take each shard through decode, predict, write and commit; returns after the last.

        ``shards`` is read as there is room for them. ``commit`` is called on this thread once a
        shard, in any order, when its part is durable.

        Raises InputError where a device is not there or the models can't be loaded,
        EnvironmentFault where the cluster keeps failing, and whatever else the work raises.
        """
        self._require_device()
        placement = Placement(self.options, _nodes)
        policy = Policy(self.options.timeout, self.options.tries, self.options.pause)
        backend = _RayBackend(placement, work, self._spares)
        try:
            Scheduler(backend, policy, commit, self._status).run(shards)
        finally:
            backend.close()

    def _require_device(self) -> None:
        if self.options.device == "cuda" and not self.resources().gpus:
            raise InputError(
                "device cuda: Ray sees no GPU. Give --device cpu, or repair the driver."
            )


def _start(folder: str, processors: int | None) -> None:
    """Start Ray here. RAY_ADDRESS and other Rays of this machine play no part."""
    try:
        with local.lean(), _own_signals():
            ray.init(
                address="local",
                num_cpus=processors,
                object_store_memory=local.store_bytes(),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                _temp_dir=folder,
                _skip_env_hook=True,
            )
    except Exception as error:  # Ray raises bare ones: "The current node timed out during startup"
        raise EnvironmentFault(
            f"Ray did not start on this machine ({_first_line(error)}). Give --engine inline to "
            "do without it, or free memory and processes, and try again."
        ) from error


def _connect(address: str) -> None:
    if address == "local":  # Ray would start one here, without what local.py does for it
        raise InputError("address 'local': for Ray on this machine, give no --address.")
    if "://" in address:
        raise InputError(
            f"address {address!r}: Ray's client protocol is not supported. Run hw1 on a machine "
            "of the cluster, with --address auto."
        )
    said = f"address {address!r}: no Ray to use"
    host, _, port = address.rpartition(":")
    if host and port.isdigit():  # Ray itself would look for it for minutes
        try:
            ours = local.speaks_grpc(host.strip("[]"), int(port), timeout=10)
        except OSError as error:
            raise InputError(f"{said} ({_first_line(error)}).") from error
        if not ours:
            raise InputError(
                f"{said}: what listens there doesn't speak gRPC, as a head of Ray's does, or not "
                "within 10 s. Give the port that ray start --head told, 6379 by default; for TLS "
                "set RAY_USE_TLS=1."
            )
    try:
        with _own_signals():
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except Exception as error:  # see _start
        secured = os.environ.get("RAY_AUTH_MODE", "").lower() == "token"
        hint = "" if secured else " If it asks for a token, set RAY_AUTH_MODE=token."
        raise InputError(f"{said} ({_first_line(error)}).{hint}") from error


@contextmanager
def _own_signals() -> Iterator[None]:
    """Let SIGTERM be as Ctrl-C, and lose neither, while ray.init runs, which sets handlers too.

    What a handler raises is lost where it interrupts a hook of Python's (around a fork, at an
    object's end): hence it is raised again at the end. A signal that is ignored stays so.
    """
    came = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        raise KeyboardInterrupt

    heeded = [
        number
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]
    before = {number: signal.signal(number, interrupt) for number in heeded}
    try:
        with local.no_sigterm_handler():
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if came:
            raise KeyboardInterrupt


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _nodes() -> list[Node]:
    """The machines that live; none where the head, which knows, can't be asked."""
    if not local.head_answers():  # Ray would wait for it, deaf to Ctrl-C
        return []
    nodes: Any = ray.nodes  # untyped
    return [node for node in nodes() if node["Alive"]]


@dataclass(frozen=True)
class _Placed:
    """A process, and the machine that was chosen for it; a GPU's is Ray's choice."""

    process: Any
    home: str | None


def _place(stage: Stage, placement: Placement, placed: Iterable[_Placed]) -> _Placed:
    """Start a process beside those that are there.

    It holds no processor, so that no task waits for one in vain. Ray gives an actor a new process,
    never one that has run tasks: fresh, as suspects need it. A machine that has gone by then is a
    failed start: the next one is elsewhere. "Soft" would do that too, but of what needs no
    processor Ray takes it for "anywhere", a head without processors too.
    """
    options: dict[str, Any] = {"num_cpus": 0}
    home = None
    if stage == "predict" and (gpus := placement.gpus()):
        options["num_gpus"] = gpus
    elif home := placement.home(p.home for p in placed):
        options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(home, soft=False)
    return _Placed(_PROCESS.options(**options).remote(placement.threads()), home)


class _RayBackend:
    """The scheduler's backend: a call is the reference of a small result, read when it's there.

    The large one beside it, pixels or masks, stays in the object store.
    """

    def __init__(self, placement: Placement, work: Work, spares: list[_Placed]):
        dumps: Any = cloudpickle.dumps  # untyped
        self._placement = placement
        self._work = ray.put(dumps(work))
        self._spares = spares
        self._workers: dict[Hashable, _Placed] = {}
        self._large: dict[Hashable, Any] = {}
        self._starting: dict[Hashable, str | None] = {}
        self._oom_kills = local.oom_kills()
        self._looked = 0.0
        self._head_seen = self.clock()

    def spawn(self, stage: Stage) -> tuple[Hashable, Hashable]:
        if stage == "predict" and self._spares:
            placed = self._spares.pop()
        else:
            placed = _place(stage, self._placement, self._workers.values())
        self._workers[placed.process] = placed
        ready = placed.process.load if stage == "predict" else placed.process.prepare
        call: Hashable = ready.remote(self._work)
        self._starting[call] = placed.home
        return placed.process, call

    def stop(self, worker: Hashable) -> None:
        ray.kill(self._workers.pop(worker).process)

    def close(self) -> None:
        """End the processes: they hold this job's models. Where Ray died they end with it."""
        if local.dead() or not local.head_answers():
            return
        for key in list(self._workers):
            self.stop(key)

    def decode(self, piece: Shard, limit: float | None, worker: Hashable | None) -> Hashable:
        call = _DECODE
        if worker is not None:
            call = self._workers[worker].process.decode.options(num_returns=2)
        return self._pair(call.remote(self._work, piece, limit))

    def predict(self, data: Any, limit: float | None, worker: Hashable) -> Hashable:
        call = self._workers[worker].process.predict.options(num_returns=2)
        return self._pair(call.remote(data, limit))

    def write(self, data: Any, shard: Shard | None, seconds: float) -> Hashable:
        call: Hashable = _WRITE.remote(self._work, data, shard, seconds)
        return call

    def commit(self, shard: Shard, pieces: Sequence[Written], seconds: float) -> Hashable:
        call: Hashable = _COMMIT.remote(self._work, shard, pieces, seconds)
        return call

    def wait(self, calls: Sequence[Hashable], timeout: float) -> list[tuple[Hashable, Any]]:
        if not calls:
            time.sleep(timeout)
            return []
        self._require_ray()
        ready, rest = ray.wait(list(calls), timeout=timeout, fetch_local=False)
        if ready and rest:
            more, _ = ray.wait(rest, num_returns=len(rest), timeout=0, fetch_local=False)
            ready += more
        return [(call, self._settled(call)) for call in ready]

    def _require_ray(self) -> None:
        """Raise EnvironmentFault where Ray died: it will end this process without a word."""
        if self.clock() - self._looked < HEARTBEAT:
            return
        self._looked = self.clock()
        if dead := local.dead():
            raise EnvironmentFault(
                f"Ray's {dead} on this machine died, perhaps for want of memory. What is done is "
                "kept: start the cluster again, if you use one, and give the same command"
            )
        if local.head_answers():
            self._head_seen = self.clock()
        elif self.clock() - self._head_seen > HEAD_SECONDS:
            raise EnvironmentFault(
                f"the cluster's head has not answered for {HEAD_SECONDS:.0f} s. What is done is "
                "kept: start the cluster again, and give the same command"
            )

    def room(self) -> Room:
        return self._placement.room()

    def clock(self) -> float:
        return time.monotonic()

    def _pair(self, results: tuple[Hashable, Any]) -> Hashable:
        small, self._large[small] = results
        return small

    def _settled(self, call: Hashable) -> Any:
        home = self._starting.pop(call, None)
        outcome = self._outcome(call)
        if home and isinstance(outcome, Fault):
            self._placement.avoid(home)
        return outcome

    def _outcome(self, call: Any) -> Any:
        large = self._large.pop(call, None)
        try:
            small: Any = ray.get(call)
        except exceptions.RayTaskError as error:
            cause = error.cause
            return self._fault(cause) if isinstance(cause, MACHINE) else _raised(error)
        except exceptions.RayError as error:
            return self._fault(error)
        if large is None:
            return small
        return large if small is None else DecodedData(small[0], small[1], large)

    def _fault(self, error: exceptions.RayError) -> Fault:
        """Who is at fault where Ray, not the work, says that something failed."""
        if isinstance(error, MISSING):
            return Fault("missing", f"{type(error).__name__}: {_first_line(error)}")
        if isinstance(error, exceptions.ActorUnschedulableError):
            return Fault("lost", "its machine is leaving, or has gone")
        if not isinstance(error, exceptions.WorkerCrashedError | exceptions.ActorDiedError):
            return Fault("lost", _first_line(error))
        if NODE_DIED in str(error) or getattr(error, "preempted", False):
            return Fault("lost", "its machine was lost")
        kills, self._oom_kills = self._oom_kills, local.oom_kills()
        if self._oom_kills > kills:
            return Fault("lost", "the kernel ended a process, since memory ran out")
        return Fault("died", "its process ended unexpectedly")


def _raised(error: exceptions.RayTaskError) -> Fault:
    """What the work raised, with the other process's traceback where it is a bug."""
    cause = error.cause
    if isinstance(cause, MemoryError):
        cause = EnvironmentFault(f"a worker's memory ran out ({cause}): take fewer actors.")
    elif not isinstance(cause, Exception):
        cause = error
    elif not isinstance(cause, Hw1Error):
        cause.add_note(str(error))
    return Fault("raised", _first_line(cause), cause)
