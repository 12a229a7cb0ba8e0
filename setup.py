"""Finds hw1's packages: the repository's root is the package ``hw1``, so setup.cfg can't."""

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py


class BuildPackage(build_py):
    """All modules of the package but this one, which lies among them."""

    def find_package_modules(self, package, package_dir):
        """(package, module, path) of each module."""
        found = super().find_package_modules(package, package_dir)
        return [module for module in found if module[:2] != ("hw1", "setup")]


setup(
    packages=["hw1", *(f"hw1.{name}" for name in find_packages())],
    cmdclass={"build_py": BuildPackage},
)
