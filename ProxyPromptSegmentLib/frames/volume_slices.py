"""The slices of a volume as frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ProxyPromptSegmentLib.frames.source import BadFrame, Frame, FrameSource
from ProxyPromptSegmentLib.imaging.geometry import auto_axis, axis_number
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.imaging.volumes import read_volume


class VolumeSlices(FrameSource):
    """The slices of a volume along an axis."""

    def __init__(self, path: Path, axis: str) -> None:
        volume = read_volume(path)
        chosen = auto_axis(volume.geometry) if axis == "auto" else axis
        super().__init__(path, "volume", volume.geometry, volume.array.shape[axis_number(chosen)], chosen)
        self.volume, self._slices = volume, self.view.take(volume.array)
        self.rgb, self.eight_bit = volume.is_rgb, False
        self.has_spacing = volume.has_spacing

    def frame(self, index: int) -> Frame | BadFrame:
        """Return one oriented slice; float32."""
        if not 0 <= index < len(self._slices):
            raise IndexError(f"{self.name} has no slice {index}; its slices are 0 to {len(self._slices) - 1}")
        return np.ascontiguousarray(self._slices[index])

    def _sampled_window(self) -> tuple[float, float]:
        """Return the window of the whole volume, as for segmentation slice by slice."""
        assert self.volume is not None
        return intensity_window(self.volume.array)
