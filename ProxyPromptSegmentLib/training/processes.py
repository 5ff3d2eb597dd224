"""Several processes that train one model, each on its own episodes: one per GPU, on one machine or several.

They are started by `accelerate launch` (or `torchrun`). Each process has the whole model; the gradients are averaged
before each step, so that all of them make the same step, the one that a single process makes with as many episodes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from ProxyPromptSegmentLib.errors import ProxyPromptError
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind


class Processes:
    """This process among those of a training.

    Attributes:
        count: Number of processes.
        rank: Number of this one, from 0.
    """

    def __init__(self, state: Any = None) -> None:
        """Describe a single process, or one of several.

        Args:
            state: `accelerate.PartialState`, if there are several.
        """
        self._state = state
        self.count = 1 if state is None else int(state.num_processes)
        self.rank = 0 if state is None else int(state.process_index)

    @property
    def first(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def device(self, wanted: torch.device) -> torch.device:
        """Return the device of this process: of several GPUs its own."""
        return wanted if self._state is None or wanted.type == "cpu" else self._state.device

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their mean over all processes; one that no process has stays absent."""
        if self._state is None:
            return
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        there = torch.tensor([float(p.grad is not None) for p in trained], device=trained[0].device)
        there = self._sum(there)
        for parameter, known in zip(trained, there.tolist(), strict=True):
            if known and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        grads = [parameter.grad for parameter in trained if parameter.grad is not None]
        flat = self._sum(torch.cat([grad.flatten() for grad in grads])) / self.count
        start = 0
        for grad in grads:
            grad.copy_(flat[start : start + grad.numel()].view_as(grad))
            start += grad.numel()

    def agree(self, stop: bool, seconds: float, device: torch.device) -> tuple[bool, float]:
        """Return whether any process wants to stop, and the seconds of the first one, alike in all of them."""
        if self._state is None:
            return stop, seconds
        said = torch.tensor([float(stop), seconds if self.first else 0.0], dtype=torch.float64)
        stops, shared = self._sum(said.to(device, torch.float32 if device.type == "mps" else torch.float64)).tolist()
        return stops > 0, shared

    def wait(self) -> None:
        """Wait for the other processes."""
        if self._state is not None:
            self._state.wait_for_everyone()

    def _sum(self, tensor: torch.Tensor) -> torch.Tensor:
        from accelerate.utils import reduce

        return reduce(tensor, reduction="sum")


def processes_of_environment(device: torch.device) -> Processes:
    """Return this process among those that a launcher started; alone if none did.

    Args:
        device: The kind of device to compute on.

    Raises:
        ProxyPromptError: If there are several and ``accelerate`` is not installed.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return Processes()
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise ProxyPromptError(
            "a training by several processes needs the Python package accelerate, which is not installed",
            Remedy(kind=RemedyKind.INSTALL_PACKAGE, package="accelerate"),
        ) from error
    return Processes(PartialState(cpu=device.type == "cpu"))
