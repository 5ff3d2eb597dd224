"""Copies a volume's voxels out of the scene a piece at a time, so that the window never stands still for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentModule.scene import nodes

if TYPE_CHECKING:
    import slicer

PIECE_BYTES = 16 << 20
"""Copied in about 10 ms."""


class VolumeReading:
    """A copy in the making.

    Attributes:
        geometry: The volume's `VolumeGeometry`.
        notes: What `nodes.placed_geometry` said.
        name: The node's name.
        voxels: As stored, ``(K, J, I)`` or ``(K, J, I, C)``; complete once `step` has said so.
    """

    def __init__(self, volume_node: slicer.vtkMRMLVolumeNode) -> None:
        """Begins.

        Raises:
            InputError: If the node holds nothing that can be segmented.
        """
        self._node = volume_node
        self.geometry, self.notes = nodes.placed_geometry(volume_node)
        self.name = volume_node.GetName()
        self._begin()

    def _begin(self) -> None:
        self._source = nodes.stored_voxels(self._node)
        self._changed = nodes.check_volume(self._node).GetMTime()
        self.voxels = np.empty_like(self._source, order="C")
        self._next = 0
        per_slice = max(1, self._source[0].nbytes)
        self._at_once = max(1, PIECE_BYTES // per_slice)

    def step(self) -> bool:
        """Copies a piece; True once everything is copied."""
        if self._next >= len(self._source):
            return True
        image = self._node.GetImageData()
        if image is None or image.GetMTime() != self._changed:
            self._begin()  # somebody changed the voxels meanwhile: half old, half new would be neither
        stop = self._next + self._at_once
        self.voxels[self._next : stop] = self._source[self._next : stop]
        self._next = stop
        done = bool(stop >= len(self._source))
        if done:
            self._source = self._source[:0]  # lets go of the scene's memory
        return done
