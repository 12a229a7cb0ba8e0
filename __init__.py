"""hw1 scores folders of images offline: a class or a land-cover mask for each."""

__version__ = "0.1.0"
