"""Faults that end processes: kills, signals, Ray's parts, two drivers."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from table import BOTH, at_commit, fault, step_on_disk, wipe
from world import World


def kills_at(world: World, steps: Iterable[int]) -> None:
    wanted = world.fresh()
    for step in steps:
        assert world.run(before=step_on_disk(step)).code == -signal.SIGKILL, f"step {step}"
        world.finish()
        assert world.results() == wanted, f"killed at step {step}"
        wipe(world)


def steps_of(world: World) -> int:
    world.fresh()  # what the cache is given at first isn't a step of the job
    seen = world.folder / "steps"
    assert world.run(before=step_on_disk(-1, seen)).code == 0
    wipe(world)
    return int(seen.read_text())


def every_eighth_step(first: int) -> Callable[[World, random.Random], None]:
    return lambda world, dice: kills_at(world, range(first, steps_of(world) + 1, 8))


for _first in range(1, 9):  # all steps, in rows that take a minute or two each
    fault("kill -9", f"at every eighth step on the disk, from step {_first}", BOTH, count=9)(
        every_eighth_step(_first)
    )


@fault("kill -9", "at three seeded steps", BOTH, count=9, quick="segment")
def some_steps(world: World, dice: random.Random) -> None:
    kills_at(world, dice.sample(range(1, steps_of(world) + 1), 3))


def at_random(world: World, dice: random.Random, kill: Callable[[int], None], most: int) -> None:
    """Kill the same job again and again, each time somewhere on its way."""
    wanted = world.fresh()
    for _ in range(most):
        child = world.begin()
        with contextlib.suppress(AssertionError):
            world.until(dice.randint(0, world.count // 4), 3)
        time.sleep(dice.uniform(0, 0.2))
        kill(child)
        if world.end(child).code == 0:
            break
        world.kill()
    world.finish()
    assert world.results() == wanted


@fault("kill -9", "ten in a row, at random moments", BOTH, count=120)
def random_kills(world: World, dice: random.Random) -> None:
    at_random(world, dice, lambda child: os.kill(child, signal.SIGKILL), 10)


@fault("kill -9", "of all processes, five in a row, under Ray", BOTH, engine="ray", count=240)
def random_kills_ray(world: World, dice: random.Random) -> None:
    at_random(world, dice, lambda child: world.kill() and None, 5)


def signalled(world: World, number: int, code: int, *, group: bool = False) -> None:
    wanted = world.fresh()
    child = world.begin()
    world.until(2)
    (os.killpg if group else os.kill)(child, number)
    ended = world.end(child)
    assert ended.code == code, f"exit {ended.code}: {ended.errors[-300:]}"
    assert ended.is_clean, ended.errors[-500:]
    assert not world.leftovers(), "processes are left"
    world.finish()
    assert world.results() == wanted


@fault("signal", "SIGTERM", BOTH, count=200, quick="classify")
def terminate(world: World, dice: random.Random) -> None:
    signalled(world, signal.SIGTERM, 130)


@fault("signal", "SIGINT", BOTH, count=200)
def interrupt(world: World, dice: random.Random) -> None:
    signalled(world, signal.SIGINT, 130)


@fault("signal", "SIGHUP", BOTH, count=200)
def hang_up(world: World, dice: random.Random) -> None:
    signalled(world, signal.SIGHUP, 130)


@fault("signal", "SIGHUP to all of its processes, under Ray", engine="ray", count=240)
def hang_up_all(world: World, dice: random.Random) -> None:
    signalled(world, signal.SIGHUP, 130, group=True)


@fault("signal", "SIGTERM to all of its processes, under Ray", engine="ray", count=240)
def terminate_all(world: World, dice: random.Random) -> None:
    signalled(world, signal.SIGTERM, 130, group=True)


@fault("signal", "SIGINT under Ray", BOTH, engine="ray", count=240)
def interrupt_ray(world: World, dice: random.Random) -> None:
    signalled(world, signal.SIGINT, 130)


@fault("signal", "SIGSTOP for 3 s, then SIGCONT, under Ray", engine="ray", count=240)
def paused(world: World, dice: random.Random) -> None:
    wanted = world.fresh()
    child = world.begin()
    world.until(2)
    world.kill(number=signal.SIGSTOP)
    time.sleep(3)
    world.kill(number=signal.SIGCONT)
    assert world.end(child).code == 0
    assert world.results() == wanted


def ray_part(world: World, *names: str, codes: tuple[int, ...] = (0,)) -> None:
    wanted = world.fresh()
    child = world.begin()
    world.until(2)
    assert world.kill(*names), f"no process {names} was found"
    ended = world.end(child)
    assert ended.code in codes, f"exit {ended.code}: {ended.errors[-400:]}"
    assert ended.is_clean, ended.errors[-500:]
    assert not world.leftovers(), "processes are left"
    world.finish()
    assert world.results() == wanted


@fault("Ray", "the predictor is killed", BOTH, engine="ray", count=240)
def kill_predictor(world: World, dice: random.Random) -> None:
    ray_part(world, "ray::_Process")


@fault("Ray", "a process that decodes or writes is killed", BOTH, engine="ray", count=240)
def kill_worker(world: World, dice: random.Random) -> None:
    ray_part(world, "ray::decode", "ray::write", "ray::IDLE")


@fault("Ray", "the raylet is killed", engine="ray", count=240)
def kill_raylet(world: World, dice: random.Random) -> None:
    ray_part(world, "raylet/raylet", codes=(0, 4))


@fault("Ray", "the GCS is killed", engine="ray", count=240)
def kill_gcs(world: World, dice: random.Random) -> None:
    ray_part(world, "gcs_server", codes=(0, 4))


@fault("Ray", "its agents are killed", engine="ray", count=240)
def kill_agents(world: World, dice: random.Random) -> None:
    ray_part(world, "agent.py", "runtime_env/agent", "dashboard/agent", codes=(0, 4))


@fault("two drivers", "the same command twice at once", BOTH, quick="segment")
def twice(world: World, dice: random.Random) -> None:
    wanted = world.fresh()
    go = world.folder / "go"

    def wait() -> None:
        while not go.exists():
            time.sleep(0.01)

    child = world.begin(before=at_commit(1, wait))
    world.until(1)
    second = world.run()
    go.touch()
    assert second.code == 5, f"exit {second.code}: {second.errors[-300:]}"
    assert world.end(child).code == 0
    assert world.results() == wanted


@fault("two drivers", "another job of the same output", BOTH)
def other_job(world: World, dice: random.Random) -> None:
    wanted = world.fresh()
    assert world.run().code == 0
    assert world.run("--exclude", "*.jpg").code == 5
    assert world.results() == wanted
    world.verify()


# On a cluster of several nodes, or with an image that ends its process: the tests do that already.

TESTED = {
    "cluster: a node is lost, another comes": "test_cluster.py::test_nodes_come_and_go",
    "cluster: the head is lost": "test_cluster.py::test_the_end_of_the_head",
    "cluster: a machine with another Pillow": "test_cluster.py::test_an_unlike_machine",
    "sick images: they end their processes": "test_ray_engine.py::test_the_images_that_end",
    "sick machine: it ends every process": "test_scheduler.py::test_a_machine_that_ends_every",
}


def tested(name: str) -> Callable[[World, random.Random], None]:
    def inject(world: World, dice: random.Random) -> None:
        file, _, test = name.partition("::")
        path = Path(__file__).parents[1] / "execution" / file
        command = [sys.executable, "-m", "pytest", "-q", str(path), "-k", test]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-400:]

    return inject


for _words, _test in TESTED.items():
    _group, _, _name = _words.partition(": ")
    fault(_group, _name, engine="a test", count=1)(tested(_test))
