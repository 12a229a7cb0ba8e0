"""The scheduler against processes that are simulated, with a clock that jumps."""

import itertools
import random
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw1.core.errors import DeviceFull, EnvironmentFault, InputError
from hw1.core.records import Committed, Planned, Rejection, Shard, Written
from hw1.execution.actor_pool import QUEUE, REST
from hw1.execution.backend import (
    DecodedData,
    Fault,
    Outcome,
    Policy,
    PredictedData,
    Ready,
    Room,
    Stage,
)
from hw1.execution.items import PIECE_BYTES, pieces_of
from hw1.execution.scheduler import VERDICTS, Scheduler

DIED = Fault("died", "its process ended")
HUNG = 1e9
LONG = 250


@dataclass
class Process:
    stage: Stage
    free_at: float
    calls: int = 0
    used: bool = False
    dead: Fault | None = None


@dataclass
class Flight:
    """A call: when it ends, how, in which process, and on what."""

    ends: float
    outcome: Outcome
    process: Process | None
    piece: Shard | None = None
    stage: Stage = "load"


@dataclass
class Simulation:
    """Processes that die of some images, hang at others, and meet the machine's faults.

    ``crash`` and ``hang`` map a stage to the images that do it there; ``stuck`` to those whose
    first call there takes LONG. ``upsets`` are the faults of the machine, one of which each call
    may meet while there are any.
    """

    room_: Room = field(default_factory=lambda: Room(1, 2, 5, 1000))
    crash: dict[Stage, set[str]] = field(default_factory=dict)
    hang: dict[Stage, set[str]] = field(default_factory=dict)
    stuck: dict[Stage, set[str]] = field(default_factory=dict)
    loads: list[Fault] = field(default_factory=list)
    upsets: list[Fault] = field(default_factory=list)
    upset_rate: float = 0.3
    longest_piece: int = 1000
    dice: random.Random = field(default_factory=lambda: random.Random(0))

    def __post_init__(self) -> None:
        self.now = 0.0
        self.keys = itertools.count()
        self.processes: dict[Hashable, Process] = {}
        self.flights: dict[Hashable, Flight] = {}
        self.alone_deaths: dict[str, list[bool]] = {}
        self.spawned = 0
        self.peak = 0
        self.held: dict[Any, int] = {}

    # The backend.

    def spawn(self, stage: Stage) -> tuple[Hashable, Hashable]:
        self.spawned += 1
        process = Process(stage, self.now + 1)
        key = next(self.keys)
        self.processes[key] = process
        fault = self.loads.pop(0) if stage == "predict" and self.loads else Ready()
        return key, self._fly(Flight(self.now + 1, fault, process))

    def stop(self, actor: Hashable) -> None:
        self.processes.pop(actor)

    def decode(self, piece: Shard, limit: float | None, actor: Hashable | None) -> Hashable:
        stop = min(piece.stop, piece.first + self.longest_piece)
        done = DecodedData(stop, stop - piece.first, piece.piece(piece.first, stop))
        return self._work("decode", piece, limit, actor, done)

    def predict(self, data: Any, limit: float | None, actor: Hashable) -> Hashable:
        assert self.processes[actor].calls < QUEUE
        return self._work("predict", data, limit, actor, PredictedData(data))

    def write(self, data: Any, shard: Shard | None, seconds: float) -> Hashable:
        ids = tuple(image.image_id for image in data.images)
        written = Written(data, ids, ())
        outcome = written if shard is None else committed(shard, [written])
        return self._work("write", data, None, None, outcome)

    def commit(self, shard: Shard, pieces: Sequence[Written], seconds: float) -> Hashable:
        return self._work("commit", shard, None, None, committed(shard, pieces))

    def wait(self, calls: Sequence[Hashable], timeout: float) -> list[tuple[Hashable, Outcome]]:
        assert set(calls) == set(self.flights)
        assert self.now < 20_000, "it has no end"
        first = min((flight.ends for flight in self.flights.values()), default=HUNG)
        if first > self.now + timeout:
            assert first < HUNG or timeout < 60
            self.now += timeout
            return []
        self.now = max(self.now, first)
        ended = [key for key, flight in self.flights.items() if flight.ends <= self.now]
        return [(key, self._land(key)) for key in ended]

    def room(self) -> Room:
        return self.room_

    def clock(self) -> float:
        return self.now

    # What happens.

    def _fly(self, flight: Flight) -> Hashable:
        key = next(self.keys)
        self.flights[key] = flight
        return key

    def _work(
        self, stage: Stage, piece: Shard, limit: float | None, worker: Hashable, outcome: Outcome
    ) -> Hashable:
        process = self.processes[worker] if worker is not None else Process(stage, self.now)
        fresh, process.used = not process.used, True
        process.calls += 1
        starts = max(self.now, process.free_at)
        ends = starts + self.dice.uniform(0.1, 3)
        ids = {image.image_id for image in piece.images}
        if self.upsets and self.dice.random() < self.upset_rate:
            outcome = self.upsets.pop()
        elif ids & self.crash.get(stage, set()):
            outcome = DIED
        elif ids & self.hang.get(stage, set()):
            assert limit is not None, "a hang without a limit"
            ends, outcome = starts + limit + 0.01, DIED
        if stuck := ids & self.stuck.get(stage, set()):
            self.stuck[stage] -= stuck
            ends = starts + LONG
        if process.dead:
            ends, outcome = self.now + 0.1, process.dead
        if outcome is DIED and len(ids) == 1 and process.calls == 1 and worker is not None:
            self.alone_deaths.setdefault(ids.pop(), []).append(fresh)
        process.free_at = ends
        return self._fly(Flight(ends, outcome, process, piece, stage))

    def _land(self, key: Hashable) -> Outcome:
        flight = self.flights.pop(key)
        process, outcome = flight.process, flight.outcome
        if process is None:
            return outcome
        process.calls -= flight.stage != "load"
        if isinstance(outcome, Fault) and outcome.kind in ("died", "lost", "gone"):
            process.dead = outcome
            for other in self.flights.values():
                if other.process is process:
                    other.ends, other.outcome = self.now, outcome
        return outcome


def committed(shard: Shard, pieces: Sequence[Written]) -> Committed:
    covered = [image for written in pieces for image in written.piece.images]
    assert covered == list(shard.images), "pieces cover the shard, once, in order"
    outcomes = [row for w in pieces for row in w.rows]
    rejected = [r for w in pieces for r in w.rejections]
    assert len(outcomes) + len(rejected) == len(shard.images)
    text = ";".join(f"{r.image_id},{r.reason}" for r in rejected)
    return Committed(
        shard.id, shard.first, len(shard.images), len(outcomes), len(rejected), text, 0.0
    )


def shards(sizes: Iterable[int], file: int = 1, together: int = 0) -> Iterator[Shard]:
    """Shards of so many images each, whose files have ``file`` bytes."""
    first = 0
    for number, size in enumerate(sizes):
        images = tuple(Planned(f"{first + k}", file, 1) for k in range(size))
        yield Shard(number, first, images, together)
        first += size


def run(
    simulation: Simulation,
    sizes: Sequence[int],
    policy: Policy | None = None,
    file: int = 1,
    together: int = 0,
) -> list[Committed]:
    done: list[Committed] = []
    policy = policy or Policy(timeout=100, tries=50, pause=0.1)
    Scheduler(simulation, policy, done.append).run(shards(sizes, file, together))
    assert sorted(c.shard for c in done) == list(range(len(sizes))), "each once"
    return done


def rejected(done: Iterable[Committed]) -> dict[str, str]:
    return dict(r.split(",") for c in done for r in c.digest.split(";") if r)


def test_all_is_well() -> None:
    simulation = Simulation()
    done = run(simulation, [8] * 20)
    assert sum(c.rows for c in done) == 160
    assert simulation.spawned == 1


def test_nothing_to_do_starts_nothing() -> None:
    simulation = Simulation()
    assert run(simulation, []) == []
    assert simulation.spawned == 0


@pytest.mark.parametrize("stage", ["decode", "predict"])
@pytest.mark.parametrize("kind", ["crash", "hang"])
def test_one_image_ends_its_process(stage: Stage, kind: str) -> None:
    simulation = Simulation(**{kind: {stage: {"13"}}})  # type: ignore[arg-type]
    done = run(simulation, [8] * 4)
    assert rejected(done) == {"13": "crashed" if kind == "crash" else "timeout"}
    assert simulation.alone_deaths["13"][-1], "the verdict came in a fresh process"


def test_a_shard_of_images_that_crash() -> None:
    simulation = Simulation(crash={"predict": set("0123")})
    assert rejected(run(simulation, [4, 4])) == dict.fromkeys("0123", "crashed")


IMAGES = st.sets(st.integers(0, 29).map(str), max_size=3)
UPSETS = st.lists(
    st.sampled_from(
        [
            DIED,
            Fault("lost", "no memory"),
            Fault("gone", "no machine"),
            Fault("missing", "its node went"),
            Fault("raised", "disk full", EnvironmentFault("disk full")),
        ]
    ),
    max_size=12,
)


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), max_size=6),
    crash_decode=IMAGES,
    crash_predict=IMAGES,
    hang=IMAGES,
    upsets=UPSETS,
    stuck=IMAGES,
    longest_piece=st.integers(1, 10),
    predictors=st.integers(1, 3),
    file=st.sampled_from([1, PIECE_BYTES // 3, PIECE_BYTES]),
    together=st.integers(0, 4),
    seed=st.integers(0, 1 << 30),
)
def test_whatever_fails_each_shard_is_committed_once_and_the_guilty_alone_rejected(
    sizes: list[int],
    crash_decode: set[str],
    crash_predict: set[str],
    hang: set[str],
    upsets: list[Fault],
    stuck: set[str],
    longest_piece: int,
    predictors: int,
    file: int,
    together: int,
    seed: int,
) -> None:
    simulation = Simulation(
        room_=Room(predictors, 2, 3 * predictors + 2, 20),
        crash={"decode": crash_decode, "predict": crash_predict},
        hang={"predict": hang},
        upsets=list(upsets),
        stuck={"decode": set(stuck), "predict": set(stuck)},
        longest_piece=longest_piece,
        dice=random.Random(seed),
    )
    got = rejected(run(simulation, sizes, file=file, together=together))
    planned = {str(k) for k in range(sum(sizes))}
    guilty = (crash_decode | crash_predict | hang) & planned
    accidents = sum(fault is DIED for fault in upsets)
    assert guilty <= got.keys()
    # A process that dies by itself twice, with the same image alone, looks like a crash.
    assert len(got.keys() - guilty) <= accidents // 2
    for image in guilty - crash_decode - crash_predict:
        assert got[image] == "timeout" or accidents


@given(
    st.lists(st.sampled_from([-1, 0, 1, PIECE_BYTES // 3, PIECE_BYTES, 9 * PIECE_BYTES])),
    st.integers(0, 5),
    st.integers(0, 99),
)
def test_a_shard_is_begun_as_whole_batches_of_enough_bytes(
    files: list[int], together: int, number: int
) -> None:
    images = tuple(Planned(f"{k}", size, 1) for k, size in enumerate(files))
    shard = Shard(7, number * max(1, together), images, together)
    pieces = pieces_of(shard)
    assert [image for piece in pieces for image in piece.images] == list(images)
    for piece in pieces[:-1]:
        held = [max(0, image.size) for image in piece.images]
        assert piece.stop % together == 0
        assert sum(held) >= PIECE_BYTES > sum(held[:-together]), "enough, and no batch too many"


def test_the_pieces_of_a_shard_of_large_files_are_decoded_at_the_same_time() -> None:
    most = 0

    class Watched(Simulation):
        def wait(self, calls: Sequence[Hashable], timeout: float) -> list[tuple[Hashable, Outcome]]:
            nonlocal most
            most = max(most, sum(f.stage == "decode" for f in self.flights.values()))
            return super().wait(calls, timeout)

    run(Watched(room_=Room(1, 4, 5, 1000)), [16], file=PIECE_BYTES, together=4)
    assert most == 4
    most = 0
    run(Watched(room_=Room(1, 4, 5, 1000)), [16], file=1000, together=4)
    assert most == 1, "a task for each batch of small files would cost more than it decodes"


def test_shards_are_taken_as_there_is_room() -> None:
    taken = 0
    ahead = 0
    done: list[Committed] = []

    def source() -> Iterator[Shard]:
        nonlocal taken, ahead
        for shard in shards([8] * 200):
            taken += 1
            ahead = max(ahead, taken - len(done))
            yield shard

    simulation = Simulation(room_=Room(2, 3, 9, 1 << 30))
    Scheduler(simulation, Policy(), done.append).run(source())
    assert len(done) == 200
    assert ahead <= 9


def test_decoded_bytes_are_bounded() -> None:
    largest = 0

    class Watched(Simulation):
        def wait(self, calls: Sequence[Hashable], timeout: float) -> list[tuple[Hashable, Outcome]]:
            nonlocal largest
            flights = [f for f in self.flights.values() if f.stage in ("predict", "write")]
            largest = max(largest, sum(len(f.piece.images) for f in flights if f.piece))
            return super().wait(calls, timeout)

    run(Watched(room_=Room(1, 2, 50, 24)), [8] * 30)
    assert 8 <= largest <= 24
    run(Watched(room_=Room(1, 2, 50, 1)), [8] * 3)  # never less than one piece


def test_an_environment_fault_is_raised_after_its_tries() -> None:
    fault = Fault("raised", "disk full", EnvironmentFault("disk full"))
    with pytest.raises(EnvironmentFault, match="disk full"):
        run(Simulation(upsets=[fault] * 99, upset_rate=1), [8] * 4, Policy(tries=3))


def test_a_batch_that_does_not_fit_a_gpu_is_not_tried_again() -> None:
    full = Fault("raised", "full", DeviceFull("a smaller --batch-size"))
    with pytest.raises(DeviceFull, match="--batch-size"):
        run(Simulation(upsets=[full], upset_rate=1), [8] * 4, Policy())
    with pytest.raises(DeviceFull, match="--batch-size"):
        run(Simulation(loads=[full]), [8] * 4, Policy())


def test_lost_processes_end_the_run_after_their_tries() -> None:
    lost = [Fault("lost", "no memory")] * 99
    with pytest.raises(EnvironmentFault, match="no memory"):
        run(Simulation(upsets=lost, upset_rate=1), [8], Policy(tries=3))


def test_machines_that_leave_do_not_use_up_the_tries() -> None:
    gone = [Fault("gone", "its machine was lost")] * 20
    assert rejected(run(Simulation(upsets=gone, upset_rate=1), [8], Policy(tries=3))) == {}


def test_a_cluster_that_loses_all_its_machines_ends_the_run() -> None:
    gone = [Fault("gone", "its machine was lost")] * 200
    with pytest.raises(EnvironmentFault, match=r"failed 100 times.*why the cluster loses"):
        run(Simulation(upsets=gone, upset_rate=1), [8], Policy(tries=3))


def test_a_bug_is_raised_as_it_is() -> None:
    bug = Fault("raised", "oops", ZeroDivisionError("oops"))
    with pytest.raises(ZeroDivisionError):
        run(Simulation(upsets=[bug] * 100), [8] * 4)


def test_a_load_is_tried_again() -> None:
    simulation = Simulation(loads=[DIED, Fault("lost", "no memory"), DIED])
    assert len(run(simulation, [8])) == 1
    assert simulation.spawned == 4


def test_loads_that_fail_everywhere_end_the_run() -> None:
    room = Room(3, 2, 9, 1000)
    with pytest.raises(EnvironmentFault, match=r"starting to predict ended 4 times.*its process"):
        run(Simulation(room_=room, loads=[DIED] * 1000), [8], Policy(tries=4))
    refused = EnvironmentFault("no bf16 here")
    with pytest.raises(EnvironmentFault, match="no bf16 here"):
        run(Simulation(loads=[Fault("raised", "", refused)] * 1000), [8], Policy(tries=4))


def test_a_bad_weight_file_is_raised_at_once() -> None:
    simulation = Simulation(loads=[Fault("raised", "", InputError("bad weights"))])
    with pytest.raises(InputError, match="bad weights"):
        run(simulation, [8])
    assert simulation.now <= REST


def test_the_run_goes_on_where_one_predictor_of_two_gets_ready() -> None:
    class Half(Simulation):
        def spawn(self, stage: Stage) -> tuple[Hashable, Hashable]:
            if stage == "predict":
                there = any(p.stage == "predict" for p in self.processes.values())
                self.loads = [DIED] if there else []
            return super().spawn(stage)

    simulation = Half(room_=Room(2, 2, 8, 1000), crash={"predict": {"13", "300"}})
    done = run(simulation, [8] * 100, Policy(tries=3))
    assert rejected(done) == {"13": "crashed", "300": "crashed"}


def test_predictors_come_and_go_with_the_cluster() -> None:
    simulation = Simulation()
    seen: set[int] = set()

    def commit(done: Committed) -> None:
        wanted = {30: 3, 60: 1}.get(done.shard)
        if wanted:
            simulation.room_ = Room(wanted, 2, 9, 1000)
        seen.add(sum(p.stage == "predict" for p in simulation.processes.values()))

    Scheduler(simulation, Policy(), commit).run(shards([8] * 100))
    assert seen >= {1, 3}
    assert len(simulation.processes) == 1


def test_a_machine_that_ends_every_process_is_not_the_images_fault() -> None:
    everything = {str(k) for k in range(100)}
    with pytest.raises(EnvironmentFault, match=f"last {VERDICTS} images"):
        run(Simulation(crash={"predict": everything}), [50, 50])


@pytest.mark.parametrize("stage", ["decode", "predict"])
@pytest.mark.parametrize("size", [1, 4, 50])
def test_no_image_stays_rejected_where_the_machine_is_to_blame(stage: Stage, size: int) -> None:
    done: list[Committed] = []
    simulation = Simulation(crash={stage: {str(k) for k in range(20, 100)}})
    scheduler = Scheduler(simulation, Policy(timeout=100), done.append)
    with pytest.raises(EnvironmentFault, match=f"last {VERDICTS} images"):
        scheduler.run(shards([size] * (100 // size)))
    assert rejected(done) == {}
    assert sum(c.images for c in done) <= 20


@pytest.mark.parametrize("stage", ["decode", "predict"])
def test_any_number_is_rejected_where_others_come_through_between(stage: Stage) -> None:
    bad = {str(k) for k in range(0, 12 * VERDICTS, 6)}
    done = run(Simulation(crash={stage: bad}), [1] * 12 * VERDICTS)
    assert rejected(done) == dict.fromkeys(bad, "crashed")


@pytest.mark.parametrize("size", [1, 3, 30])
def test_fewer_at_the_end_are_rejected(size: int) -> None:
    last = {str(k) for k in range(30 - VERDICTS + 1, 30)}
    for stage in ("decode", "predict"):
        done = run(Simulation(crash={stage: last}), [size] * (30 // size))
        assert rejected(done) == dict.fromkeys(last, "crashed")


def test_what_is_wrong_is_said(caplog: pytest.LogCaptureFixture) -> None:
    simulation = Simulation(crash={"predict": {"5"}}, upsets=[Fault("lost", "no memory")])
    Scheduler(simulation, Policy(pause=0.1), lambda _: None).run(shards([8]))
    assert any("no memory" in message for message in caplog.messages)
    assert caplog.messages[-1] == "5: crashed, ended its process, twice, alone, in predict"


def test_a_suspect_shares_its_process_with_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Else those beside it become suspects too: here only the one that waited after it does."""
    run(Simulation(crash={"predict": {"13"}}), [8] * 20)
    tried = {line.split(" ended")[0] for line in caplog.messages if "tried again alone" in line}
    assert len(tried - {"predict of '13'"}) <= QUEUE


def test_what_decoding_notices_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    class Dark(Simulation):
        def decode(self, piece: Shard, limit: float | None, actor: Hashable | None) -> Hashable:
            done = DecodedData(piece.stop, 1, piece, notice=f"{piece.first} is dark")
            return self._work("decode", piece, limit, actor, done)

    run(Dark(), [2] * 9)
    assert [line.split(" ", 1)[1] for line in caplog.messages] == ["is dark"]


def test_the_rejection_names_the_limit() -> None:
    written: list[Rejection] = []

    class Kept(Simulation):
        def commit(self, shard: Shard, pieces: Sequence[Written], seconds: float) -> Hashable:
            written.extend(r for piece in pieces for r in piece.rejections)
            return super().commit(shard, pieces, seconds)

    run(Kept(hang={"decode": {"3"}}), [8], Policy(timeout=20))
    assert written == [Rejection("3", "timeout", "took more than 20 s, twice, alone, to decode")]


@pytest.mark.parametrize("stage", ["decode", "predict"])
def test_what_takes_much_longer_than_its_like_goes_to_another_process_too(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """The first result counts; here the late one comes when all is done, or never."""
    simulation = Simulation(room_=Room(2, 2, 9, 1000), stuck={stage: {"20"}})
    assert rejected(run(simulation, [2] * 40, Policy())) == {}
    assert simulation.now < 200
    assert f"{stage} of '20' to '21' has taken 1" in caplog.messages[0]
    assert "given to another process too" in caplog.messages[0]


def test_the_late_result_is_dropped_where_it_comes() -> None:
    class Late(Simulation):
        def decode(self, piece: Shard, limit: float | None, actor: Hashable | None) -> Hashable:
            key = super().decode(piece, limit, actor)
            if (flight := self.flights[key]).ends > self.now + LONG / 2:
                flight.ends = self.now + 17  # soon after the other one, which ends before 17.5
            return key

    simulation = Late(room_=Room(2, 2, 9, 1000), stuck={"decode": {str(k) for k in range(20, 90)}})
    assert rejected(run(simulation, [2] * 60, Policy())) == {}
    assert simulation.now < 1000


def test_what_is_late_and_fails_is_left_to_the_other_process(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Fails(Simulation):
        def predict(self, data: Any, limit: float | None, actor: Hashable) -> Hashable:
            key = super().predict(data, limit, actor)
            if data.images[0].image_id == "60":  # first it ends after 17 s, then it takes 10
                first = self.flights[key].ends > self.now + LONG / 2
                self.flights[key].ends = self.now + (17 if first else 10)
                self.flights[key].outcome = DIED if first else self.flights[key].outcome
            return key

    simulation = Fails(room_=Room(2, 2, 9, 1000), stuck={"predict": {"60"}})
    assert rejected(run(simulation, [2] * 40, Policy())) == {}
    assert "given to another process too" in caplog.text
    assert "predict of '60' to '61' ended its worker" not in caplog.text


@pytest.mark.parametrize("decoders", [2, 4])
def test_a_store_that_stalls_gets_fewer_decodes_than_twice_its_places(decoders: int) -> None:
    """A late decode is doubled in a free place; overtaken calls hold theirs there."""
    peak = 0

    class Watched(Simulation):
        def decode(self, piece: Shard, limit: float | None, actor: Hashable | None) -> Hashable:
            nonlocal peak
            key = super().decode(piece, limit, actor)
            peak = max(peak, sum(flight.stage == "decode" for flight in self.flights.values()))
            return key

    stalled = {str(k) for k in range(40, 80)}
    simulation = Watched(room_=Room(2, decoders, 50, 1000), stuck={"decode": stalled})
    assert rejected(run(simulation, [2] * 40, Policy())) == {}
    assert decoders <= peak < 2 * decoders


def test_a_late_decode_is_not_doubled_where_its_bytes_have_no_room(
    caplog: pytest.LogCaptureFixture,
) -> None:
    simulation = Simulation(room_=Room(2, 2, 9, 3), stuck={"decode": {"20"}})
    assert rejected(run(simulation, [2] * 40, Policy())) == {}
    assert "decode of '20' to '21' has taken" in caplog.text
    assert "given to another process too" not in caplog.text


def test_what_is_late_everywhere_is_given_to_one_more_process_alone() -> None:
    simulation = Simulation(room_=Room(2, 2, 9, 1000), hang={"predict": {"60"}})
    assert rejected(run(simulation, [2] * 40, Policy(timeout=60))) == {"60": "timeout"}


def test_what_is_late_and_nobody_else_can_do_is_said(caplog: pytest.LogCaptureFixture) -> None:
    run(Simulation(stuck={"predict": {"60"}}), [2] * 40, Policy())
    said = [line for line in caplog.messages if "predict of '60' to '61' has taken" in line]
    assert len(said) == 1
    assert said[0].endswith("it is waited for")


def test_a_process_that_starts_much_longer_than_others_is_replaced_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Slow(Simulation):
        def spawn(self, stage: Stage) -> tuple[Hashable, Hashable]:
            key, call = super().spawn(stage)
            if self.spawned in slow:
                self.flights[call].ends = self.now + slow[self.spawned]
            return key, call

    crash: dict[Stage, set[str]] = {"predict": {"13"}}
    slow = {2: LONG}  # where the one that crashed is replaced
    simulation = Slow(crash=crash)
    assert rejected(run(simulation, [8] * 4)) == {"13": "crashed"}
    assert simulation.now < 200
    assert "another one is started" in caplog.text
    slow = {2: LONG, 3: 300}  # it takes so long here: no more are started in vain
    simulation = Slow(crash=crash)
    assert rejected(run(simulation, [8] * 4)) == {"13": "crashed"}
    assert 300 < simulation.now < 500


def test_how_soon_decoders_start_is_no_measure_of_predictors(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Loads(Simulation):
        def spawn(self, stage: Stage) -> tuple[Hashable, Hashable]:
            key, call = super().spawn(stage)
            if stage == "predict":
                self.flights[call].ends = self.now + 50
            return key, call

    simulation = Loads(crash={"decode": {"3"}})
    assert rejected(run(simulation, [8] * 4)) == {"3": "crashed"}
    assert "another one is started" not in caplog.text


def test_a_decode_that_waits_for_a_processor_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    simulation = Simulation(hang={"decode": {"0"}})
    Scheduler(simulation, Policy(timeout=70), lambda _: None).run(shards([1]))
    assert "decode of '0' waits for a free processor, or still runs" in caplog.messages[0]
