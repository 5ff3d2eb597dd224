"""Steps of the longer walk: sequences, in time and of volumes."""

from __future__ import annotations

import numpy as np
import slicer


class Sequences:
    """A cine of single slices, and a series of volumes."""

    def sequence_of(self, arrays, like, name):
        """A sequence of volumes in a browser of its own: browser, proxy volume."""
        import vtk

        matrix = vtk.vtkMatrix4x4()
        like.GetIJKToRASMatrix(matrix)
        sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
        for number, array in enumerate(arrays):
            item = slicer.util.addVolumeFromArray(np.ascontiguousarray(array), name=f"{name} {number}")
            item.SetIJKToRASMatrix(matrix)
            sequence.SetDataNodeAtValue(item, str(number))
            slicer.mrmlScene.RemoveNode(item)
        browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", f"{name} browser")
        browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
        slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
        return browser, browser.GetProxyNode(sequence)

    def frames_shown(self, browser, run):
        """The masks of all items, by going through them."""
        found = []
        for number in range(browser.GetNumberOfItems()):
            browser.SetSelectedItemNumber(number)
            self.wait(0.05)
            found.append(self.voxels(run.segmentation, run.segment_ids["prostate"], self.target))
        return found

    def cine(self):
        """A cine, frame by frame and followed with a memory: the result is a sequence that plays with it."""
        self.fresh()
        array = slicer.util.arrayFromVolume(self.target)
        browser, proxy = self.sequence_of([array[n : n + 1] for n in range(3, 9)], self.target, "cine")
        slicer.mrmlScene.RemoveNode(self.target)
        self.target = proxy
        self.aim(proxy)
        self.open_only("targetButton", "modelButton")
        assert self.ui.scopeCombo.currentText == "Whole sequence", self.ui.scopeCombo.currentText
        for model, follow in (("sam-compact", False), ("sam2-compact", True)):
            self.choose("modelCombo", model)
            if follow:
                self.ui.followMemoryBox.click()
            assert self.ui.followMemoryBox.enabled == follow
            run = self.run_it()
            self.open_only("targetButton", "modelButton", "resultButton")
            assert run.written == set(range(6)), run.written
            masks = self.frames_shown(browser, run)
            assert any(mask.any() for mask in masks) and not all(np.array_equal(masks[0], mask) for mask in masks)
            assert not self.ui.whyPointButton.enabled and "sequences" in self.ui.whyPointButton.toolTip
            self.picture(f"cine_{model}", ["applyButton"])
        browser.SetPlaybackRateFps(20)
        browser.SetPlaybackActive(True)
        seen = set()
        end = 40
        while end and len(seen) < 4:
            self.wait(0.05)
            seen.add(browser.GetSelectedItemNumber())
            end -= 1
        browser.SetPlaybackActive(False)
        assert len(seen) >= 4, "the sequence does not play"
        if self.ui.doubtsList.count:
            self.ui.doubtsList.itemClicked(self.ui.doubtsList.item(0))
        before = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSequenceNode")
        self.press("undoButton")
        assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSequenceNode") == before - 1

    def series(self):
        """A 4D series: the item on screen alone, then all of it."""
        self.fresh()
        array = slicer.util.arrayFromVolume(self.target).copy()
        browser, proxy = self.sequence_of([array, array + 3], self.target, "series")
        slicer.mrmlScene.RemoveNode(self.target)
        self.target = proxy
        self.aim(proxy)
        self.open_only("targetButton")
        assert self.ui.scopeCombo.currentText == "Whole volume"
        assert "on screen" in self.ui.scopeLabel.text, self.ui.scopeLabel.text
        self.choose("scopeCombo", "Whole sequence")
        assert not self.ui.outputSelector.visible
        run = self.run_it()
        assert run.written == {0, 1}
        masks = self.frames_shown(browser, run)
        assert all(mask.any() for mask in masks)
        self.picture("series", ["targetButton"])
