"""Checkpoints of a training that survive a kill at any moment: written whole or not at all, checked when read.

A checkpoint is one safetensors file (no pickle, so reading it runs no code): weights that are trained, the optimiser's
state, and the counters in its header. Its name carries the step and the SHA-256 of its content.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from ablate.records import UserError
from ablate.timing import timed

log = logging.getLogger(__name__)

NAME = re.compile(r"step-(\d{10})-([0-9a-f]{16})\.safetensors")
KEPT = 2
"""Checkpoints that are kept: the last, and one before it in case the last is torn."""


@dataclass(frozen=True)
class Checkpoint:
    """A training after some number of steps."""

    step: int
    tensors: dict[str, torch.Tensor]
    counters: dict[str, float]
    """Sums over all steps so far, such as tokens and seconds."""


class Checkpoints:
    """The checkpoints of one training in a folder of its own."""

    def __init__(self, folder: Path, training: str) -> None:
        """`training` is a digest of everything that decides the training; checkpoints of another are refused."""
        self._folder, self._training = Path(folder), training
        self._folder.mkdir(parents=True, exist_ok=True)
        for torn in self._folder.glob("*.part"):
            torn.unlink()

    def _found(self) -> list[tuple[int, str, Path]]:
        """Return (step, digest, path) of the checkpoints that are there, latest first."""
        matches = ((NAME.fullmatch(path.name), path) for path in self._folder.iterdir())
        return sorted(((int(m[1]), m[2], path) for m, path in matches if m), reverse=True)

    @timed("checkpoints")
    def save(self, step: int, tensors: Mapping[str, torch.Tensor], counters: Mapping[str, float]) -> None:
        """Write a checkpoint by rename and remove all but the last two.

        Raises UserError when it cannot be written (a full disk); the checkpoints before it stay.
        """
        header = {"training": self._training, "step": str(step), "counters": json.dumps(dict(counters))}
        num_bytes = sum(tensor.nbytes for tensor in tensors.values())
        part = self._folder / f"step-{step:010d}.part"
        try:
            digest = write_through(part, safetensors_chunks(tensors, header))
            os.replace(part, self._folder / f"step-{step:010d}-{digest}.safetensors")
            _sync_folder(self._folder)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise UserError(
                f"the checkpoint of step {step} ({num_bytes / 1e6:.0f} MB) cannot be written to {self._folder}: "
                f"{error.strerror}; make room there and give the same command again, it goes on from the one before"
            ) from error
        for _, _, old in self._found()[KEPT:]:
            old.unlink()

    @timed("checkpoints")
    def latest(self) -> Checkpoint | None:
        """Return the last whole checkpoint, or None; a torn one is skipped with a warning in the log.

        Raises UserError when the folder belongs to another training.
        """
        for step, digest, path in self._found():
            try:
                with path.open("rb") as content:
                    if hashlib.file_digest(content, "sha256").hexdigest()[:16] != digest:
                        raise ValueError("its content does not match its digest")
                with safe_open(path, framework="pt") as file:
                    header = file.metadata()
                    tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            except (OSError, ValueError, SafetensorError) as error:
                log.warning("checkpoint %s is damaged (%s) and is skipped; the one before it is used", path.name, error)
                continue
            if header.get("training") != self._training:
                raise UserError(
                    f"{path} is a checkpoint of another training (other mix, model, settings or seed); "
                    "empty that folder or choose another one"
                )
            return Checkpoint(step, tensors, json.loads(header["counters"]))
        return None


def safetensors_chunks(
    tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]
) -> Iterator[bytes | memoryview]:
    """Yield the content of a safetensors file of fp32 tensors piece by piece, without a second copy of all of it.

    Format: https://github.com/huggingface/safetensors#format
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    start = 0
    for name, tensor in tensors.items():
        assert tensor.dtype == torch.float32, name
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [start, start + tensor.nbytes]}
        start += tensor.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for tensor in tensors.values():
        yield tensor.detach().cpu().contiguous().numpy().reshape(-1).view(np.uint8).data


def write_through(path: Path, chunks: Iterable[bytes | memoryview]) -> str:
    """Write a file, have the system put it on the disk, and return 16 hex digits of its SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for chunk in chunks:
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()[:16]


def _sync_folder(folder: Path) -> None:
    """Have a rename in a folder put on the disk; not every system can open a folder."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
