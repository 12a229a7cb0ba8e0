"""``hw1 jobs``: what jobs ran, how far they are, and whether a result is whole."""

import json
from pathlib import Path

import click

from ..core.text import printable, shown
from .options import PathType


@click.group()
def jobs() -> None:
    """List jobs, show how far they are, verify their results."""


@jobs.command("list")
@click.argument("folder", metavar="[DIR]", type=PathType, default=".")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_jobs(folder: Path, as_json: bool) -> None:
    """List the jobs in DIR, by default the current folder, and in the folders below it."""
    from ..jobs.inspect import find_jobs

    views = find_jobs(folder)
    if as_json:
        click.echo(json.dumps([view.as_dict() for view in views]))
        return
    from .tables import print_line, print_table

    if not views:
        print_line(f"no jobs in {folder}")
        return
    here = Path.cwd()
    rows = [
        (
            str(view.output.relative_to(here) if view.output.is_relative_to(here) else view.output),
            about["task"],
            view.state,
            f"{view.done}/{view.planned}",
            str(view.rejected),
            about["began"][:16].replace("T", " "),
        )
        for view in views
        for about in [view.as_dict()]
    ]
    columns = ("output", "task", "state", "images", "rejected", "began (UTC)")
    print_table(columns, rows, left=("task", "state"))


@jobs.command()
@click.argument("path", metavar="OUT", type=PathType)
@click.option("--json", "as_json", is_flag=True, help="Print job.json with the ledger's counts.")
def show(path: Path, as_json: bool) -> None:
    """Show one job: what was asked, how far it is, what decides its result."""
    from ..jobs.inspect import job_of, view
    from .report import command_line

    job = view(job_of(path))
    record = job.record
    assert record is not None  # view raises where there is none
    if as_json:
        click.echo(json.dumps({**record.as_dict(), **job.as_dict()}))
        return
    lines = {
        "command": command_line(record.command),
        "output": str(job.output),
        "state": job.state,
        "images": f"{job.done} of {job.planned} done, {job.rejected} rejected",
        "began": f"{record.began} on {record.host}, last change {record.updated}",
        "members": ", ".join(record.identity["members"]),
        "profile": ", ".join(f"{k} {v}" for k, v in record.identity["profile"].items()),
        "fingerprint": record.fingerprint,
        "job folder": str(job.path),
    }
    if job.error:
        lines["error"] = job.error
    width = max(map(len, lines))
    click.echo(printable("\n".join(f"{name:<{width}}  {text}" for name, text in lines.items())))


@jobs.command()
@click.argument("path", metavar="OUT", type=PathType)
@click.option(
    "--sample",
    "count",
    type=click.IntRange(1),
    metavar="N",
    help="Score N random images again too, and say what that proves.",
)
@click.option("--seed", default=0, show_default=True, help="Which images --sample draws.")
@click.option(
    "--weights",
    type=PathType,
    metavar="DIR|FILE",
    help="Where --sample finds the checkpoints that scored.  [default: those that hw1 ships]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the differences as a JSON array.")
def verify(path: Path, count: int | None, seed: int, weights: Path | None, as_json: bool) -> None:
    """Check a result against its ledger: is it complete, and unchanged?

    Exits with 0 if it is, with 1 and a line for each difference if not. With --sample a row or
    mask that scores otherwise now is a difference too; IN, the checkpoints and the machine must be
    as they were. It takes a forward pass of a whole batch for each image.
    """
    from ..jobs.inspect import job_of, verify

    job = job_of(path)
    problems = verify(job)
    said = [] if problems else [f"{path}: whole, and as it was written"]
    if count is not None and not problems:
        from ..jobs.sample import sample

        sampled = sample(job, count, seed, weights)
        problems += [f"{shown(name)}: scores otherwise now" for name in sampled.differ]
        said = [*([] if problems else said), f"scored again: {sampled.text()}"]
    if as_json:
        click.echo(json.dumps(problems))
        if count is not None and said:
            click.echo(printable(said[-1]), err=True)
    else:
        click.echo(printable("\n".join([*problems, *said])))
    click.get_current_context().exit(1 if problems else 0)
