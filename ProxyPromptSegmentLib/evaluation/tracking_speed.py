"""Speed of the tracker compared with SAM 2's own propagation, and memory growth over a long sweep.

Both track one object through the same frames with the same weights, alternating in one run, from raw intensities to
a mask of the frame's size, including the image encoder. Ours is prompted by another sweep's frame, which is prepared
in advance; SAM 2 is given a mask of the first frame.
"""

from __future__ import annotations

import contextlib
import copy
import io
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.evaluation.clock import training_clock
from ProxyPromptSegmentLib.evaluation.tracking import check_memory
from ProxyPromptSegmentLib.evaluation.tracking_memory import WINDOW, sweep_frame, watch_memory
from ProxyPromptSegmentLib.networks.backbones.sam2 import Sam2Backbone
from ProxyPromptSegmentLib.networks.letterbox import images_to_tensor, masks_to_tensor
from ProxyPromptSegmentLib.support.pairs import SupportPair, SupportSet

if TYPE_CHECKING:
    import torch

    from ProxyPromptSegmentLib.inference.segmenter import Segmenter


def measure_tracking_speed(
    segmenter: Segmenter,
    frames: int = 32,
    repeats: int = 9,
    memory_frames: int = 500,
    every: int = 50,
    side: int = 256,
) -> dict[str, Any]:
    """Measure the speed of the tracker and of SAM 2's own propagation.

    Args:
        segmenter: A model with a memory.
        frames: Length of the timed sweep.
        repeats: Number of rounds, of which the median is taken.
        memory_frames: Length of the sweep over which memory is sampled.
        every: Number of frames between two samples.
        side: Rows and columns of a frame; only squares are neither padded nor stretched.

    Returns:
        Ratios (above 1: ours is faster), medians of frames per second, memory and the hardware, as JSON values.

    Raises:
        UsageError: If the model has no memory.
    """
    import torch

    from ProxyPromptSegmentLib.tracking.tracker import Tracker

    check_memory(segmenter)
    sweep = [sweep_frame(index, side) for index in range(frames)]
    images = np.stack([image for image, _ in sweep])
    other, marked = sweep_frame(7, side, seed=1)
    support = SupportSet((SupportPair(other, marked, (1.0, 1.0), WINDOW),), ("vessel",))
    start = time.perf_counter()
    prepared = segmenter.prepare(support)
    support_seconds = time.perf_counter() - start
    theirs = PackagePropagation(segmenter, frames, side)

    def follow(check_agreement: bool) -> Callable[[], list[np.ndarray]]:
        def call() -> list[np.ndarray]:
            tracker = Tracker(segmenter, check_agreement=check_agreement)
            tracker.start(prepared, WINDOW)
            return [tracker.step(image).masks() for image in images]

        return call

    def propagate() -> list[np.ndarray]:
        return theirs.run(images, sweep[0][1])

    ours, unchecked, package = _alternate([follow(True), follow(False), propagate], repeats, segmenter.device)
    (wall, computed), (wall_unchecked, computed_unchecked) = _ratios(package, ours), _ratios(package, unchecked)
    # Processor time, on a CPU only: it is not affected by other load on the machine.
    alone = {"ours_over_sam2": computed, "ours_unchecked_over_sam2": computed_unchecked}
    return {
        "ours_over_sam2": wall,
        "ours_unchecked_over_sam2": wall_unchecked,
        "processor_time": alone if segmenter.device.type == "cpu" else None,
        "frames_per_second": {
            "proxy prompt + memory": _rate(frames, ours),
            "proxy prompt + memory, agreement not checked": _rate(frames, unchecked),
            "SAM 2's own propagation": _rate(frames, package),
        },
        "support_seconds": round(support_seconds, 4),
        "frames": frames,
        "frame_side": side,
        "supports": 1,
        "repeats": repeats,
        "memory": watch_memory(segmenter, prepared, memory_frames, every, side),
        "device": str(segmenter.device),
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


class PackagePropagation:
    """The package's video predictor with the same weights and options as our backbone."""

    def __init__(self, segmenter: Segmenter, frames: int, side: int) -> None:
        """Build the predictor and one inference state.

        The predictor is a deep copy of our module with its class replaced. Building it from the same parts would miss
        later changes (the compact decoder, adapters). `SAM2Base` is its base class; the four attributes that its
        constructor adds get the defaults.
        """
        from sam2.sam2_video_predictor import SAM2VideoPredictor

        backbone = segmenter.model.backbone
        if not isinstance(backbone, Sam2Backbone):
            raise UsageError(
                f"tracking is timed against SAM 2, but {backbone.name} is another network; choose sam2-compact"
            )
        self._segmenter, self._backbone = segmenter, backbone
        network = copy.deepcopy(self._backbone.sam2).eval()
        network.__class__ = SAM2VideoPredictor
        network.fill_hole_area = 0
        network.non_overlap_masks = False
        network.clear_non_cond_mem_around_input = False
        network.add_all_frames_to_correct_as_cond = False
        # Our backbone always uses the single-mask token, so this one does too.
        network.multimask_output_in_sam = False
        self.predictor = network
        self._state = self._begin(frames, side)

    def _begin(self, frames: int, side: int) -> dict[str, Any]:
        """Return an inference state for the given number of square frames.

        ``init_state`` reads a video or a folder of JPEGs, which loses quality, and normalises by ImageNet's statistics,
        which differ from the compact encoder's. So it starts with one small picture, and `run` inserts the frames.
        """
        from PIL import Image

        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
            Image.new("L", (8, 8)).save(Path(folder) / "0.jpg")
            state = self.predictor.init_state(folder)
        state["num_frames"], state["video_height"], state["video_width"] = frames, side, side
        return state

    def run(self, images: np.ndarray, first: np.ndarray) -> list[np.ndarray]:
        """Return the masks, uint8 ``(1, H, H)`` each; see `propagate`."""
        import torch

        return [(logits > 0).to(torch.uint8).cpu().numpy() for logits in self.propagate(images, first)]

    def propagate(self, images: np.ndarray, first: np.ndarray) -> list[torch.Tensor]:
        """Propagate the mask of the first frame through all frames.

        Args:
            images: Square, ``(S, H, H)`` in `WINDOW`.
            first: Mask of the first frame, uint8 ``(1, H, H)``.

        Returns:
            Logits of each frame, ``(1, H, H)``.
        """
        import torch

        state, backbone = self._state, self._backbone
        self.predictor.reset_state(state)
        state["cached_features"].clear()
        box = self._segmenter.letterbox((images.shape[1], images.shape[2]))
        with torch.inference_mode(), contextlib.redirect_stderr(io.StringIO()):  # the package draws a progress bar
            tensor = images_to_tensor(images, WINDOW, box).to(self._segmenter.device)
            state["images"] = (tensor - backbone.mean) / backbone.std
            mask = masks_to_tensor(first[None], box)[0, 0]
            self.predictor.add_new_mask(state, 0, 0, mask.bool())
            return [logits[:, 0] for _, _, logits in self.predictor.propagate_in_video(state)]


def _alternate(calls: list[Callable[[], object]], repeats: int, device: torch.device) -> list[np.ndarray]:
    """Time calls alternately, A B C A B C, after one warm-up each; each ends with its result off the device.

    Returns:
        For each call ``(repeats, 2)``: wall-clock seconds, and those of `training_clock`.
    """

    def timed(call: Callable[[], object]) -> tuple[float, float]:
        wall, computed = time.perf_counter(), training_clock(device)
        call()
        return time.perf_counter() - wall, training_clock(device) - computed

    for call in calls:
        call()
    rounds = [[timed(call) for call in calls] for _ in range(repeats)]
    return [np.array(seconds) for seconds in zip(*rounds, strict=True)]


def _ratios(theirs: np.ndarray, ours: np.ndarray) -> list[float]:
    """Return the median over the rounds of our speed over theirs, for each clock."""
    return [round(float(ratio), 3) for ratio in np.median(theirs / ours, axis=0)]


def _rate(frames: int, seconds: np.ndarray) -> float:
    return round(frames / float(np.median(seconds[:, 0])), 2)
