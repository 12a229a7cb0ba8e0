"""What the commands' tables have in common: where they go, and how wide they are."""

from rich.console import Console

_ENDLESS = 10_000  # columns: more than any table of ours has


def console() -> Console:
    """Standard output; in a file or a pipe no line of a table is folded or cut."""
    found = Console(highlight=False)
    if not found.is_terminal:
        found.width = _ENDLESS
    return found
