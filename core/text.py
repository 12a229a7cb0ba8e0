"""Text: names in messages, escaped, the first few of many; files as spreadsheets write them."""

import codecs
import unicodedata

_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def some(names: list[str], count: int | None = None) -> str:
    """The first five names as one line of text, and how many more there are."""
    count = len(names) if count is None else count
    more = f" and {count - 5} more" if count > 5 else ""
    return ", ".join(map(shown, names[:5])) + more


def first_line(error: BaseException, most: int | None = None) -> str:
    """The first line of what an error says, at most ``most`` characters; else its kind."""
    lines = str(error).strip().splitlines()
    return lines[0][:most] if lines else type(error).__name__


def shown(name: str) -> str:
    """A name that stays on its line: escaped where it holds what can't be printed."""
    return name if name.isprintable() else ascii(name)


def decoded(content: bytes) -> str:
    """A text file's text: UTF-8, with a byte order mark or without; UTF-16 with one.

    Raises UnicodeError.
    """
    return content.decode(encoding_of(content))


def encoding_of(start: bytes) -> str:
    """The encoding of a text file that begins so, by its byte order mark; two bytes are enough."""
    return "utf-16" if start.startswith(_WIDE) else "utf-8-sig"


def delimiter_of(line: str) -> str:
    """What divides the first line of a table: a comma, or where it has none, tabs or semicolons.

    Spreadsheets write semicolons where the comma is the decimal point, tabs as "Unicode text".
    """
    found = [mark for mark in ("\t", ";") if mark in line and "," not in line]
    return found[0] if found else ","


def printable(text: str) -> str:
    """A message without what commands a terminal: control characters become text (``\\x1b``).

    Its line ends stay, and blanks of all kinds. Names that it holds may be anybody's.
    """
    return "".join(c if _is_safe(c) else ascii(c)[1:-1] for c in text)


def _is_safe(char: str) -> bool:
    return char.isprintable() or char == "\n" or unicodedata.category(char) == "Zs"
