"""The reader that copies a volume's voxels in small pieces, so that the window stays responsive."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentModule.scene import nodes

if TYPE_CHECKING:
    import slicer

PIECE_BYTES = 4 << 20
"""Copied in about 10 ms, most of which goes into the pages of new memory."""


class VolumeReading:
    """A copy of a volume in progress.

    Attributes:
        geometry: The volume's `VolumeGeometry`.
        notes: Notes of `nodes.placed_geometry`.
        name: The node's name.
        voxels: Voxels as stored, ``(K, J, I)`` or ``(K, J, I, C)``; complete when `step` returns True.
    """

    def __init__(self, volume_node: slicer.vtkMRMLVolumeNode) -> None:
        """Start a copy.

        Raises:
            InputError: If the node cannot be segmented.
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
        """Copy a piece; return True when everything is copied."""
        if self._next >= len(self._source):
            return True
        image = self._node.GetImageData()
        if image is None or image.GetMTime() != self._changed:
            self._begin()  # the voxels have changed meanwhile; start again instead of mixing old and new ones
        stop = self._next + self._at_once
        self.voxels[self._next : stop] = self._source[self._next : stop]
        self._next = stop
        done = bool(stop >= len(self._source))
        if done:
            self._source = self._source[:0]  # releases the scene's memory
        return done
