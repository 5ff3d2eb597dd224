"""Cores that networks may use: no more threads than those, which PyTorch does not see in a container."""

from __future__ import annotations

import os
from pathlib import Path

import torch

_CHOSEN = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # by the user
_LIMIT = Path("/sys/fs/cgroup/cpu.max")
_OLD_LIMIT = (Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us"))


def allowed_cores() -> int:
    """Return the number of cores that this process may use: those it may run on, and its share of their time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = _share()
    return cores if share is None else max(1, min(cores, round(share)))


def limit_threads() -> int:
    """Let networks use no more threads than cores that are allowed, unless the user chose a number; return the number.

    More threads than a container may run at once wait for each other at the end of every layer.
    """
    if not any(os.environ.get(name) for name in _CHOSEN):
        allowed = allowed_cores()
        if allowed < torch.get_num_threads():
            torch.set_num_threads(allowed)
    return torch.get_num_threads()


def _share() -> float | None:
    """Return how many cores' time a container may take; None without a limit."""
    try:
        if _LIMIT.is_file():
            quota, period = _LIMIT.read_text(encoding="ascii").split()[:2]
        else:
            quota, period = (path.read_text(encoding="ascii").strip() for path in _OLD_LIMIT)
        found = float(quota) / float(period)
    except (OSError, ValueError, ZeroDivisionError):  # "max", or no such file
        return None
    return found if found > 0 else None
