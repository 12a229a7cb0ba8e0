"""Finds hw1's packages: the repository's root is the package ``hw1``, so setup.cfg can't."""

from setuptools import find_packages, setup

setup(packages=["hw1", *(f"hw1.{name}" for name in find_packages())])
