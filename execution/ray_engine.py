"""The engine on Ray: decode and write tasks, and a pool of processes that hold the models.

The one module of the runner that imports Ray. What is done next, and what follows when something
fails, is the scheduler's; here it is done. Ray's own retries are off: they hide who died, and
give the poison to the next process.
"""

import logging
import os
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain
from types import TracebackType
from typing import Any, Self, TypeVar

import ray
from ray import cloudpickle, exceptions
from ray.job_config import JobConfig
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..core.errors import EnvironmentFault, Hw1Error, InputError
from ..core.events import report
from ..core.numerics import ProfileUnmet
from ..core.records import Committed, Shard, Work, Written
from ..core.text import first_line
from . import local_ray as local
from . import ray_health as health
from . import worker
from .actor_pool import SLOW
from .backend import DecodedData, Fault, Outcome, Policy, PredictedData, Ready, Room, Stage
from .flow import Flow
from .machines import Machines
from .placement import HERE, Node, Placement, RayOptions, Resources
from .proof import NOTHING, Proof, Sight, differences, prove, sight
from .scheduler import TICK, Scheduler
from .signals import kept_interrupt, uninterrupted

__all__ = ["HERE", "RayEngine", "RayOptions", "Resources"]

# Any: what Ray's decorators make of these has types of its own, which differ by version.
_SHOW: Any = ray.remote(max_retries=0, num_cpus=0)(worker.show)
_OOM_KILLS: Any = ray.remote(max_retries=0, num_cpus=0)(health.oom_kills)
_DECODE: Any = ray.remote(max_retries=0, num_returns=2)(worker.decode)
_WRITE: Any = ray.remote(max_retries=0)(worker.write)
_COMMIT: Any = ray.remote(max_retries=0)(worker.commit)

T = TypeVar("T")


@dataclass(frozen=True)
class _Loaded:
    """A predictor is ready, on a machine: the digest of its sample, or why it can't be."""

    machine: str
    sample: str = ""
    unfit: Exception | None = None


class _Process(worker.ActorProcess):
    """An actor's process, which knows its machine."""

    def start(self, pickled: bytes, compare: bool) -> _Loaded:
        """Load, if this machine can."""
        machine = ray.get_runtime_context().get_node_id()
        try:
            return _Loaded(machine, self.load(pickled, compare))
        except (ProfileUnmet, InputError, ImportError) as error:
            return _Loaded(machine, unfit=error)


_ACTOR: Any = ray.remote(max_restarts=0, max_task_retries=0)(_Process)

_Small = tuple[int, int, float, str] | float | _Loaded | Written | Committed | None
"""What the driver reads of a call's result: of decode, see ``worker.Decoding``."""

_Large = tuple[object, str | None]
"""What it need not read: where that lies in the store, and the machine that made it."""

MISSING = (
    exceptions.ObjectLostError,
    exceptions.ObjectStoreFullError,
    exceptions.OutOfDiskError,
)

GONE = (
    exceptions.ActorUnschedulableError,
    exceptions.TaskUnschedulableError,
    exceptions.NodeDiedError,
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

FINISHING = 120.0
"""Seconds that a job that is done waits for what lets later ones start faster."""

ANSWER = 10.0
"""Seconds that a machine has to say how often its memory ran out."""

NODE_DIED = "its node has died"
"""What an ActorDiedError says where the machine went with the actor; it has no field for that."""


class RayEngine:
    """A Ray for the length of a with-statement, entered and left on one thread.

    Its processes would die with the thread that starts them. SIGTERM's handler is kept. Nothing is
    printed, nothing is written into the home folder, and no process is left at the end. What went
    wrong and is tried again, and what takes long, is an event of the job's (``core.events``).
    With the address HERE the Ray that runs in this process is used as it is, and left running.

    Raises InputError where no cluster answers at the address, EnvironmentFault where Ray does not
    start here.
    """

    def __init__(self, options: RayOptions):
        self.options = options
        self._stack = ExitStack()
        self._spares: list[_Placed] = []
        self._proofs: _Proofs | None = None

    def __enter__(self) -> Self:
        if ray.is_initialized() and self.options.address != HERE:
            raise InputError("Ray runs in this process already: call ray.shutdown() first.")
        self._begin()
        return self

    def _begin(self) -> None:
        """Start Ray, or find it."""
        with ExitStack() as stack:
            stack.enter_context(local.quiet())
            stack.callback(logging.getLogger("ray").setLevel, logging.getLogger("ray").level)
            if self.options.address is None:
                local.require_loopback()
                stack.enter_context(local.environment())
                folder = stack.enter_context(local.scratch())
                stack.enter_context(local.guard(folder))
                stack.callback(ray.shutdown)
                # Ray opens its folder to everyone; the one around it stays ours.
                _start(str(folder / "r"), self.options.processors)
            elif self.options.address == HERE:
                logging.getLogger("ray").setLevel(logging.CRITICAL)  # what fails is tried again
            else:
                stack.callback(ray.shutdown)
                _connect(self.options.address)
            if self.options.device == "auto":
                device = "cuda" if self.resources().gpus else "cpu"
                self.options = replace(self.options, device=device)
            self._require_device()
            placement = Placement(self.options, _nodes)
            self._proofs = None
            if self.options.address is not None:
                # The numerics profile must not come from an unlike machine.
                self._proofs = _Proofs(self.options)
                self._proofs.begin(NOTHING)
                placement = self._proofs.placement
            if self.options.modules:
                for _ in range(placement.room().predictors):
                    self._spares.append(_place("predict", placement, self._spares))
                    self._spares[-1].actor.warm.remote(self.options.modules)
            self._stack = stack.pop_all()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
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
        placement = self._proofs.placement if self._proofs else Placement(self.options, _nodes)
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
                if self._proofs is None or not isinstance(cause, ImportError):
                    raise cause or error from error
                ended = error
                if home := self._spares.pop(0).home:
                    self._proofs.leave_out(home, f"{type(cause).__name__}: {first_line(cause)}")
            except exceptions.RayError as error:
                ended = error
                if home := self._spares.pop(0).home:
                    placement.avoid(home)
            else:
                return result
        assert ended is not None
        raise EnvironmentFault(
            f"{PROBED} processes of the cluster ended as they were asked what they can do, the "
            f"last one because: {first_line(ended)}. Repair the machine, and give the same "
            "command again."
        ) from ended

    def run(
        self,
        work: Work,
        shards: Iterable[Shard],
        commit: Callable[[Committed], None],
    ) -> Flow:
        """Take each shard through decode, predict, write and commit; returns after the last.

        ``shards`` is read as there is room for them. ``commit`` is called on this thread once a
        shard, in any order, when its part is durable.

        Raises InputError where a device is not there or the models can't be loaded,
        EnvironmentFault where the cluster keeps failing, and whatever else the work raises.
        """
        self._require_device()
        begun = _Begun(shards)
        flow = Flow()

        def committed(done: Committed) -> None:
            begun.end(done.shard)
            commit(done)

        try:
            self._run(work, begun, committed, flow)
        except (EnvironmentFault, exceptions.RayError):
            # A cluster isn't ours to start; of a Ray here, something may have ended a process.
            if self.options.address is not None or not (broken := _broken()):
                raise
            text = f"Ray's {broken} on this machine ended: Ray is started again, once"
            report(logging.WARNING, "worker", text)
            self._end()
            self._begin()
            flow = Flow()
            self._run(work, begun, committed, flow)
        return flow

    def _run(
        self, work: Work, begun: "_Begun", commit: Callable[[Committed], None], flow: Flow
    ) -> None:
        """Take what isn't committed through the work."""
        source = iter(begun)
        if (first := next(source, None)) is None:
            return
        policy = Policy(self.options.timeout, self.options.tries, self.options.pause)
        proofs = self._proofs or _Proofs(self.options)
        with sight(work.root, first.images, [work.folder]) as seen:
            proofs.begin(seen)
            backend = _RayBackend(self.options, work, self._spares, proofs)
            try:
                Scheduler(backend, policy, commit, flow).run(chain([first], source))
                backend.finish()
            finally:
                backend.close()

    def _require_device(self) -> None:
        if self.options.device == "cuda" and not self.resources().gpus:
            raise InputError(
                "device cuda: Ray sees no GPU. Give --device cpu, or repair the driver."
            )


def runs_here() -> bool:
    """Whether this process has started, or joined, a Ray already."""
    return bool(ray.is_initialized())


class _Begun:
    """Shards on their way: those that were begun and not committed come again, first."""

    def __init__(self, shards: Iterable[Shard]):
        self._source = iter(shards)
        self._begun: dict[int, Shard] = {}

    def __iter__(self) -> Iterator[Shard]:
        yield from list(self._begun.values())
        for shard in self._source:
            self._begun[shard.id] = shard
            yield shard

    def end(self, shard: int) -> None:
        """A shard is committed."""
        del self._begun[shard]


def _broken() -> str:
    """The part of the Ray here that ended or doesn't answer, "" for none."""
    return health.dead() or ("" if health.head_answers() else "head")


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
        with kept_interrupt(), local.lean(), local.shielded(), local.no_sigterm_handler():
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
            f"Ray did not start on this machine ({first_line(error)}). Give --engine inline to "
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
            f"address {address!r}: no Ray to use ({first_line(error)}).{hint}"
        ) from error


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
        options["label_selector"] = {"ray.io/node-id": f"in({','.join(placement.names())})"}
    elif home := placement.home(p.home for p in placed):
        options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(home, soft=False)
    return _Placed(_ACTOR.options(**options).remote(placement.threads()), home)


class _Watch:
    """Looks, once in a while, whether Ray lives."""

    def __init__(self) -> None:
        self._looked = 0.0
        self._head_seen = time.monotonic()

    def require_ray(self) -> None:
        """Raise EnvironmentFault where Ray died: it will end this process without a word."""
        if time.monotonic() - self._looked < HEARTBEAT:
            return
        self._looked = time.monotonic()
        if dead := health.dead():
            raise EnvironmentFault(
                f"Ray's {dead} on this machine died, perhaps for want of memory. What is done is "
                "kept: start the cluster again, if you use one, and give the same command"
            )
        if health.head_answers():
            self._head_seen = time.monotonic()
        elif time.monotonic() - self._head_seen > HEAD_SECONDS:
            raise EnvironmentFault(
                f"the cluster's head has not answered for {HEAD_SECONDS:.0f} s. What is done is "
                "kept: start the cluster again, and give the same command"
            )


class _Proofs:
    """Has the machines show what they are, and compares that with this one."""

    def __init__(self, options: RayOptions):
        self.machines = Machines(_nodes, self._ask)
        self.placement = Placement(options, self.machines.usable)
        self.oom_kills: dict[str | None, int] = {}

    def begin(self, seen: Sight) -> None:
        """Ask all machines; return when one has proved itself, others may do so later."""
        self._seen = seen
        self.machines.ask_again()
        self.machines.usable()
        watch = _Watch()
        self._expected = prove(self._seen)
        since = time.monotonic()
        while not self.machines.usable():
            watch.require_ray()
            if not (asked := self.machines.asked):
                time.sleep(TICK)
            for call in ray.wait(asked, timeout=TICK)[0] if asked else ():
                self.settle(call)
            if time.monotonic() - since > SLOW:
                since = time.monotonic()
                text = "no machine has shown yet what it is: it waits for one to answer"
                report(logging.WARNING, "waiting", text)

    def _ask(self, machine: str) -> Hashable:
        call: Hashable = _SHOW.options(**_at(machine)).remote(self._seen)
        return call

    def settle(self, call: Hashable) -> None:
        """Compare what a machine showed with this one."""
        get: Any = ray.get  # typed for references alone
        found: Proof
        try:
            found, kills = get(call)
        except exceptions.RayTaskError as error:
            self.machines.answered(call, str(error).strip().splitlines()[-1])
        except exceptions.RayError as error:
            self.machines.ended(call, first_line(error))
        else:
            self.oom_kills[self.machines.asked_of(call)] = kills
            if differences(self._expected, found):  # images may have changed since
                self._expected = prove(self._seen)
            self.machines.answered(call, differences(self._expected, found))
        self.placement.look_again()

    def leave_out(self, machine: str, reason: str, fault: Exception | None = None) -> None:
        """Use a machine no more."""
        self.machines.leave_out(machine, reason, fault)
        self.placement.look_again()


class _RayBackend:
    """The scheduler's backend: a call is the reference of a small result, read when it's there.

    The large one beside it, pixels or masks, stays in the object store.
    """

    def __init__(
        self,
        options: RayOptions,
        work: Work,
        spares: list[_Placed],
        proofs: "_Proofs",
    ):
        dumps: Any = cloudpickle.dumps  # untyped
        self._proofs = proofs
        self._machines = proofs.machines
        self._placement = proofs.placement
        self._in_cluster = options.address is not None
        self._work = ray.put(dumps(work))
        self._spares = spares
        self._sample = ""
        self._actors: dict[Hashable, _Placed] = {}
        self._ready: dict[str, Any] = {}
        self._large: dict[Hashable, object] = {}
        self._starting: dict[Hashable, Hashable] = {}
        self._where: dict[Hashable, str | None] = {}
        self._watch = _Watch()

    def spawn(self, stage: Stage) -> tuple[Hashable, Hashable]:
        fit = (s for s in self._spares if not s.home or self._machines.is_proven(s.home))
        if stage == "predict" and (spare := next(fit, None)):
            self._spares.remove(spare)
            placed = spare
        else:
            placed = _place(stage, self._placement, self._actors.values())
        self._actors[placed.actor] = placed
        call: Hashable
        if stage == "predict":
            call = placed.actor.start.remote(self._work, self._in_cluster)
        else:
            call = placed.actor.prepare.remote(self._work)
        self._starting[call] = placed.actor
        self._where[call] = placed.home
        return placed.actor, call

    def stop(self, actor: Hashable) -> None:
        ray.kill(self._actors.pop(actor).actor)

    def finish(self) -> None:
        """Have one predictor of each machine leave what lets later jobs start faster, in time."""
        calls = [a.finish.remote(self._work) for a in self._ready.values() if a in self._actors]
        end = time.monotonic() + FINISHING
        while calls and time.monotonic() < end and not health.dead() and health.head_answers():
            calls = ray.wait(calls, num_returns=len(calls), timeout=HEARTBEAT)[1]

    def close(self) -> None:
        """End the processes: they hold this job's models. Where Ray died they end with it."""
        if health.dead() or not health.head_answers():
            return
        for key in list(self._actors):
            self.stop(key)

    def decode(self, piece: Shard, limit: float | None, actor: Hashable | None) -> Hashable:
        if actor is not None:
            call = self._actors[actor].actor.decode.options(num_returns=2)
            return self._pair(call.remote(self._work, piece, limit), self._actors[actor].home)
        machine = self._placement.spread(self._where.values())
        call = _DECODE.options(**_at(machine))
        return self._pair(call.remote(self._work, piece, limit), machine)

    def predict(self, data: Any, limit: float | None, actor: Hashable) -> Hashable:
        call = self._actors[actor].actor.predict.options(num_returns=2)
        return self._pair(call.remote(data[0], limit), self._actors[actor].home)

    def write(self, data: Any, shard: Shard | None, seconds: float) -> Hashable:
        pixels, machine = data
        return self._task(_WRITE, machine, self._work, pixels, shard, seconds)

    def commit(self, shard: Shard, pieces: Sequence[Written], seconds: float) -> Hashable:
        return self._task(_COMMIT, None, self._work, shard, pieces, seconds)

    def _task(self, function: Any, machine: str | None, *arguments: object) -> Hashable:
        """Call a function on the machine, or on any that proved itself."""
        if machine is None or not self._machines.is_proven(machine):
            machine = self._placement.spread(self._where.values())
        call: Hashable = function.options(**_at(machine)).remote(*arguments)
        self._where[call] = machine
        return call

    def wait(self, calls: Sequence[Hashable], timeout: float) -> list[tuple[Hashable, Outcome]]:
        asked = self._machines.asked
        if not calls and not asked:
            time.sleep(timeout)
            return []
        self._watch.require_ray()
        ready, rest = ray.wait([*calls, *asked], timeout=timeout, fetch_local=False)
        if ready and rest:
            more, _ = ray.wait(rest, num_returns=len(rest), timeout=0, fetch_local=False)
            ready += more
        for call in set(ready) & set(asked):
            self._proofs.settle(call)
        return [(call, self._settled(call)) for call in ready if call not in asked]

    def room(self) -> Room:
        return self._placement.room()

    def clock(self) -> float:
        return time.monotonic()

    def _pair(self, results: tuple[Hashable, object], machine: str | None) -> Hashable:
        small, self._large[small] = results
        self._where[small] = machine
        return small

    def _settled(self, call: Hashable) -> Outcome:
        machine = self._where.pop(call, None)
        outcome = self._outcome(call, machine)
        actor = self._starting.pop(call, None)
        if machine and isinstance(outcome, Fault) and (actor is not None or outcome.kind == "gone"):
            self._placement.avoid(machine)
        return outcome

    def _outcome(self, call: Hashable, machine: str | None) -> Outcome:
        large = self._large.pop(call, None)
        get: Any = ray.get  # typed for references alone
        try:
            small: _Small = get(call)
        except exceptions.RayTaskError as error:
            cause = error.cause
            return self._fault(cause, machine) if isinstance(cause, MACHINE) else _raised(error)
        except exceptions.RayError as error:
            return self._fault(error, machine)
        if isinstance(small, Written | Committed):
            return small
        if isinstance(small, _Loaded):
            return self._loaded(small, self._starting[call])
        if small is None or isinstance(small, float):
            return Ready() if small is None else PredictedData((large, machine), small)
        stop, size, seconds, notice = small
        return DecodedData(stop, size, (large, machine), seconds, notice)

    def _loaded(self, found: _Loaded, actor: Hashable) -> Outcome:
        """Whether a predictor's machine proved itself, and its sample is as the first one's."""
        if actor in self._actors:  # of a GPU's, Ray chose the machine
            self._actors[actor] = replace(self._actors[actor], home=found.machine)
        if found.unfit is not None:
            reason = first_line(found.unfit)
            if isinstance(found.unfit, ImportError):
                reason = f"{type(found.unfit).__name__}: {reason}"
            self._proofs.leave_out(found.machine, reason, found.unfit)
        elif self._sample and found.sample != self._sample:
            self._proofs.leave_out(found.machine, "it predicts other bytes than the first that did")
        elif self._machines.is_proven(found.machine):
            self._sample = found.sample
            self._ready[found.machine] = actor
            return Ready()
        return Fault("unfit", "its machine is left out, or has not proved itself")

    def _fault(self, error: exceptions.RayError, machine: str | None) -> Fault:
        """Who is at fault where Ray, not the work, says that something failed."""
        if isinstance(error, MISSING):
            return Fault("missing", f"{type(error).__name__}: {first_line(error)}")
        if isinstance(error, GONE):
            return Fault("gone", "its machine is leaving, or has gone")
        if not isinstance(error, exceptions.WorkerCrashedError | exceptions.ActorDiedError):
            return Fault("lost", first_line(error))
        if NODE_DIED in str(error) or getattr(error, "preempted", False):
            return Fault("gone", "its machine was lost")
        if self._memory_ran_out(machine):
            return Fault("lost", "the kernel ended a process, since memory ran out")
        return Fault("died", "its process ended unexpectedly")

    def _memory_ran_out(self, machine: str | None) -> bool:
        """Whether the machine's kernel ended processes since it was last asked."""
        kills: int
        get: Any = ray.get  # typed for references alone
        try:
            if self._in_cluster:
                kills = get(_OOM_KILLS.options(**_at(machine)).remote(), timeout=ANSWER)
            else:
                kills = health.oom_kills()
        except exceptions.RayError:
            return False
        before = self._proofs.oom_kills.get(machine, kills)
        self._proofs.oom_kills[machine] = kills
        return kills > before


def _at(machine: str | None) -> dict[str, Any]:
    """The options of a task that belongs on the machine."""
    if machine is None:
        return {}
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(machine, soft=False)}


def _raised(error: exceptions.RayTaskError) -> Fault:
    """What the work raised, with the other process's traceback where it is a bug."""
    cause = error.cause
    if isinstance(cause, MemoryError):
        cause = EnvironmentFault(f"a worker's memory ran out ({cause}): take fewer actors.")
    elif not isinstance(cause, Exception):
        cause = error
    elif not isinstance(cause, Hw1Error):
        cause.add_note(str(error))
    return Fault("raised", first_line(cause), cause)
