"""Where this project lies: its code, `conf/` and `sweeps/` stand beside each other in one folder."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONF = ROOT / "conf"
