"""What several commands' options have in common: types, and options with one meaning everywhere."""

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

Function = Callable[..., Any]
Decorator = Callable[[Function], Function]
PathType = click.Path(path_type=Path)


class Names(click.ParamType[tuple[str, ...]]):
    """Names with commas between them."""

    name = "A,B,…"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Split, dropping blanks around the names."""
        if isinstance(value, tuple):
            return value
        names = tuple(name.strip() for name in str(value).split(",") if name.strip())
        if not names:
            self.fail("expected names with commas between them, found none", param, ctx)
        return names


class Bands(click.ParamType[tuple[int, int, int]]):
    """Three numbers of bands, from 1, with commas between them."""

    name = "R,G,B"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int, int]:
        """The numbers."""
        parts = value if isinstance(value, tuple) else str(value).split(",")
        try:
            red, green, blue = (int(part) for part in parts)
        except ValueError:
            self.fail(f"expected three bands, as in 4,3,2, found {value!r}", param, ctx)
        if min(red, green, blue) < 1:
            self.fail(f"bands are counted from 1, found {value!r}", param, ctx)
        return red, green, blue


class Levels(click.ParamType[tuple[float, float]]):
    """Two levels, the second above the first, with a comma between them."""

    name = "MIN,MAX"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float]:
        """The levels."""
        parts = value if isinstance(value, tuple) else str(value).split(",")
        try:
            least, most = (float(part) for part in parts)
        except ValueError:
            self.fail(f"expected two levels, as in 0,2047, found {value!r}", param, ctx)
        if not (math.isfinite(least) and math.isfinite(most) and least < most):
            self.fail(f"expected a level and a higher one, found {value!r}", param, ctx)
        return least, most


class FiniteRange(click.FloatRange):
    """A range of numbers; click's own takes nan in each, and inf in those without an end."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"expected a finite number, found {value!r}", param, ctx)
        return number


class FileType(click.Path):
    """The path of a file to write, as a Path: which forgets a slash at its end.

    ``suffix``: what its name has to end in.
    """

    def __init__(self, suffix: str = "") -> None:
        super().__init__(path_type=Path)
        self.suffix = suffix

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; fails for a folder's name."""
        if str(value).endswith("/"):
            self.fail(f"expected a file's name, found a folder's: {value}", param, ctx)
        if not str(value).lower().endswith(self.suffix):
            self.fail(f"{value}: expected a name that ends in {self.suffix}", param, ctx)
        return super().convert(value, param, ctx)


class OneSource(click.Command):
    """A command that takes IN and an output, and says so where a shell gave a glob's files."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Raise UsageError, with the way out, for more than the two."""
        ctx.allow_extra_args = True
        super().parse_args(ctx, args)
        if ctx.args and not ctx.resilient_parsing:  # the latter: shell completion
            names = [p.metavar or "" for p in self.params if isinstance(p, click.Argument)]
            ctx.fail(
                f"expected {' and '.join(names)}, found {len(names) + len(ctx.args)} arguments: "
                "quote a glob, as in 'photos/*.jpg', and hw1 finds its files"
            )
        return ctx.args


def name_variables(command: click.Command, context: click.Context) -> None:
    """Name the environment variable of each option after the option.

    click's own is of the parameter, whose name may be another: ``--json`` is ``as_json``.
    ``context`` is of the group that the command belongs to. The commands below are done too.
    """
    below = click.Context(command, info_name=command.name, parent=context)
    for option in command.params:
        if isinstance(option, click.Option):
            name = max(option.opts, key=len).lstrip("-").replace("-", "_").upper()
            option.envvar = f"{below.auto_envvar_prefix}_{name}"
    if isinstance(command, click.Group):
        for name in command.list_commands(below):
            if found := command.get_command(below, name):
                name_variables(found, below)


@contextmanager
def resumable(*, overwrite: bool) -> Iterator[None]:
    """Where an interrupt ends the context, say how what was done in it goes on, and exit."""
    try:
        yield
    except KeyboardInterrupt:
        how = "the same command goes on from here"
        if overwrite:  # what is there may be the earlier one yet: it goes when the new one begins
            how = "without --overwrite the same command goes on from what is there"
        click.echo(f"hw1: interrupted; {how}", err=True)
        click.get_current_context().exit(130)


def decorate(function: Function, *decorators: Decorator) -> Function:
    """The function under the decorators, as if they stood above it in this order."""
    return functools.reduce(lambda done, each: each(done), reversed(decorators), function)


def device(text: str) -> Decorator:
    """``--device``, with the text of its help."""
    return click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda"]),
        default="auto",
        show_default=True,
        help=text,
    )


_FLOATS = ["auto", "fp32", "bf16", "fp16"]
TRAIN_PRECISION = click.option(
    "--precision",
    type=click.Choice(_FLOATS),
    default="auto",
    show_default=True,
    help="Of the arithmetic; auto: the fastest that the device has.",
)
PRECISION = click.option(
    "--precision",
    type=click.Choice([*_FLOATS, "int8"]),
    default="auto",
    show_default=True,
    help="Of the models' arithmetic; auto: the fastest of floats that the device has; int8: on a "
    "CPU, with some loss of accuracy (see docs/int8.md).",
)
BACKEND = click.option(
    "--backend",
    type=click.Choice(["auto", "torch", "openvino"]),
    default="auto",
    show_default=True,
    help="What runs the models; auto: torch, but for int8. openvino: on a CPU.",
)
WEIGHTS = click.option(
    "--weights",
    type=PathType,
    metavar="DIR",
    help="A folder with checkpoints.  [default: those that hw1 ships]",
)
INCLUDE = click.option(
    "--include", multiple=True, metavar="GLOB", help="Only images that match. May be repeated."
)
EXCLUDE = click.option(
    "--exclude", multiple=True, metavar="GLOB", help="No images that match. May be repeated."
)
