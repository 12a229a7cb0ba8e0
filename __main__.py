"""Lets `python -m hw1` be hw1."""

from .cli import main

main(prog_name="hw1")
