"""`python -m ablate` and `python -m analysis` list every command, each with what it does."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import ROOT

from ablate.__main__ import commands


@pytest.mark.parametrize("package", ["ablate", "analysis"])
def test_every_command_is_listed_with_what_it_does(package: str) -> None:
    command = [sys.executable, "-m", package]
    said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    found = commands(ROOT / package)
    assert f"{package}.{'run' if package == 'ablate' else 'claims'}" in found
    for name, words in found.items():
        assert f"python -m {name}" in said and words and words in said
    runnable = {path.stem for path in (ROOT / package).glob("*.py") if "__main__" in path.read_text(encoding="utf-8")}
    rooms = {path.parent.name for path in (ROOT / package).glob("*/__main__.py")}
    assert {f"{package}.{name}" for name in (runnable - {"__main__"}) | rooms} == set(found)
