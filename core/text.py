"""Names in messages: escaped, and the first few of many; messages that are safe to print."""

import unicodedata


def some(names: list[str], count: int | None = None) -> str:
    """The first five names as one line of text, and how many more there are."""
    count = len(names) if count is None else count
    more = f" and {count - 5} more" if count > 5 else ""
    return ", ".join(map(shown, names[:5])) + more


def shown(name: str) -> str:
    """A name that stays on its line: escaped where it holds what can't be printed."""
    return name if name.isprintable() else ascii(name)


def printable(text: str) -> str:
    """A message without what commands a terminal: control characters become text (``\\x1b``).

    Its line ends stay, and blanks of all kinds. Names that it holds may be anybody's.
    """
    return "".join(c if _is_safe(c) else ascii(c)[1:-1] for c in text)


def _is_safe(char: str) -> bool:
    return char.isprintable() or char == "\n" or unicodedata.category(char) == "Zs"
