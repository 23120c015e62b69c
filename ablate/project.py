"""Where files of `conf/` and `sweeps/` lie: the present folder's own, and those that come with the code.

In a checkout both stand beside the code; a wheel holds them inside the package, in `ablate/shipped/` (`setup.py` puts
them there). The folder that a command is issued in may have a `conf/` and a `sweeps/` of its own: they are looked
into first, so a file of the same name wins.
"""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import Literal

Top = Literal["conf", "sweeps"]

ROOT = Path(__file__).resolve().parent.parent
"""Folder in which the packages lie: a checkout, or the site-packages of an environment."""


def shipped() -> Path:
    """Return the folder with `conf/` and `sweeps/` as they come with the code."""
    inside = Path(str(importlib.resources.files("ablate"))) / "shipped"
    return inside.resolve() if inside.is_dir() else ROOT


CONF = shipped() / "conf"


def own(top: Top) -> Path | None:
    """Return the `conf/` or `sweeps/` of the present folder; None where there is none, or it is the shipped one."""
    folder = Path.cwd() / top
    return folder if folder.is_dir() and not folder.samefile(shipped() / top) else None


def files_of(group: str) -> dict[str, Path]:
    """Return name -> file of a group such as `experiment` or `sweeps`, by name; an own file hides a shipped one."""
    top: Top = "sweeps" if group.split("/")[0] == "sweeps" else "conf"
    inside = group.split("/")[1:] if top == "sweeps" else [group]
    folders = [folder.joinpath(*inside) for folder in (shipped() / top, own(top)) if folder is not None]
    files = {path.stem: path for folder in folders for path in folder.glob("*.yaml")}
    return dict(sorted(files.items()))
