"""What a stage takes of a machine: wall seconds, processor seconds, and on a GPU its seconds and its energy."""

from __future__ import annotations

import os
import time


class Meter:
    """Counts from its making on; `cost` reads it."""

    def __init__(self, device: str = "cpu") -> None:
        self.on_gpu = device == "cuda"
        self._wall, self._cpu = time.monotonic(), _cpu_seconds()
        self._joules = _gpu_joules() if self.on_gpu else None

    def cost(self) -> dict[str, float]:
        """Return `wall_s`, `cpu_s` (user and system, of this process and its finished children), on a GPU `gpu_s` (the
        time for which it was held) and `gpu_joules` (of the whole device; left out where the driver does not tell).

        Of a stage that was interrupted these are the costs of its last process.
        """
        wall = time.monotonic() - self._wall
        cost = {"wall_s": wall, "cpu_s": _cpu_seconds() - self._cpu}
        if self.on_gpu:
            cost["gpu_s"] = wall
            joules = _gpu_joules()
            if joules is not None and self._joules is not None:
                cost["gpu_joules"] = joules - self._joules
        return cost


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _gpu_joules() -> float | None:
    """Return the energy that the current GPU has used since its driver was loaded, by NVML, or None without it."""
    try:
        import pynvml
        import torch

        pynvml.nvmlInit()
        uuid = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}")
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
    except Exception:  # no package, no driver, a device that does not count: the cost is then not known
        return None
