"""hw1 scores folders of images offline: a class or a land-cover mask for each.

As a library: ``load`` a model and let it ``predict`` images, or run the durable jobs of the command
by ``classify`` and ``segment``. See docs/python.md.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .api import classify, segment
    from .core.classes import Classes
    from .core.errors import EnvironmentFault, Hw1Error, InputError, Refused, TooManyRejected
    from .jobs.job import Summary
    from .pipeline.loaded import Classification, Classifier, Segmentation, Segmenter, load

__all__ = [
    "Classes",
    "Classification",
    "Classifier",
    "EnvironmentFault",
    "Hw1Error",
    "InputError",
    "Refused",
    "Segmentation",
    "Segmenter",
    "Summary",
    "TooManyRejected",
    "classify",
    "load",
    "segment",
]

__version__ = "0.1.0"

_HOMES = {
    "api": ("classify", "segment"),
    "core.classes": ("Classes",),
    "core.errors": ("EnvironmentFault", "Hw1Error", "InputError", "Refused", "TooManyRejected"),
    "jobs.job": ("Summary",),
    "pipeline.loaded": ("Classification", "Classifier", "Segmentation", "Segmenter", "load"),
}

if not TYPE_CHECKING:  # a type checker would take any name

    def __getattr__(name: str) -> object:
        """Import what is asked for: `import hw1` alone takes no time."""
        for home, names in _HOMES.items():
            if name in names:
                return getattr(import_module(f".{home}", __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
