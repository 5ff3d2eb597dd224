"""Walks through the tutorial in a real Slicer, with the mouse, and takes its pictures; the exit status is the result.

    Slicer --no-splash --disable-settings --additional-module-paths ProxyPromptSegment \
        --python-script Testing/Slicer/walk.py [FOLDER FOR PICTURES]

A support is painted by hand, applied, cancelled, applied again; the structure is switched, the result undone and
brought back, saved, the scene closed in the middle of a run, and loaded again.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading

import numpy as np
import slicer

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # Slicer runs the file and does not know its folder

from walking import Walking, start


class Walk(Walking):
    """One walk; every step is a method, and a failed assertion ends it."""

    # --- steps ------------------------------------------------------------------------------------------------

    def load_cases(self):
        """The sample data of the tutorial."""
        from ProxyPromptSegmentModule.scene import sample_data

        self.support, self.annotation = sample_data.load_support()
        self.target = sample_data.load_target()
        self.wait(0.5)

    def paint_a_segment(self):
        """Another structure is painted into the annotation with the mouse, on three slices."""
        slicer.util.selectModule("SegmentEditor")
        editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
        editor.setSegmentationNode(self.annotation)
        editor.setSourceVolumeNode(self.support)
        self.annotation.GetSegmentation().AddEmptySegment("central", "central gland", [0.2, 0.5, 0.9])
        editor.setCurrentSegmentID("central")
        editor.setActiveEffectByName("Paint")
        effect = editor.activeEffect()
        assert effect is not None, "the effect Paint is missing"
        effect.setCommonParameter("BrushRelativeDiameter", 4)
        # The prostate stays below it; otherwise the support check would rightly complain about its specks.
        editor.mrmlSegmentEditorNode().SetOverwriteMode(slicer.vtkMRMLSegmentEditorNode.OverwriteNone)
        slicer.util.setSliceViewerLayers(background=self.support, fit=True)
        self.wait(0.5)
        truth = np.asarray(slicer.util.arrayFromSegmentBinaryLabelmap(self.annotation, "prostate", self.support)) > 0
        shown = np.flatnonzero(truth.any(axis=(1, 2)))
        for k in shown[len(shown) // 2 - 1 : len(shown) // 2 + 2]:
            j, i = (int(n.mean()) for n in np.nonzero(truth[k]))
            self.drag_through(self.support, [(i - 3, j, int(k)), (i, j + 2, int(k)), (i + 3, j, int(k))])
        painted = np.asarray(slicer.util.arrayFromSegmentBinaryLabelmap(self.annotation, "central", self.support)) > 0
        assert painted.sum() > 20, "the mouse has painted nothing"
        self.picture("editor", narrow=False)
        editor.setActiveEffectByName("")
        slicer.util.selectModule("ProxyPromptSegment")
        self.wait(0.5)

    def add_support(self):
        """Selectors, then the button."""
        self.open_only("supportButton")
        self.ui.supportSegmentationSelector.setCurrentNode(self.annotation)
        self.ui.supportVolumeSelector.setCurrentNode(self.support)
        self.press("addSupportButton")
        assert self.ui.supportTable.rowCount == 1, self.ui.supportMessageLabel.text
        self.tick("prostate")
        self.press("showSupportButton")
        self.picture("supports", ["supportButton"])
        self.ui.targetSelector.setCurrentNode(self.target)

    def apply_and_cancel(self):
        """Cancels in the middle; what is done stays."""
        self.open_only("targetButton")
        for name in slicer.app.layoutManager().sliceViewNames():
            slicer.app.layoutManager().sliceWidget(name).mrmlSliceNode().RotateToVolumePlane(self.target)
        self.press("applyButton")
        run = self.panel.state.run
        self.until(lambda: len(run.written) >= 4, what="the first slices")
        assert self.ui.applyButton.text == "Cancel"
        assert not self.annotation.GetDisplayNode().GetVisibility(), "another patient's contour lies on the target"
        self.press("applyButton")
        self.until(lambda: run.ended, what="the cancel")
        print(f"{run.state}: {len(run.written)} slices are kept")
        assert run.state == "cancelled", run.error
        assert 4 <= len(run.written) < 28
        done = sorted(run.written)
        mask = self.mask(run, "prostate", self.target)
        assert mask[done].any() and not np.delete(mask, done, axis=0).any()

    def apply_again(self):
        """Runs to the end."""
        self.press("applyButton")
        run = self.panel.state.run
        self.until(lambda: len(run.written) >= 4, what="the first slices")
        self.picture("running", ["targetButton"], waiting=0.15)
        self.until(lambda: run.ended, what="the run")
        assert run.state == "finished", run.error
        self.first = self.mask(run, "prostate", self.target)
        assert self.first.any()
        from ProxyPromptSegmentModule.scene import sample_data

        truth = sample_data.target_truth() > 0
        dice = 2 * (self.first & truth).sum() / (self.first.sum() + truth.sum())
        print(f"Dice of the sample case: {dice:.3f}")
        assert dice > 0.8
        self.open_only("resultButton")
        run.segmentation.CreateClosedSurfaceRepresentation()  # what the button Show 3D does
        self.wait(1.0)
        slicer.util.resetThreeDViews()
        k = int(np.argmax(self.first.sum(axis=(1, 2))))
        slicer.vtkMRMLSliceNode.JumpAllSlices(
            slicer.mrmlScene, *self.ras_of(self.target, (80, 80, k)), slicer.vtkMRMLSliceNode.OffsetJumpSlice
        )
        self.picture("result", ["applyButton"])
        self.run = run

    def ask_why(self):
        """A click into the view is answered with pictures of the support."""
        self.open_only("whyButton")
        self.ui.whyPointButton.checked = True
        self.wait(0.2)
        k, j, i = (int(n.mean()) for n in np.nonzero(self.first))
        self.click_at(self.target, (i, j, k))
        self.until(lambda: self.ui.whyList.count > 0, what="an answer to why")
        self.picture("why", ["whyButton"])
        self.ui.whyPointButton.checked = False
        self.wait(0.2)

    def switch_the_structure(self):
        """Another object: segmented at once, nothing embedded again, the first result stays."""
        self.open_only("supportButton")
        self.tick("central")
        self.until(
            lambda: self.panel.state.run is not self.run and self.panel.state.run.ended, what="the run after the switch"
        )
        run = self.panel.state.run
        assert run.state == "finished", run.error
        assert run.result.embedded == 0, f"{run.result.embedded} slices were embedded again"
        assert np.array_equal(self.mask(self.run, "prostate", self.target), self.first)
        self.open_only("resultButton")
        self.press("undoButton")
        assert self.panel.state.run.undone
        ids = run.segmentation.GetSegmentation().GetSegmentIDs()
        assert run.segment_ids["central gland"] not in ids
        assert np.array_equal(self.mask(self.run, "prostate", self.target), self.first)
        self.press("redoButton")
        assert not self.panel.state.run.undone

    def check_and_suggest(self):
        """The support check answers in words."""
        self.open_only("supportButton")
        self.press("checkSupportsButton")
        self.until(lambda: "hecking" not in self.ui.supportMessageLabel.text, what="the support check")
        print("support check:", self.ui.supportMessageLabel.text.replace("\n", " | "))
        assert self.ui.supportMessageLabel.text

    def save_close_and_load(self):
        """Saves, closes the scene in the middle of a run, loads again: everything is there."""
        name, objects = self.run.segmentation.GetName(), set(self.run.segment_ids)
        folder = tempfile.mkdtemp()
        path = os.path.join(folder, "session.mrb")
        assert slicer.util.saveScene(path), "the scene could not be saved"
        self.tick("prostate")
        self.open_only("targetButton")
        if self.panel.state.run.ended:
            self.press("applyButton")
        run = self.panel.state.run
        self.until(lambda: run.ended or len(run.written) >= 2, what="some slices before the scene is closed")
        slicer.mrmlScene.Clear(0)
        self.wait(1.0)
        assert run.ended, f"the run is {run.state} although the scene was closed"
        assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode"), "something was written into a closed scene"
        slicer.util.loadScene(path)
        self.wait(1.0)
        self.target = slicer.util.getNode(
            self.target.GetName() if self.target.GetScene() else "ProxyPromptPelvisTarget"
        )
        segmentation = slicer.util.getNode(name)
        for wanted in objects:
            segment_id = segmentation.GetSegmentation().GetSegmentIdBySegmentName(wanted)
            found = np.asarray(slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment_id, self.target)) > 0
            assert np.array_equal(found, self.first), "the saved result is another one"
        assert self.ui.supportTable.rowCount == 1, "the support was not saved with the scene"
        assert self.ui.targetSelector.currentNode() is self.target
        self.open_only("supportButton", "targetButton")
        self.press("applyButton")
        run = self.panel.state.run
        self.until(lambda: run.ended, what="a run in the loaded scene")
        assert run.state == "finished", run.error

    def leave(self):
        """No thread stays behind, and nothing was logged as an error by us."""
        assert self.widget.logic.shutdown()
        alive = [thread.name for thread in threading.enumerate() if thread.name.startswith("ProxyPrompt")]
        assert not alive, f"threads are left over: {alive}"

    def all(self):
        """The steps in their order."""
        self.walk(
            [
                self.load_cases,
                self.paint_a_segment,
                self.add_support,
                self.check_and_suggest,
                self.apply_and_cancel,
                self.apply_again,
                self.ask_why,
                self.switch_the_structure,
                self.save_close_and_load,
                self.leave,
            ]
        )


if __name__ == "__main__":
    start(Walk)
