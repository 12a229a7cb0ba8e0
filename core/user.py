"""The user's own folders, as the XDG Base Directory Specification has them."""

import os
from pathlib import Path


def user_folder(variable: str, below_home: str) -> Path | None:
    """The folder that an environment's variable names, else one below home; None without either."""
    named = Path(os.environ.get(variable, ""))
    if named.is_absolute():  # the specification: a relative path is no path
        return named
    try:
        return Path.home() / below_home
    except RuntimeError:  # a user without a home
        return None
