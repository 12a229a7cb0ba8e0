"""What a job says at its end: a few lines for a person, or JSON for a program. On stdout."""

import json
import shlex
from typing import Any

import click

from ..core.text import printable
from ..jobs.dry_run import DryRun
from ..jobs.job import Summary
from ..pipeline.find import counted


def print_summary(summary: Summary, *, as_json: bool) -> None:
    """Say what was done, where it is, and what to do about rejected images."""
    if as_json:
        click.echo(json.dumps(_summary(summary)))
        return
    fresh = summary.planned - summary.resumed
    rate = fresh / summary.seconds if summary.seconds else 0.0
    lines = [
        f"{summary.output}: {summary.scored} of {summary.planned} images scored, "
        f"{summary.rejected} rejected"
    ]
    if summary.resumed:
        lines.append(f"  {summary.resumed} of them were done before, {fresh} now")
    if fresh:
        lines.append(f"  {summary.seconds:.1f} s, {rate:.1f} images/s")
    if summary.flow and summary.flow.text:
        lines.append(f"  {summary.flow.text}")
    if summary.early is not None:
        lines.append(f"  decided by the first member alone: {100 * summary.early:.1f} %")
    if summary.ignored:
        files = "files" if summary.ignored > 1 else "file"
        formats = counted(summary.ignored_formats)  # unknown of jobs begun earlier
        lines.append(f"  ignored {summary.ignored} {files}" + (f": {formats}" if formats else ""))
    if summary.rejected:
        reasons = ", ".join(f"{count} {reason}" for reason, count in summary.reasons.most_common())
        lines += [
            f"  rejected: {reasons}",
            f"  which and why: {summary.job / 'rejected.csv'}; repair them and give the same "
            "command with --update, or --retry-rejected where they were not at fault",
        ]
    click.echo(printable("\n".join(lines)))


def print_dry_run(plan: DryRun, *, as_json: bool) -> None:
    """Say what a job would do."""
    if as_json:
        click.echo(json.dumps(plan.as_dict()))
        return
    ignored = str(plan.ignored)
    if plan.ignored_formats:
        ignored += f" ({_counts(plan.ignored_formats)})"
    rows = {
        "images": f"{plan.images} ({_counts(plan.formats)})",
        "ignored files": ignored,
        "shards": f"{plan.shards} of {plan.shard_size} images",
        "members": ", ".join(plan.members),
        "device": f"{plan.device} ({plan.device_model}), {plan.precision}",
        "batches": f"of {plan.batch_size}, {plan.threads} threads an actor",
        "output": f"{plan.output} ({plan.state})",
        "estimated time": f"{_seconds(plan)}, from {plan.sample}",
    }
    if plan.since:
        rows["since the plan"] = plan.since
    width = max(map(len, rows))
    click.echo(printable("\n".join(f"{name:<{width}}  {text}" for name, text in rows.items())))
    for problem in plan.problems:
        click.echo(printable(f"hw1: {problem}"), err=True)


def _seconds(plan: DryRun) -> str:
    if plan.least is None:
        return f"{plan.seconds:.0f} s"
    return (
        f"{plan.least:.0f} s where the first member decides all alone, {plan.seconds:.0f} s where "
        "it decides none"
    )


def command_line(arguments: list[str]) -> str:
    """A recorded command as a person would type it."""
    return shlex.join(["hw1", *arguments[1:]])


def _counts(formats: dict[str, int]) -> str:
    ranked = sorted(formats.items(), key=lambda item: -item[1])
    return ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in ranked)


def _summary(summary: Summary) -> dict[str, Any]:
    return {
        "task": summary.task,
        "output": str(summary.output),
        "job": str(summary.job),
        "planned": summary.planned,
        "scored": summary.scored,
        "rejected": summary.rejected,
        "reasons": dict(summary.reasons),
        "ignored": summary.ignored,
        "ignored_formats": dict(summary.ignored_formats),
        "resumed": summary.resumed,
        "new": summary.new,
        "changed": summary.changed,
        "gone": summary.gone,
        "seconds": round(summary.seconds, 3),
        "bound": (summary.flow and summary.flow.bound) or None,
        **({} if summary.early is None else {"early": round(summary.early, 6)}),
    }
