"""Steps of the longer walk: all ways to run, on volumes that lie straight and askew."""

from __future__ import annotations

import numpy as np
import qt
import slicer
import vtk


class Runs:
    """Live preview, some slices, a box, masking, corrections, transforms."""

    def live_preview(self):
        """The slice on screen is segmented while somebody scrolls; the whole session is one undo step."""
        self.fresh()
        self.open_only("targetButton")
        self.choose("scopeCombo", "Slice on screen")
        red = slicer.app.layoutManager().sliceWidget("Red")
        self.show_slice_of_target(3)
        self.press("applyButton")
        run = self.panel.state.run
        self.until(lambda: 3 in run.written, what="the first live slice")
        assert self.ui.applyButton.text == "Stop the live preview"
        slider = slicer.util.findChild(red.sliceController(), "SliceOffsetSlider")
        step = 2 * slider.singleStep
        for _turn in range(3):
            slider.value = slider.value + step
            self.wait(0.05)
        self.until(lambda: self.on_screen() != 3, 10, "the slider to move the view")
        self.until(lambda: self.on_screen() in run.written and run.idle, what="the slice after the slider")
        by_slider = self.on_screen()
        assert by_slider != 3
        for _turn in range(3):
            self.wheel(red, -120)
        self.wait(0.1)
        assert self.on_screen() != by_slider, "the mouse wheel scrolls nothing"
        self.until(lambda: self.on_screen() in run.written and run.idle, what="the slice after the wheel")
        seen = sorted(run.written)
        self.picture("live", ["targetButton"])
        self.press("applyButton")
        self.until(lambda: run.ended, what="the end of the live preview")
        assert self.ui.applyButton.text == "Apply"
        mask = self.mask(run, "prostate", self.target)
        assert mask.any() and not np.delete(mask, seen, axis=0).any()
        print(f"live: slices {seen} were written")
        self.press("undoButton")
        assert not list(run.segmentation.GetSegmentation().GetSegmentIDs()), "the undo has left something"

    def live_with_another_support(self):
        """During a live preview other supports or objects change the slice on screen and no new segments appear."""
        self.fresh()
        second, marks = self.case(3)
        self.add_case(second, marks)
        self.aim(self.target)
        self.choose("scopeCombo", "Slice on screen")
        self.show_slice_of_target(5)
        self.press("applyButton")
        run = self.panel.state.run
        self.until(lambda: 5 in run.written, what="the first live slice")
        self.ui.supportTable.item(1, 0).setCheckState(qt.Qt.Unchecked)
        self.until(
            lambda: self.panel.state.run is not run and 5 in self.panel.state.run.written,
            30,
            "the slice with one support",
        )
        node = self.panel.state.run.segmentation
        assert node is run.segmentation, "another segmentation was made"
        names = [node.GetSegmentation().GetSegment(one).GetName() for one in node.GetSegmentation().GetSegmentIDs()]
        assert names == ["prostate"], f"segments pile up: {names}"
        self.press("applyButton")
        self.until(lambda: self.panel.state.run.ended, what="the end")

    def live_without_a_view(self):
        """Where no view shows the target's slices the panel says so."""
        self.fresh()
        for name in slicer.app.layoutManager().sliceViewNames():
            node = slicer.app.layoutManager().sliceWidget(name).mrmlSliceNode()
            node.SetOrientation("Axial")
            turn = vtk.vtkTransform()
            turn.RotateX(45)
            turn.RotateZ(45)
            turn.RotateY(45)
            node.GetSliceToRAS().DeepCopy(turn.GetMatrix())
            node.UpdateMatrices()
        self.choose("scopeCombo", "Slice on screen")
        self.press("applyButton")
        self.wait(2.0)
        told = self.ui.runLabel.text
        print("live without a view:", told)
        run = self.panel.state.run
        if run is not None and not run.ended:
            self.press("applyButton")
            self.until(lambda: run.ended, what="the end of the live preview")
        assert "view" in told

    def on_screen(self):
        """The target's slice that the views show."""
        from ProxyPromptSegmentModule.scene.slice_views import slice_on_screen

        return slice_on_screen(slicer.mrmlScene, self.target, "k")

    def show_slice_of_target(self, index):
        """All views go to a slice of the target."""
        from ProxyPromptSegmentModule.scene.slice_views import show_slice

        show_slice(slicer.mrmlScene, self.target, "k", index, center=True)
        self.wait(0.1)

    def wheel(self, widget, amount):
        """Turns the mouse wheel over a slice view."""
        view = widget.sliceView().VTKWidget() if hasattr(widget.sliceView(), "VTKWidget") else widget.sliceView()
        middle = qt.QPointF(view.width / 2, view.height / 2)
        event = qt.QWheelEvent(
            middle,
            qt.QPointF(view.mapToGlobal(qt.QPoint(view.width // 2, view.height // 2))),
            qt.QPoint(0, 0),
            qt.QPoint(0, amount),
            qt.Qt.NoButton,
            qt.Qt.NoModifier,
            qt.Qt.NoScrollPhase,
            False,
        )
        slicer.app.sendEvent(view, event)
        self.wait(0.05)

    def some_slices(self):
        """The range slider: these slices are written and no others; the views follow its ends."""
        self.fresh()
        self.open_only("targetButton")
        self.choose("scopeCombo", "Some slices")
        assert self.ui.sliceRange.visible and self.ui.sliceRange.maximum == 11
        self.ui.sliceRange.setMinimumValue(4)
        assert self.on_screen() == 4, "the views do not follow the slider"
        self.ui.sliceRange.setMaximumValue(6)
        assert self.on_screen() == 6
        assert "3 of 12" in self.ui.scopeLabel.text, self.ui.scopeLabel.text
        run = self.run_it()
        assert run.written == {4, 5, 6}, run.written
        mask = self.mask(run, "prostate", self.target)
        assert mask.any() and not np.delete(mask, [4, 5, 6], axis=0).any()
        self.picture("slices", ["targetButton"])

    def slices_in_a_box(self):
        """A box that is drawn with two clicks: the slices that it intersects are written, in full."""
        self.fresh()
        self.open_only("targetButton")
        self.choose("scopeCombo", "Slices in a box")
        assert not self.ui.applyButton.enabled and "box" in self.ui.reasonLabel.text
        box = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
        box.CreateDefaultDisplayNodes()
        self.ui.roiSelector.setCurrentNode(box)
        self.wait(0.1)
        assert "12 of 12" in self.ui.scopeLabel.text, self.ui.scopeLabel.text
        low, high = self.ras_of(self.target, (20, 20, 5)), self.ras_of(self.target, (60, 60, 7))
        matrix = vtk.vtkMatrix4x4()
        self.target.GetIJKToRASDirectionMatrix(matrix)
        matrix = np.array([[matrix.GetElement(r, c) for c in range(3)] for r in range(3)])
        size = np.abs(np.linalg.inv(matrix) @ (np.array(high) - low))
        full = vtk.vtkMatrix4x4()
        for r in range(3):
            for c in range(3):
                full.SetElement(r, c, matrix[r, c])
        box.SetAndObserveObjectToNodeMatrix(full)
        box.SetCenterWorld(*((a + b) / 2 for a, b in zip(low, high, strict=True)))
        box.SetSizeWorld(*size)
        self.wait(0.3)
        print("box:", self.ui.scopeLabel.text)
        run = self.run_it()
        assert run.written == {5, 6, 7}, run.written
        assert not np.delete(self.mask(run, "prostate", self.target), [5, 6, 7], axis=0).any()

    def editor_masking(self):
        """The Segment Editor's masking is honoured when it is ticked, and only then."""
        self.fresh()
        run = self.run_it()
        free = self.mask(run, "prostate", self.target)
        node = run.segmentation
        allowed = np.zeros_like(free)
        allowed[:, :, : int(np.nonzero(free)[2].mean())] = True
        node.GetSegmentation().AddEmptySegment("allowed", "allowed", [0.9, 0.2, 0.2])
        slicer.util.updateSegmentBinaryLabelmapFromArray(allowed.astype(np.uint8), node, "allowed", self.target)
        node.GetSegmentation().RemoveSegment(run.segment_ids["prostate"])  # what is not editable would stay in it
        slicer.util.selectModule("SegmentEditor")
        editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
        editor.setSegmentationNode(node)
        editor.setSourceVolumeNode(self.target)
        settings = editor.mrmlSegmentEditorNode()
        settings.SetMaskSegmentID("allowed")  # first: without a segment the editor takes the mode back
        settings.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment)
        settings.SetOverwriteMode(settings.OverwriteNone)
        self.wait(0.2)
        slicer.util.selectModule("ProxyPromptSegment")
        try:
            self.ui.honourEditorBox.checked = True
            masked = self.run_it()
            found = self.mask(masked, "prostate", self.target)
            assert np.array_equal(found, free & allowed), "masking inside of a segment is not honoured"
            assert np.array_equal(self.voxels(node, "allowed", self.target), allowed)
            self.ui.honourEditorBox.checked = False
            again = self.mask(self.run_it(), "prostate", self.target)
            assert np.array_equal(again, free), "masking is honoured although it is not ticked"
            assert np.array_equal(self.voxels(node, "allowed", self.target), allowed)
        finally:
            settings.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere)

    def correct_by_hand(self):
        """Corrections stay bit for bit, as a support and without being one, and in the same segment."""
        self.fresh()
        self.open_only("resultButton")
        run = self.run_it()
        free = self.mask(run, "prostate", self.target)
        k = int(np.argmax(free.sum(axis=(1, 2))))
        self.correct(run, k)
        corrected = self.mask(run, "prostate", self.target)
        assert not np.array_equal(corrected[k], free[k]), "the mouse has painted nothing"
        assert np.array_equal(np.delete(corrected, k, 0), np.delete(free, k, 0))
        # 1: as a support: the same segment is written, but not this slice.
        self.show_slice_of_target(k)
        self.press("useCorrectedButton")
        print("corrected slice:", self.ui.resultMessageLabel.text)
        assert self.ui.supportTable.rowCount == 2
        self.picture("corrected", ["supportButton"])
        second = self.run_it()
        assert second.segment_ids == run.segment_ids
        assert k not in second.written and len(second.written) == len(free) - 1
        assert np.array_equal(self.mask(second, "prostate", self.target)[k], corrected[k])
        # 2: another slice is corrected and is no support: neither slice is written again, and the segment is the same.
        self.correct(second, k + 1)
        corrected = self.mask(second, "prostate", self.target)
        third = self.run_it()
        assert third.segment_ids == second.segment_ids, "a second segment of the same structure"
        found = self.mask(third, "prostate", self.target)
        assert np.array_equal(found[[k, k + 1]], corrected[[k, k + 1]]), "a corrected slice was written again"
        assert third.segmentation.GetSegmentation().GetNumberOfSegments() == 1

    def correct(self, run, k):
        """Opens the Segment Editor by the button and paints on a slice of the result."""
        self.press("editButton")
        editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
        assert editor.segmentationNode() is run.segmentation and editor.sourceVolumeNode() is self.target
        assert slicer.util.selectedModule() == "SegmentEditor"
        editor.mrmlSegmentEditorNode().SetOverwriteMode(slicer.vtkMRMLSegmentEditorNode.OverwriteNone)
        editor.setCurrentSegmentID(run.segment_ids["prostate"])
        editor.setActiveEffectByName("Paint")
        editor.activeEffect().setCommonParameter("BrushRelativeDiameter", 5)
        self.wait(0.2)
        self.drag_through(self.target, [(10, 10, k), (14, 12, k), (18, 10, k)])
        editor.setActiveEffectByName("")
        slicer.util.selectModule("ProxyPromptSegment")
        self.wait(0.2)

    def askew(self):
        """Under a rotated parent transform the same voxels are written, and the views follow."""
        self.fresh()
        straight = self.mask(self.run_it(), "prostate", self.target)
        turn = vtk.vtkTransform()
        turn.Translate(12, -7, 30)
        turn.RotateX(15)
        turn.RotateZ(30)
        for of_support in (turn.GetMatrix(), None):  # a patient who lies askew; then the target alone
            self.fresh_under(of_support, turn.GetMatrix())
            self.press("applyButton")
            run, seen = self.panel.state.run, set()
            run.observe(lambda told, seen=seen: seen.add(self.on_screen()))
            self.until(lambda run=run: run.ended, what="the run")
            assert run.state == "finished", run.error
            found = self.mask(run, "prostate", self.target)
            assert np.array_equal(found, straight), "the transform has moved the result"
            print(f"askew: the views have followed to {len(seen)} of {len(run.written)} slices")
            assert len(seen) > 3

    def fresh_under(self, of_support, of_target):
        """A new scene whose nodes hang under transforms (matrices, or None)."""
        slicer.mrmlScene.Clear(0)
        self.wait(0.1)
        parents = []
        for matrix in (of_support, of_target):
            parents.append(None)
            if matrix is not None:
                parents[-1] = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "askew")
                parents[-1].SetMatrixTransformToParent(matrix)
        self.support, self.annotation = self.case(1, parent=parents[0])
        self.target, truth = self.case(2, parent=parents[1])
        slicer.mrmlScene.RemoveNode(truth)
        self.add_case(self.support, self.annotation)
        self.aim(self.target)
