import pytest

from hw1.execution import placement
from hw1.execution.backend import Room
from hw1.execution.placement import Node, Placement, RayOptions, Resources


def node(name: str, processors: int, gpus: int = 0, store: int = 1 << 30) -> Node:
    resources = {"CPU": float(processors), "GPU": float(gpus), "object_store_memory": float(store)}
    return {"NodeID": name, "Resources": {k: v for k, v in resources.items() if v}}


LAPTOP = [node("a", 8)]
CLUSTER = [node("head", 0), node("a", 8, 2), node("b", 4, 1)]


def test_resources() -> None:
    assert Placement(RayOptions(), lambda: CLUSTER).resources() == Resources(2, 12, 3, 4, 2 << 30)


@pytest.mark.parametrize(
    ("options", "nodes", "predictors", "threads", "gpus"),
    [
        (RayOptions(), LAPTOP, 1, 8, 0.0),
        (RayOptions(actors=2), LAPTOP, 2, 4, 0.0),
        (RayOptions(actors=20), LAPTOP, 20, 1, 0.0),
        (RayOptions(actors=2, threads=3), LAPTOP, 2, 3, 0.0),
        (RayOptions(), CLUSTER, 2, 4, 0.0),
        (RayOptions(device="cuda"), CLUSTER, 3, 2, 1.0),
        (RayOptions(device="cuda", actors=1), CLUSTER, 1, 4, 1.0),
        (RayOptions(device="cuda", actors=9), CLUSTER, 9, 1, 0.3333),
        (RayOptions(device="cuda", actors=4), CLUSTER, 4, 2, 0.5),
        (RayOptions(device="cuda"), LAPTOP, 1, 8, 1.0),
    ],
)
def test_processes(
    options: RayOptions, nodes: list[Node], predictors: int, threads: int, gpus: float
) -> None:
    planned = Placement(options, lambda: nodes)
    assert planned.room().predictors == predictors
    assert planned.threads() == threads
    assert planned.gpus() == gpus


def test_room() -> None:
    assert Placement(RayOptions(), lambda: LAPTOP).room() == Room(1, 8, 11, 1 << 29)
    assert Placement(RayOptions(), list).room() == Room(1, 1, 4, 1)


def test_a_process_goes_where_the_fewest_are() -> None:
    planned = Placement(RayOptions(), lambda: CLUSTER)
    assert planned.home([]) == "a"
    assert planned.home(["a", None]) == "b"
    assert planned.home(["a", "b", "b"]) == "a"
    assert Placement(RayOptions(), list).home([]) is None


def test_a_machine_where_a_start_failed_comes_last_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    planned = Placement(RayOptions(), lambda: CLUSTER)
    planned.avoid("a")
    assert planned.home(["b", "b"]) == "b"
    planned.avoid("b")
    assert planned.home(["a", "b", "b"]) == "a"
    now = 61.0
    assert planned.home(["b"]) == "a"


def test_no_task_goes_to_a_machine_that_left_while_there_are_others() -> None:
    planned = Placement(RayOptions(), lambda: CLUSTER)
    assert planned.spread([]) == "a"
    planned.avoid("a")
    assert planned.spread(["b"] * 9) == "b"
    planned.avoid("b")
    assert planned.spread([]) == "a"


def test_what_comes_is_seen_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = list(LAPTOP)
    planned = Placement(RayOptions(), lambda: nodes)
    assert planned.room().predictors == 1
    nodes.append(node("b", 8))
    assert planned.room().predictors == 1
    monkeypatch.setattr(placement, "LOOK", -1.0)
    assert planned.room().predictors == 2
