"""Named, independent random streams: the only place where randomness starts.

Every draw is keyed by a seed and a purpose, so switching one factor on leaves the draws of all others as they were
(common random numbers). A keyed draw (`uniform`, `choose`) depends on its key alone, not on what was drawn before,
and is the same on every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def key(seed: int, *purpose: str | int) -> int:
    """Return the 64-bit key of a seed and a purpose (BLAKE2b of their unambiguous spelling)."""
    text = "\x1f".join([str(int(seed)), *(f"{type(part).__name__}:{part}" for part in purpose)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def uniform(seed: int, *purpose: str | int) -> float:
    """Return one draw from [0, 1) that depends on the seed and the purpose alone."""
    return (key(seed, *purpose) >> 11) / 2**53


def choose(options: Sequence[T], seed: int, *purpose: str | int) -> T:
    """Return one of the options by a keyed draw; raises IndexError when there are none."""
    return options[key(seed, *purpose) % len(options)]


def stream(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return a numpy generator of its own for this purpose, for draws that are many and ordered."""
    return np.random.Generator(np.random.PCG64(key(seed, *purpose)))
