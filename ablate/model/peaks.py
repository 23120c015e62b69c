"""What a CUDA device multiplies at best, so that a training can say what share of it was used.

The share is the model FLOP utilisation (Chowdhery et al. 2022, arXiv 2204.02311, appendix B): the operations that the
model needs (`ablate.model.module.FlopEstimate`), by time and by the maker's figure for dense matrices. What is computed
a second time to save memory does not count as needed.
"""

from __future__ import annotations

import re

from ablate.model.device import Precision

PEAKS: tuple[tuple[str, float, float], ...] = (
    (r"NVIDIA A10", 125e12, 31.2e12),
    (r"NVIDIA A100[ -].*", 312e12, 19.5e12),
    (r"NVIDIA H100 80GB HBM3", 989.4e12, 66.9e12),
    (r"NVIDIA H100 PCIe", 756e12, 51e12),
    (r"NVIDIA H200", 989.4e12, 66.9e12),
    (r"NVIDIA L4", 121e12, 30.3e12),
    (r"NVIDIA L40S", 362e12, 91.6e12),
)
"""Pattern of the name as CUDA gives it; operations per second in bf16 (dense, sums in fp32) and in fp32 without tensor
cores, which is how PyTorch multiplies fp32 unless told otherwise. From NVIDIA's data sheets of the A10, A100, H100,
H200, L4 and L40S; where these state bf16 with sparsity alone, half of it."""


def peak(device_name: str, precision: Precision) -> float | None:
    """Return the operations per second that a device can do at best; None where it is not in the table."""
    for pattern, bf16, fp32 in PEAKS:
        if re.fullmatch(pattern, device_name):
            return bf16 if precision == "bf16" else fp32
    return None
