"""Walks through corrections of a folder's studies in a real Slicer: what is saved is what was drawn, and where.

    Slicer --no-splash --disable-settings --additional-module-paths ProxyPromptSegment \
        --python-script Testing/Slicer/walk_corrections.py [FOLDER FOR PICTURES]

The variable STEPS names some of the steps, with commas between them; by default all of them are walked.
"""

from __future__ import annotations

import os
import sys

import numpy as np
import slicer

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "helpers")]  # Slicer does not know the file's folder

from walk_folders import WalkFolders
from walking import start

UID = "1.2.826.0.1.3680043.2.1125.78"


class WalkCorrections(WalkFolders):
    """Steps that do not need each other: each begins with an empty scene and a folder of its own."""

    # --- helpers ----------------------------------------------------------------------------------------------

    def ward(self, *seeds):
        """An opened folder of drawn pelves that are segmented; the folders of studies and results."""
        place = self.place(*seeds)
        results = self.open_folder(place, len(seeds))
        studies = self.segmented()
        assert studies.count("done") == len(seeds), (studies.error, self.cases())
        return place, results

    def drawn(self):
        """The result on screen: its segmentation, the id and the voxels of its first segment."""
        segmentation = self.panel.state.segmentation
        segment_id = segmentation.GetSegmentation().GetNthSegmentID(0)
        volume = self.panel.state.parameters.targetVolume
        return segmentation, segment_id, self.voxels(segmentation, segment_id, volume)

    def correct(self, k, rows=(20, 40), columns=(30, 50)):
        """Draws a rectangle instead of what is on a slice; returns the voxels."""
        segmentation, segment_id, _before = self.drawn()
        volume = self.panel.state.parameters.targetVolume
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment_id, volume)
        mask[k] = 0
        mask[k, slice(*rows), slice(*columns)] = 1
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, segment_id, volume)
        self.until(lambda: self.ui.saveCorrectionsButton.enabled, 20, "that it can be saved")
        assert np.array_equal(self.drawn()[2], mask > 0)
        assert f"{volume.GetName()}: corrected, not saved" in self.cases(), self.cases()
        return mask > 0

    def save(self):
        """Presses the button and waits for the end; returns the file."""
        self.press("saveCorrectionsButton")
        self.until_saved()
        return self.newest()

    def until_saved(self):
        """Waits until a correction is on disk."""
        message = self.ui.casesMessageLabel
        self.until(lambda: "are in" in message.text or "stays in" in message.text, 60, "the end of saving")

    def newest(self):
        """The correction that was written last."""
        found = sorted(self.results().glob("corrected/*.seg.nrrd"), key=lambda file: file.stat().st_mtime_ns)
        return found[-1]

    def results(self):
        """The folder of results."""
        return self.panel.state.folder.folder.output

    def files(self, *places):
        """The content of all files below some folders."""
        return {file: file.read_bytes() for place in places for file in place.rglob("*") if file.is_file()}

    def is_in(self, file, mask, volume):
        """Whether a file holds a mask, where it lies in the world; read by ITK alone."""
        import SimpleITK as sitk

        image = sitk.ReadImage(str(file))
        found = np.asarray(sitk.GetArrayFromImage(image)) > 0
        assert found.sum() == mask.sum() > 0, (found.sum(), mask.sum())
        corners = np.argwhere(found)
        for own, (k, j, i) in zip(corners, np.argwhere(mask), strict=True):  # both in the order of the voxels
            there = image.TransformIndexToPhysicalPoint([int(n) for n in own[::-1]])
            right, anterior, superior = self.ras_of(volume, (i, j, k))
            assert np.allclose(there, (-right, -anterior, superior), atol=1e-3), (there, (i, j, k))

    def paint(self, node, segmentation, segment_id, k):
        """Paint a stroke on slice ``k`` with the mouse, in the Segment Editor, which stays open; returns the editor."""
        slicer.util.selectModule("SegmentEditor")
        editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
        editor.setSegmentationNode(segmentation)
        editor.setSourceVolumeNode(node)
        editor.setCurrentSegmentID(segment_id)
        editor.setActiveEffectByName("Paint")
        editor.activeEffect().setCommonParameter("BrushRelativeDiameter", 4)
        self.wait(0.5)
        self.drag_through(node, [(8, 8, k), (14, 8, k), (20, 10, k)])
        editor.setActiveEffectByName("")
        return editor

    # --- steps ------------------------------------------------------------------------------------------------

    def painted_in_the_editor(self):
        """The brush of the Segment Editor, with the mouse; saved, painted again, saved again; nothing else changes."""
        place, results = self.ward(2, 3)
        node = self.show("patient 2.nrrd")
        before = self.files(place, results / "results", results / "records")
        segmentation, segment_id, mask = self.drawn()
        k = int(np.flatnonzero(mask.any(axis=(1, 2))).mean())
        self.paint(node, segmentation, segment_id, k)
        slicer.util.selectModule("ProxyPromptSegment")
        self.open_only("casesButton")
        painted = self.drawn()[2]
        assert (painted & ~mask).sum() > 20 and not (mask & ~painted).any(), "the mouse has painted nothing"
        self.until(lambda: self.ui.saveCorrectionsButton.enabled, 20, self.ui.saveCorrectionsButton.toolTip)
        first = self.save()
        self.is_in(first, painted, node)
        assert "patient 2.nrrd: corrected" in self.cases(), self.cases()
        assert not self.ui.saveCorrectionsButton.enabled, "there is nothing to be saved"
        kept = self.files(results / "corrected")
        again = self.correct(k)
        second = self.save()
        assert second != first
        self.is_in(second, again, node)
        assert {file: file.read_bytes() for file in (*before, *kept)} == {**before, **kept}, "a file was overwritten"
        assert len(list((results / "corrected").iterdir())) == 4, "two versions and their records"

    def another_study_meanwhile(self):
        """A click on another study while one is saved, and corrections of one that is left before they are saved."""
        place, results = self.ward(2, 3)
        self.show("patient 2.nrrd")
        mask, study = self.correct(5), self.files(place)
        self.press("saveCorrectionsButton")
        self.show("patient 3.nrrd")
        self.until(lambda: len(list((results / "corrected").glob("*.seg.nrrd"))) == 1, 60, "the correction")
        self.until(lambda: "patient 2.nrrd: corrected" in self.cases(), 60, "the words in the list")
        self.is_in(self.newest(), mask, self.show("patient 2.nrrd"))
        assert np.array_equal(self.drawn()[2], mask)
        other = self.show("patient 3.nrrd")
        assert not self.ui.saveCorrectionsButton.enabled, "another study's corrections can be saved here"
        theirs = self.correct(6, (10, 30), (40, 45))
        self.show("patient 2.nrrd")
        assert not self.ui.saveCorrectionsButton.enabled, "another study's corrections can be saved here"
        assert "stays in the scene" in self.ui.casesMessageLabel.text, self.ui.casesMessageLabel.text
        assert self.show("patient 3.nrrd") is other
        self.until(lambda: self.ui.saveCorrectionsButton.enabled, 20, "that it can still be saved")
        self.is_in(self.save(), theirs, other)
        self.show("patient 2.nrrd")
        assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) == 2, "what is saved has left the scene"
        assert self.files(place) == study

    def other_kinds_of_studies(self):
        """DICOM, colours, and noise in which nothing was found are corrected, and read again; a sequence is refused."""
        import SimpleITK as sitk
        from PIL import Image

        from dicom_cases import write_dicom_volume
        from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
        from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom
        from ProxyPromptSegmentLib.imaging.volumes import Volume

        place = self.place()
        grey = pelvis_phantom(3, (12, 80, 80))[0]
        tilt = np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])
        grid = VolumeGeometry(grey.geometry.size_ijk, grey.geometry.spacing_mm, (-70.0, -60.0, 20.0), tilt)
        write_dicom_volume(place / "series", Volume(grey.array, grid, "T2"), UID)
        plane = grey.array[6].astype(float)
        plane = (255 * (plane - plane.min()) / np.ptp(plane)).astype(np.uint8)
        Image.fromarray(np.stack([plane, plane // 2, 255 - plane], axis=-1)).save(place / "colour.png")
        noise = np.random.default_rng(5).integers(0, 255, (80, 90, 3), dtype=np.uint8)
        Image.fromarray(noise).save(place / "noise.png")
        frames = np.stack([grey.array] * 4).astype(np.int16)
        sitk.WriteImage(sitk.GetImageFromArray(frames, isVector=False), str(place / "cine.nrrd"))
        results = self.open_folder(place, 4)
        self.segmented()
        print(self.cases(), flush=True)
        assert "noise.png: nothing found" in self.cases()
        number = self.cases().index("cine.nrrd: failed")
        assert "4 dimensions" in self.ui.casesList.item(number).text(), self.ui.casesList.item(number).text()
        study = self.files(place)
        studies = {"series": 5, "colour.png": 0, "noise.png": 0}
        for name, k in studies.items():
            node = self.show(name)
            mask = self.correct(k)
            self.is_in(self.save(), mask, node)
            assert f"{name}: corrected" in self.cases(), self.cases()
        for name, k in studies.items():
            self.show(name)
            assert self.drawn()[2][k, 20:40, 30:50].all() and self.drawn()[2][k].sum() == 400
        self.narrow("corrected_kinds", "casesButton")
        assert self.files(place) == study and len(list((results / "corrected").glob("*.seg.nrrd"))) == len(studies)

    def all(self):
        """All steps."""
        self.walk([self.painted_in_the_editor, self.another_study_meanwhile, self.other_kinds_of_studies])


if __name__ == "__main__":
    start(WalkCorrections)
