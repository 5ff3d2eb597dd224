"""A training step as one CUDA graph, or, where that does not work, as ordinary calls with the same result."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

from ProxyPromptSegmentLib.training.broad.episodes import BroadEpisode, TrainingEpisode

logger = logging.getLogger(__name__)

Step = Callable[[TrainingEpisode], torch.Tensor]
WARM_UPS = 3
TOLERANCE = 0.05  # of the loss: chance differs between the two


class StepRunner:
    """Runs a step on tensors that stay in place."""

    def __init__(self, step: Step, first: TrainingEpisode, capture: bool) -> None:
        """Prepare the step.

        Args:
            step: Computes loss and gradients, updates the weights and returns numbers on the device, the loss first.
            first: An episode; later ones have the same shapes.
            capture: Whether to capture a CUDA graph, of a `BroadEpisode`.
        """
        self._step = step
        self._static = [tensor.clone() for tensor in first.tensors()]
        self._graph: torch.cuda.CUDAGraph | None = None
        self._numbers: torch.Tensor | None = None
        if capture:
            self._capture()

    @property
    def captured(self) -> bool:
        """Whether the step is a CUDA graph."""
        return self._graph is not None

    def __call__(self, episode: TrainingEpisode) -> torch.Tensor:
        """Run the step on an episode."""
        if self._graph is None or self._numbers is None:
            return self._step(episode)
        for mine, other in zip(self._static, episode.tensors(), strict=True):
            mine.copy_(other)
        self._graph.replay()
        return self._numbers

    def _capture(self) -> None:
        """Capture the step; the loss of a replay is compared with the last ordinary call's."""
        episode = BroadEpisode.of(self._static)
        try:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(WARM_UPS):
                    before = self._step(episode)
            torch.cuda.current_stream().wait_stream(side)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                numbers = self._step(episode)
            graph.replay()
            torch.cuda.synchronize()
        except RuntimeError as error:
            logger.warning("no CUDA graph (%s); every step is called by itself", str(error)[:300])
            torch.cuda.synchronize()
            return
        wanted, got = float(before[0]), float(numbers[0])
        if not abs(wanted - got) <= TOLERANCE * abs(wanted) + 0.05:
            logger.warning("the CUDA graph's loss is %.4f instead of %.4f; it is not used", got, wanted)
            return
        logger.info("step captured: loss %.4f called, %.4f replayed", wanted, got)
        self._graph, self._numbers = graph, numbers
