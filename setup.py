"""Puts conf/ and sweeps/, which stand beside the code, into a wheel as ablate/shipped/; all else is in pyproject.toml.

An editable installation holds no copy: there `ablate.project.shipped` finds the folders of the checkout.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

FOLDERS = ("conf", "sweeps")


class BuildWithValues(build_py):
    """The usual step, and the values beside the code."""

    def run(self) -> None:
        """Copy packages, then the files of FOLDERS."""
        super().run()
        if self.editable_mode:
            return
        shipped = Path(self.build_lib, "ablate", "shipped")
        shutil.rmtree(shipped, ignore_errors=True)  # of an earlier build
        for path in values():
            self.copy_file(path, self._made(shipped / path))

    def _made(self, path: Path) -> str:
        self.mkpath(str(path.parent))
        return str(path)

    def get_source_files(self) -> list[str]:
        """Return what a source distribution holds."""
        return [*super().get_source_files(), *values()]


def values() -> list[str]:
    """Return the YAML files of FOLDERS."""
    return [path.as_posix() for name in FOLDERS for path in sorted(Path(name).rglob("*.yaml"))]


setup(cmdclass={"build_py": BuildWithValues})
