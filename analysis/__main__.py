"""The commands of this package, one line each."""

from __future__ import annotations

from pathlib import Path

from ablate.__main__ import show

if __name__ == "__main__":
    show(Path(__file__).parent)
