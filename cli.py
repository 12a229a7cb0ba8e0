"""hw1's command line: words into a spec, one call, an exit code. No logic."""

import errno
import importlib
import io
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

from . import __version__
from .commands.options import name_variables
from .core.errors import EnvironmentFault, Hw1Error, InputError
from .core.text import printable

# Loaded when called for, so that `hw1 --help` never waits for torch or Ray.
_COMMANDS = {
    "batch": "Score a folder of images: classify, segment, or plan it.",
    "evaluate": "Measure how good a result is, given the truth.",
    "plot": "Draw t-SNE plots, learning curves, and masks side by side.",
    "train": "Train a classifier or a segmenter; fit the ensemble's vote weights.",
    "models": "List the models, show one, import checkpoints.",
    "jobs": "List jobs, show how far they are, verify their results.",
}

# What is wrong with a path that a person gave, whatever is done with it first, and what to do.
_BAD_PATHS = {
    errno.EACCES: "give another path, or have that one's permissions changed",
    errno.EPERM: "give another path, or have that one's permissions changed",
    errno.ENAMETOOLONG: "give a shorter one",
}

INTERRUPTED = 130
UNREAD = 141
"""As a shell calls a program that SIGPIPE ended: what it had to say, an answer too, wasn't read."""

_FULL = {errno.ENOSPC, errno.EDQUOT}
_MAKE_ROOM = "make room, and give the same command again"


class LazyGroup(click.Group):
    """The commands of ``_COMMANDS``, each a group of the same name in ``hw1.commands``.

    The one place where errors for the user become a line and an exit code.
    """

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run as a program, or, where arguments are given, within one."""
        if args or "args" in extra:
            return super().main(*args, **extra)
        _open_streams()
        _take_names_as_utf_8()
        try:
            return super().main(**extra)
        except SystemExit as end:
            if end.code == INTERRUPTED:  # by a second Ctrl-C torch would print
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    signal.signal(number, signal.SIG_IGN)
            raise

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of the table."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module."""
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f".commands.{cmd_name}", __package__)
        command: click.Command = getattr(module, cmd_name)
        name_variables(command, ctx)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Where there is no such command, say in which group it is, or what is named nearly so."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            groups = ((name, self.get_command(ctx, name)) for name in _COMMANDS)
            meant = [
                f"hw1 {name} {args[0]}"
                for name, group in groups
                if isinstance(group, click.Group) and args[0] in group.list_commands(ctx)
            ]
            near = difflib.get_close_matches(args[0], _COMMANDS)
            meant = meant or [f"hw1 {name}" for name in near]
            if not meant:
                raise
            hint = f"No such command {args[0]!r}. Did you mean {', '.join(meant)}?"
            raise click.UsageError(hint, ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the group's own options: --help and --version print, and end the program."""
        with _reported(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
            sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: names may be any bytes
        with _reported(ctx):
            return super().invoke(ctx)


def _take_names_as_utf_8() -> None:
    """Start Python again where its locale is not UTF-8: names in results would be other bytes.

    With UTF-8, any bytes come back as they are (surrogateescape); Ray's processes inherit it.
    """
    if sys.getfilesystemencoding() == "utf-8":
        return
    if os.environ.get("PYTHONUTF8") == "1" or not sys.executable:  # that was of no use
        _say("expected a Python that takes names as UTF-8: don't give it -X utf8=0, -E or -I")
        sys.exit(InputError.exit_code)
    os.environ["PYTHONUTF8"] = "1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


@contextmanager
def _reported(ctx: click.Context) -> Iterator[None]:
    """Let an Hw1Error, a full disk, a path that can't be, or Ctrl-C be a line and a code."""
    try:
        _require_folder()
        yield
    except Hw1Error as error:
        _say(str(error))
        ctx.exit(error.exit_code)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left of it would fail at the end
            ctx.exit(UNREAD)
        if error.errno in _FULL:  # of stdout it may be, which has no name
            where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
            _say(f"{where}{error.strerror}: {_MAKE_ROOM}")
            ctx.exit(EnvironmentFault.exit_code)
        if error.filename is None or error.errno not in _BAD_PATHS:
            raise
        path, hint = os.fsdecode(error.filename), _BAD_PATHS[error.errno]
        _say(f"{path}: {error.strerror}: {hint}")
        ctx.exit(InputError.exit_code)
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # as rich ends where nobody reads
            ctx.exit(UNREAD)
        raise
    except KeyboardInterrupt:
        _say("interrupted")
        ctx.exit(INTERRUPTED)


def _nobody_reads() -> bool:
    """Whether stdout is a pipe that its reader has closed, as ``head`` does: it has its lines."""
    watched = select.poll()
    watched.register(1, 0)
    return any(event & select.POLLERR for _, event in watched.poll(0))


def _say(message: str) -> None:
    with suppress(OSError):  # nobody listens any more; the exit code says it
        click.echo(printable(f"hw1: {message}"), err=True)


def _open_streams() -> None:
    """Send nowhere what was started closed: else the next file that is opened takes its number.

    Ray needs all three, and so do the processes that it starts.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


def _require_folder() -> None:
    """Raise InputError where the current folder was removed: no path would mean anything."""
    try:
        os.getcwd()  # noqa: PTH109
    except FileNotFoundError as error:
        raise InputError(
            "the current folder was removed: change to one that is there, then try again"
        ) from error


@click.group(
    cls=LazyGroup,
    context_settings={"auto_envvar_prefix": "HW1", "help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="hw1")
def main() -> None:
    """Score folders of images offline: a class, or a land-cover mask, for each.

    \b
      hw1 batch classify photos/ labels.csv      a label for each image
      hw1 batch segment tiles/ masks/            a mask for each image
      hw1 evaluate classify labels.csv truth.csv how many labels are right
      hw1 jobs verify labels.csv                 is the result complete, and unchanged

    A job that was killed resumes when the same command is given again. Exit codes: 0 all scored,
    2 wrong usage, 3 done but some images rejected, 4 failed and 130 interrupted (both resumable),
    5 refused (the output belongs to another job).
    """
