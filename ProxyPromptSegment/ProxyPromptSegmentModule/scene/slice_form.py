"""The form that masks of a slice must have, and their way into the orientation in which the volume stores slices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.imaging.geometry import SliceView


@dataclass(frozen=True)
class SliceForm:
    """The form of the masks of a slice.

    Attributes:
        view: Orientation of the masks in the volume.
        plane_shape: Rows and columns of a slice as the volume stores it.
        depth: Number of slices.
        objects: Names of the objects, one mask each.
        volume_name: Name of the volume, for sentences.
    """

    view: SliceView
    plane_shape: tuple[int, int]
    depth: int
    objects: tuple[str, ...]
    volume_name: str

    def stored(self, index: int, masks: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Check the masks of a slice and return them in the orientation in which the volume stores slices.

        Args:
            index: Number of the slice along the view's axis.
            masks: 1 inside, 0 outside; uint8 or bool, ``(N, H, W)`` as the view turns slices.

        Raises:
            InputError: If the slice does not exist, or the masks have another shape or other values.
        """
        masks, view = np.asarray(masks), self.view
        wanted = (len(self.objects), *(self.plane_shape[::-1] if view.transpose else self.plane_shape))
        if masks.shape != wanted:
            raise InputError(
                f"masks have shape {masks.shape}; {len(self.objects)} objects on slices along {view.axis} of "
                f"{self.volume_name} need {wanted}."
            )
        if not 0 <= index < self.depth:
            raise InputError(f"there is no slice {index} along {view.axis}; there are 0 to {self.depth - 1}.")
        if masks.dtype != bool and masks.size and (masks.min() < 0 or masks.max() > 1):
            raise InputError(f"masks have values up to {masks.max()}; allowed are 0 outside and 1 inside.")
        inside: npt.NDArray[np.bool_] = masks.astype(bool, copy=False)
        inside = inside[:, :: -1 if view.flip_rows else 1, :: -1 if view.flip_columns else 1]
        return np.swapaxes(inside, 1, 2) if view.transpose else inside
