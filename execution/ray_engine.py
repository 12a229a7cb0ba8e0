"""The engine on Ray: decode and write tasks, and a pool of processes that hold the models.

The one module of the runner that imports Ray. What is done next, and what follows when something
fails, is the scheduler's; here it is done. Ray's own retries are off: they hide who died, and
give the poison to the next process.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self, TypeVar

import ray
from ray import cloudpickle, exceptions
from ray.job_config import JobConfig
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..core.errors import EnvironmentFault, Hw1Error, InputError
from ..core.events import report
from ..core.records import Committed, Shard, Work, Written
from . import local_ray as local
from . import ray_health as health
from . import worker
from .actor_pool import SLOW
from .backend import DecodedData, Fault, Outcome, Policy, PredictedData, Ready, Room, Stage
from .placement import Node, Placement, RayOptions, Resources
from .scheduler import Scheduler
from .signals import kept_interrupt, uninterrupted

__all__ = ["RayEngine", "RayOptions", "Resources"]

# Any: what Ray's decorators make of these has types of its own, which differ by version.
_DECODE: Any = ray.remote(max_retries=0, num_returns=2, scheduling_strategy="SPREAD")(worker.decode)
_WRITE: Any = ray.remote(max_retries=0)(worker.write)
_COMMIT: Any = ray.remote(max_retries=0)(worker.commit)
_ACTOR: Any = ray.remote(max_restarts=0, max_task_retries=0)(worker.ActorProcess)

T = TypeVar("T")

_Small = tuple[int, int] | Written | Committed | None
"""What the driver reads of a call's result: of decode, how far it got and its bytes."""

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
    printed, nothing is written into the home folder, and no process is left at the end. What went
    wrong and is tried again, and what takes long, is an event of the job's (``core.events``).

    Raises InputError where no cluster answers at the address, EnvironmentFault where Ray does not
    start here.
    """

    def __init__(self, options: RayOptions):
        self.options = options
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
                    self._spares[-1].actor.warm.remote(self.options.modules)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with uninterrupted():
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
            call = self._spares[0].actor.probe.remote(function, arguments)
            try:
                while not ray.wait([call], timeout=SLOW)[0]:
                    text = "no worker is ready to predict: it waits for a free device, or starts"
                    report(logging.WARNING, "waiting", text)
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
            Scheduler(backend, policy, commit).run(shards)
        finally:
            backend.close()

    def _require_device(self) -> None:
        if self.options.device == "cuda" and not self.resources().gpus:
            raise InputError(
                "device cuda: Ray sees no GPU. Give --device cpu, or repair the driver."
            )


class _NoPaths(list[str]):
    """Takes no entries."""

    def extend(self, _: Iterable[str]) -> None:
        """Leave them out."""


def _no_paths() -> JobConfig:
    """A job whose workers import what is installed, as this process does.

    Ray adds the driver's current folder to their path, and its script's. Folders of images come
    from strangers: a numpy.py in there would run.
    """
    config: JobConfig = JobConfig()
    config._py_driver_sys_path = _NoPaths()
    return config


def _start(folder: str, processors: int | None) -> None:
    """Start Ray here. RAY_ADDRESS and other Rays of this machine play no part."""
    try:
        with kept_interrupt(), local.lean(), local.no_sigterm_handler():
            ray.init(
                address="local",
                num_cpus=processors,
                object_store_memory=local.store_bytes(),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                job_config=_no_paths(),
                _temp_dir=folder,
                _skip_env_hook=True,
            )
    except Exception as error:  # Ray raises bare ones: "The current node timed out during startup"
        raise EnvironmentFault(
            f"Ray did not start on this machine ({_first_line(error)}). Give --engine inline to "
            "do without it, or free memory and processes, and try again."
        ) from error


def _connect(address: str) -> None:
    health.check_address(address)
    try:
        with kept_interrupt(), local.no_sigterm_handler():
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                job_config=_no_paths(),
            )
    except Exception as error:  # see _start
        secured = os.environ.get("RAY_AUTH_MODE", "").lower() == "token"
        hint = "" if secured else " If it asks for a token, set RAY_AUTH_MODE=token."
        raise InputError(
            f"address {address!r}: no Ray to use ({_first_line(error)}).{hint}"
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _nodes() -> list[Node]:
    """The machines that live; none where the head, which knows, can't be asked."""
    if not health.head_answers():  # Ray would wait for it, deaf to Ctrl-C
        return []
    nodes: Any = ray.nodes  # untyped
    return [node for node in nodes() if node["Alive"]]


@dataclass(frozen=True)
class _Placed:
    """An actor, and the machine that was chosen for it; a GPU's is Ray's choice."""

    actor: Any
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
    return _Placed(_ACTOR.options(**options).remote(placement.threads()), home)


class _RayBackend:
    """The scheduler's backend: a call is the reference of a small result, read when it's there.

    The large one beside it, pixels or masks, stays in the object store.
    """

    def __init__(self, placement: Placement, work: Work, spares: list[_Placed]):
        dumps: Any = cloudpickle.dumps  # untyped
        self._placement = placement
        self._work = ray.put(dumps(work))
        self._spares = spares
        self._actors: dict[Hashable, _Placed] = {}
        self._large: dict[Hashable, object] = {}
        self._starting: dict[Hashable, str | None] = {}
        self._oom_kills = health.oom_kills()
        self._looked = 0.0
        self._head_seen = self.clock()

    def spawn(self, stage: Stage) -> tuple[Hashable, Hashable]:
        if stage == "predict" and self._spares:
            placed = self._spares.pop()
        else:
            placed = _place(stage, self._placement, self._actors.values())
        self._actors[placed.actor] = placed
        ready = placed.actor.load if stage == "predict" else placed.actor.prepare
        call: Hashable = ready.remote(self._work)
        self._starting[call] = placed.home
        return placed.actor, call

    def stop(self, actor: Hashable) -> None:
        ray.kill(self._actors.pop(actor).actor)

    def close(self) -> None:
        """End the processes: they hold this job's models. Where Ray died they end with it."""
        if health.dead() or not health.head_answers():
            return
        for key in list(self._actors):
            self.stop(key)

    def decode(self, piece: Shard, limit: float | None, actor: Hashable | None) -> Hashable:
        call = _DECODE
        if actor is not None:
            call = self._actors[actor].actor.decode.options(num_returns=2)
        return self._pair(call.remote(self._work, piece, limit))

    def predict(self, data: object, limit: float | None, actor: Hashable) -> Hashable:
        call = self._actors[actor].actor.predict.options(num_returns=2)
        return self._pair(call.remote(data, limit))

    def write(self, data: object, shard: Shard | None, seconds: float) -> Hashable:
        call: Hashable = _WRITE.remote(self._work, data, shard, seconds)
        return call

    def commit(self, shard: Shard, pieces: Sequence[Written], seconds: float) -> Hashable:
        call: Hashable = _COMMIT.remote(self._work, shard, pieces, seconds)
        return call

    def wait(self, calls: Sequence[Hashable], timeout: float) -> list[tuple[Hashable, Outcome]]:
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
        if dead := health.dead():
            raise EnvironmentFault(
                f"Ray's {dead} on this machine died, perhaps for want of memory. What is done is "
                "kept: start the cluster again, if you use one, and give the same command"
            )
        if health.head_answers():
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

    def _pair(self, results: tuple[Hashable, object]) -> Hashable:
        small, self._large[small] = results
        return small

    def _settled(self, call: Hashable) -> Outcome:
        home = self._starting.pop(call, None)
        outcome = self._outcome(call)
        if home and isinstance(outcome, Fault):
            self._placement.avoid(home)
        return outcome

    def _outcome(self, call: Hashable) -> Outcome:
        large = self._large.pop(call, None)
        get: Any = ray.get  # typed for references alone
        try:
            small: _Small = get(call)
        except exceptions.RayTaskError as error:
            cause = error.cause
            return self._fault(cause) if isinstance(cause, MACHINE) else _raised(error)
        except exceptions.RayError as error:
            return self._fault(error)
        if isinstance(small, Written | Committed):
            return small
        if small is None:
            return Ready() if large is None else PredictedData(large)
        stop, size = small
        return DecodedData(stop, size, large)

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
        kills, self._oom_kills = self._oom_kills, health.oom_kills()
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
