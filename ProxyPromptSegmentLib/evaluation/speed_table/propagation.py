"""SAM 2's own propagation with the weights of one of our models, with which the tracker's speed is compared."""

from __future__ import annotations

import contextlib
import copy
import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.evaluation.tracking_memory import WINDOW
from ProxyPromptSegmentLib.networks.backbones.sam2 import Sam2Backbone
from ProxyPromptSegmentLib.networks.letterbox import images_to_tensor, masks_to_tensor

if TYPE_CHECKING:
    import torch

    from ProxyPromptSegmentLib.inference.segmenter import Segmenter


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
