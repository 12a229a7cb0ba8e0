"""``hw1 models fetch``: checkpoints that don't come with hw1."""

from pathlib import Path

import click

from ..models.fetching import SOURCE, fetch, find
from ..models.shipped import read_index
from .options import PathType


@click.command("fetch", short_help="Get a checkpoint that doesn't come with hw1.")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option(
    "--from",
    "source",
    metavar="URL|DIR",
    help=f"The folder that has the files: weights/ of a clone, or its URL.  [default: {SOURCE}]",
)
@click.option(
    "--output", type=PathType, metavar="DIR", help="Put them there, not where hw1 looks for them."
)
def fetch_(names: tuple[str, ...], source: str | None, output: Path | None) -> None:
    """Get checkpoints that don't come with hw1; without NAME, list them.

    Their sizes and SHA-256 are hw1's own, wherever the bytes come from. What was cut goes on where
    it stopped, by the same command.

    \b
      hw1 models fetch
      hw1 models fetch resnet152 --from https://example.org/hw1/weights
      hw1 batch classify photos/ labels.csv --members resnet152
    """
    if not names:
        index = read_index()
        for name, file in index.items():
            click.echo(f"{name:<20}{file.bytes / 1e6:7.1f} MB  {file.sha256[:12]}")
        if not index:
            click.echo("All checkpoints that there are come with this version of hw1.", err=True)
    for wanted in [find(name) for name in names]:
        click.echo(fetch(wanted, source, output, lambda text: click.echo(text, err=True)))
