"""Names in messages: escaped, and the first few of many."""


def some(names: list[str], count: int | None = None) -> str:
    """The first five names as one line of text, and how many more there are."""
    count = len(names) if count is None else count
    more = f" and {count - 5} more" if count > 5 else ""
    return ", ".join(map(shown, names[:5])) + more


def shown(name: str) -> str:
    """A name that stays on its line: escaped where it holds what can't be printed."""
    return name if name.isprintable() else ascii(name)
