"""What hw1 claims about speed and memory, measured: `make bench`.

    python bench/run.py [--quick] [--only NAME …] [--runs N]

Contestants take turns in one invocation, each run a process of its own, timed as a whole command;
medians are compared. Prints a table, writes build/bench/results.json. --quick shows that the bench
works; its figures mean nothing.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import costs
import machine
import races
import rates
from measure import BUILD, Figure, console
from rich.console import Console
from rich.table import Table
from sizes import FULL, QUICK, Sizes

BENCHES: dict[str, Callable[[Sizes], list[Figure]]] = {
    "classify-40": races.classify_40,
    "shipped": races.shipped,
    "photos-224": races.photos_224,
    "segment-512": races.segment_512,
    "draft": races.draft,
    "memory": costs.memory,
    "large-image": costs.large_image,
    "planning": costs.planning,
    "help": costs.help_text,
    "start": costs.start_of_job,
    "flow": rates.flow,
    "real-flow": rates.real_flow,
}
"""Each measures one of hw1's claims, and returns its figures."""


def _show(figures: list[Figure], described: dict[str, Any]) -> None:
    bf16 = "with" if machine.has_bf16(described) else "without"
    title = f"{described['cpu']}, {described['cores']} cores, {bf16} native bf16"
    table = Table(title=f"{title}, {described['gpu']}" if described["gpu"] else title)
    for column in ("bench", "what", "median", "runs", "asked", ""):
        table.add_column(column, justify="right" if column == "median" else "left")
    for figure in figures:
        mark = {True: "[green]met[/]", False: "[red]missed[/]", None: ""}[figure.met]
        runs = ", ".join(f"{run:.3g}" for run in figure.runs)
        value = f"{figure.value:.4g} {figure.unit}"
        table.add_row(figure.bench, figure.what, value, runs, figure.asked, mark)
    output = Console()
    # In a file there is no edge to wrap at.
    output = output if output.is_terminal else Console(width=120)
    output.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does the bench work?")
    parser.add_argument("--only", action="append", choices=list(BENCHES), help="this one alone")
    parser.add_argument("--runs", type=int, help="runs of each contestant")
    args = parser.parse_args()
    sizes = QUICK if args.quick else FULL
    if args.runs:
        sizes = replace(sizes, runs=args.runs)
    BUILD.mkdir(parents=True, exist_ok=True)
    described = machine.describe()
    if (load := machine.load()) > 0.5:
        console.print(f"the machine is busy (load {load:.1f}): figures will be off", style="yellow")
    figures: list[Figure] = []
    for name in args.only or BENCHES:
        console.print(name, style="bold")
        figures += BENCHES[name](sizes)
    _show(figures, described)
    results = {
        "quick": args.quick,
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "load": load,
        "machine": described,
        "figures": [asdict(figure) for figure in figures],
    }
    (BUILD / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    console.print(f"written: {BUILD / 'results.json'}")


if __name__ == "__main__":
    main()
