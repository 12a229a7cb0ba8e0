"""``hw1 models``: the members, their checkpoints, one member's architecture; old ones imported."""

import functools
import json
from dataclasses import asdict
from pathlib import Path

import click

from ..core.errors import InputError
from ..models.catalogue import (
    Entry,
    architecture,
    describe,
    describe_file,
    ensemble_fault,
    ensembles,
    entries,
    entry,
)
from ..models.checkpoints import Checkpoint, read_checkpoint
from ..models.ensemble import is_file_name
from ..models.members import MEMBERS, nearest
from ..models.store import Store
from . import options
from .model_check import check
from .model_fetch import fetch_
from .model_import import import_
from .model_quantise import quantise

_NAMES_SHOWN = 10
_HEADLINES = ("accuracy", "miou")  # the scores to show where a checkpoint has many

_as_json = click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")


class _Members(click.Group):
    """A group in which each member's name is a command too."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The members, in the order of their table, and the other commands."""
        return [*MEMBERS, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A member's command is made when asked for. Raises InputError with the nearest name."""
        if cmd_name in MEMBERS:
            return _member_command(cmd_name)
        if is_file_name(cmd_name) or Path(cmd_name).is_file():
            return _file_command(Path(cmd_name))
        command = super().get_command(ctx, cmd_name)
        if command is not None or ctx.resilient_parsing:  # the latter: shell completion
            return command
        raise InputError(f"no member {cmd_name!r}: {nearest(cmd_name, self.list_commands(ctx))}")


@click.group(
    "models",
    cls=_Members,
    invoke_without_command=True,
    subcommand_metavar="[NAME | import ... | check ... | quantise ... | fetch ...]",
)
@options.WEIGHTS
@_as_json
@click.pass_context
def models(context: click.Context, weights: Path | None, as_json: bool) -> None:
    """List the members with their checkpoints, and other files in the folder; or show one.

    \b
    hw1 models                          all members
    hw1 models vgg16                    its architecture and checkpoint
    hw1 models --weights DIR            the checkpoints of another folder
    hw1 models my.safetensors           what a file holds
    hw1 models quantise vgg16 --images photos/
    hw1 models import best.pth my.safetensors --arch torchvision:resnet50
    hw1 models check my.safetensors --images photos/
    hw1 models fetch                    those that don't come with hw1
    """
    if context.invoked_subcommand is not None:
        return
    store = Store.at(weights)
    rows = entries(store)
    if any(row.member is None for row in rows):  # a folder of other networks: presets it has alone
        rows = [row for row in rows if row.member is None or row.checkpoint or row.fault]
    found = ensembles(store)
    if as_json:
        content = {
            "folder": str(store.folder),
            "fault": ensemble_fault(store),
            "members": [row.to_json() for row in rows],
            "ensembles": {name: asdict(ensemble) for name, ensemble in found.items()},
        }
        click.echo(json.dumps(content, indent=2))
        return
    _print_table(rows)
    for name, ensemble in found.items() if len(found) > 1 else ():  # of one the table says all
        votes = zip(ensemble.members, ensemble.vote_weights, strict=True)
        click.echo(f"--ensemble {name}: {', '.join(f'{m} {weight:g}' for m, weight in votes)}")
    for fault in (*(row.fault for row in rows), ensemble_fault(store)):
        if fault:
            click.echo(fault, err=True)
    if not any(row.checkpoint for row in rows):
        click.echo(f"No checkpoint in {store.folder}: name a folder with --weights DIR", err=True)


models.add_command(import_)
models.add_command(check)
models.add_command(fetch_)
models.add_command(quantise)


def _file_command(path: Path) -> click.Command:
    """``hw1 models FILE``."""

    @click.command(path.name)
    @_as_json
    @click.pass_context
    def show(context: click.Context, as_json: bool) -> None:
        """Show what a checkpoint's file holds."""
        above = context.parent.params if context.parent else {}
        found = read_checkpoint(path)
        if as_json or above.get("as_json"):
            click.echo(json.dumps(describe_file(found), indent=2, ensure_ascii=False))
            return
        for key, value in [("architecture", found.architecture), *_checkpoint_facts(found)]:
            click.echo(f"{key:<14}{value}")

    return show


@functools.cache  # the same one each time: its options are given the names of their variables
def _member_command(name: str) -> click.Command:
    """``hw1 models NAME``."""
    member = MEMBERS[name]
    short = f"{member.classes} classes, {member.parameters:,} parameters"

    @click.command(name, short_help=short)
    @options.WEIGHTS
    @_as_json
    @click.pass_context
    def show(context: click.Context, weights: Path | None, as_json: bool) -> None:
        """Show a member's architecture and checkpoint."""
        above = context.parent.params if context.parent else {}
        row = entry(Store.at(weights or above.get("weights")), name)
        layers = architecture(name)
        if as_json or above.get("as_json"):
            click.echo(json.dumps({**row.to_json(), "architecture": layers}, indent=2))
            return
        click.echo(layers)
        click.echo()
        for key, value in _facts(row):
            click.echo(f"{key:<14}{value}")

    return show


def _facts(row: Entry) -> list[tuple[str, str]]:
    member, checkpoint = MEMBERS[row.name], row.checkpoint
    facts = [("member", member.name), ("parameters", f"{member.parameters:,}")]
    if checkpoint is None:
        classes = ("classes", str(member.classes))
        return [*facts, classes, ("checkpoint", row.fault or "missing")]
    return [*facts, *_checkpoint_facts(checkpoint)]


def _checkpoint_facts(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    classes = checkpoint.classes
    more = ", …" if len(classes) > _NAMES_SHOWN else ""
    facts = [
        ("classes", f"{len(classes)}: {', '.join(classes.names[:_NAMES_SHOWN])}{more}"),
        ("checkpoint", str(checkpoint.path)),
        ("SHA-256", checkpoint.digest),
        ("size", _size(checkpoint.bytes)),
        ("input", describe(checkpoint.preprocessing)),
        ("score", _scores(checkpoint)),
    ]
    return [*facts, *(("recipe", text) for text in [checkpoint.metadata.get("recipe")] if text)]


def _print_table(rows: list[Entry]) -> None:
    from .tables import print_table

    columns = ("member", "checkpoint", "digest", "size", "parameters", "weight", "score")
    cells = [
        (
            row.name,
            _held(row),
            row.checkpoint.digest[:12] if row.checkpoint else "",
            _size(row.checkpoint.bytes) if row.checkpoint else "",
            f"{row.member.parameters:,}" if row.member else "",
            f"{row.weight:g}" if row.weight else "",
            _scores(row.checkpoint),
        )
        for row in rows
    ]
    dim = [row.checkpoint is None for row in rows]
    print_table(columns, cells, left=("checkpoint", "digest", "score"), dim=dim)


def _held(row: Entry) -> str:
    """The file's name; of a file that isn't a preset's, whose name is known, its architecture."""
    if row.checkpoint is None:
        return "damaged" if row.fault else "missing"
    return row.checkpoint.path.name if row.member else row.checkpoint.architecture


def _scores(checkpoint: Checkpoint | None) -> str:
    scores = checkpoint.scores if checkpoint else {}
    scores = {name: scores[name] for name in _HEADLINES if name in scores} or scores
    return ", ".join(f"{name} {value:.4f}" for name, value in scores.items())


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
