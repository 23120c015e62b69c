"""Where a model runs, in which precision, and on whose random generators."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ablate.randomness import key
from ablate.records import UserError

log = logging.getLogger(__name__)

Precision = Literal["fp32", "bf16"]

SETTINGS = (
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_DYNAMIC",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_NUM_THREADS",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_DYNAMIC",
    "OMP_NUM_THREADS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
    "OPENBLAS_NUM_THREADS",
)
"""Variables of the environment by which the libraries below choose kernels and threads."""


def resolve_device(device: str) -> Literal["cpu", "cuda"]:
    """Return the device that `auto` stands for; raises UserError for `cuda` where there is none."""
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if not torch.cuda.is_available():
        raise UserError(f"runtime.device={device!r} but PyTorch finds no CUDA device here; set runtime.device=cpu")
    return "cuda"


def resolve_precision(precision: str, device: str) -> Precision:
    """Return the precision of training that `auto` stands for on a device (`auto`, `cpu`, `cuda`).

    fp32 on every CPU and bf16 on every CUDA device: the precision enters a run's id, so it must not depend on which
    processor it is; resolve it before taking ids. Where bf16 is not multiplied natively (see `native_bf16`) it works,
    and a warning says that it is slow.
    """
    used = resolve_device(device)
    if precision == "auto":
        precision = "bf16" if used == "cuda" else "fp32"
    if precision == "fp32":
        return "fp32"
    if not native_bf16(used):
        log.warning("bf16 (train.precision): this processor does not multiply it natively, so fp32 would be quicker")
    return "bf16"


def check_passes(device: str, precisions: Set[str], packed: bool | None, compiled: bool) -> None:
    """Raise UserError where passes in these precisions could not be packed or compiled on a device as asked."""
    if compiled and device != "cuda":
        raise UserError("runtime.compile=true is for CUDA, and this run computes on a CPU; set it to false")
    if packed and device == "cuda" and "fp32" in precisions:
        raise UserError(
            "runtime.packed=true takes 16-bit numbers on CUDA; set train.precision=bf16 and evaluation.precision=bf16, "
            "or runtime.packed=null, which packs what is in bf16"
        )


def native_bf16(device: str) -> bool:
    """Return whether a processor multiplies bf16 natively: CUDA of compute capability 8 or above, AMX, AVX512_BF16."""
    if device == "cuda":
        return torch.cuda.get_device_capability()[0] >= 8
    return not {"amx_bf16", "avx512_bf16"}.isdisjoint(processor_flags())


def processor_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """Return what the first processor can do, in the kernel's words; empty where the kernel does not say."""
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "flags":
                return value.split()
    return []


def arithmetic(device: str, *, packed: bool | None = None, compiled: bool = False) -> dict[str, Any]:
    """Return what decides the last bits of a result beside its recipe: device, threads, the kernels that are chosen.

    `packed` is `auto` on a GPU that packs what is in bf16, where the backbone can. `settings` are the
    environment's variables among SETTINGS. The processor's name is in every manifest already.
    """
    return {
        "device": device,
        "device_name": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "mkldnn": bool(torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled),
        "packed": "auto" if packed is None and device == "cuda" else bool(packed),
        "compiled": compiled,
        "settings": {name: os.environ[name] for name in SETTINGS if os.environ.get(name)},
    }


def _seed_torch(start: int) -> None:
    """Do what `torch.manual_seed` does; without an accelerator it would note the stack of the caller for each kind."""
    if torch.accelerator.is_available():
        torch.manual_seed(start)
    else:
        torch.default_generator.manual_seed(start)


@contextmanager
def own_generators(seed: int, *purpose: str | int) -> Iterator[None]:
    """Run a block on the random stream of a seed and a purpose, and leave the global generators as they were.

    Libraries draw from the global generators of Python, NumPy and PyTorch (dropout, initial weights). Inside the block
    these start from `key(seed, *purpose)`, so what is drawn depends on nothing that ran before.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    start = key(seed, *purpose)
    random.seed(start)
    np.random.seed(start % 2**32)
    _seed_torch(start % 2**63)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
