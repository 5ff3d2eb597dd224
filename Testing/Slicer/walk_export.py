"""A walk in a real Slicer: a result on images from DICOM is exported, and what is not from DICOM is refused.

    Slicer --no-splash --disable-settings --additional-module-paths ProxyPromptSegment \
        --python-script Testing/Slicer/walk_export.py [FOLDER FOR PICTURES]

It needs the Python packages highdicom and pydicom.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import qt
import slicer

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [
    HERE,
    os.path.join(os.path.dirname(HERE), "helpers"),
]  # Slicer runs the file and does not know its folder

from walk_cases import WalkCases
from walking import start

UID = "1.2.826.0.1.3680043.2.1125.31"


class WalkExport(WalkCases):
    """A target of a tilted series, with a result that differs from each of its mirror images."""

    def series(self, folder):
        """A drawn pelvis, tilted, as files of DICOM; its grid."""
        from dicom_cases import write_dicom_volume
        from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
        from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom
        from ProxyPromptSegmentLib.imaging.volumes import Volume

        volume, _marks = pelvis_phantom(2, (12, 80, 80))
        grid = volume.geometry
        tilt = np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])
        tilted = VolumeGeometry(grid.size_ijk, grid.spacing_mm, (-70.0, -60.0, 20.0), tilt)
        write_dicom_volume(folder, Volume(volume.array, tilted, "T2"), UID)
        return tilted

    def result(self, volume, mask):
        """A segmentation that a run has made for a volume, as a scene keeps it."""
        from ProxyPromptSegmentModule.scene.facts import Facts, write_facts
        from ProxyPromptSegmentModule.scene.owners import claim
        from ProxyPromptSegmentModule.scene.terminology import OBJECT_TAG

        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "T2 segmentation")
        node.CreateDefaultDisplayNodes()
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        node.GetSegmentation().AddEmptySegment("prostate", "prostate", [0.9, 0.3, 0.2])
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, "prostate", volume)
        node.GetSegmentation().GetSegment("prostate").SetTag(OBJECT_TAG, "prostate")
        claim(node, "prostate", volume)
        write_facts(node, volume, Facts())
        return node

    def exported(self):
        """The voxels of the file lie where the voxels of the segment lie in the world."""
        from dicom_points import points_in_dicom, world_points
        from ProxyPromptSegmentModule.scene import nodes

        slicer.mrmlScene.Clear(0)
        with tempfile.TemporaryDirectory() as work:
            folder = Path(work)
            self.series(folder / "series")
            volume = slicer.modules.volumes.logic().AddArchetypeVolume(str(folder / "series" / "0.dcm"), "T2")
            k, j, i = slicer.util.arrayFromVolume(volume).shape
            mask = np.zeros((k, j, i), np.uint8)
            mask[2:7, 30, 20:50], mask[3, 30:60, 22], mask[6, 50, 60] = 1, 1, 1
            self.result(volume, mask)
            self.aim(volume)
            self.narrow("export", "resultButton")
            chosen = folder / "mine.dcm"
            asked = qt.QFileDialog.getSaveFileName
            qt.QFileDialog.getSaveFileName = lambda *words: str(chosen)
            try:
                self.press("exportButton")
                assert chosen.is_file(), self.ui.resultMessageLabel.text
                assert points_in_dicom(chosen, 1) == world_points(mask, nodes.geometry_of(volume))
                before = chosen.read_bytes()
                self.press("exportButton")
                assert "is not overwritten" in self.ui.resultMessageLabel.text, self.ui.resultMessageLabel.text
                assert chosen.read_bytes() == before
            finally:
                qt.QFileDialog.getSaveFileName = asked
            self.narrow("exported", "resultButton")

    def refused(self):
        """A drawn image has no DICOM images to refer to."""
        slicer.mrmlScene.Clear(0)
        volume, truth = self.case(2)
        slicer.mrmlScene.RemoveNode(truth)
        mask = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
        mask[4, 20:30, 20:30] = 1
        self.result(volume, mask)
        self.aim(volume)
        self.press("exportButton")
        assert "was not loaded from DICOM" in self.ui.resultMessageLabel.text, self.ui.resultMessageLabel.text

    def all(self):
        """The steps in their order."""
        self.walk([self.exported, self.refused])


if __name__ == "__main__":
    start(WalkExport)
