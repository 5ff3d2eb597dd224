"""Walks through what prompts in a real Slicer: a class by its name, a structure model, points, boxes and masks by hand.

    Slicer --no-splash --disable-settings --additional-module-paths ProxyPromptSegment \
        --python-script Testing/Slicer/walk_prompts.py [FOLDER FOR PICTURES]

The variable STEPS names some of the steps, with commas between them; by default all of them are walked.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time

import numpy as np
import qt
import slicer

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # Slicer runs the file and does not know its folder

from walk_cases import WalkCases
from walking import start

SUPPORT, CLASS, STRUCTURE, HAND = range(4)


class WalkPrompts(WalkCases):
    """Steps that do not need each other: each begins with an empty scene."""

    # --- helpers ----------------------------------------------------------------------------------------------

    def alone(self):
        """A scene with a target and no annotated case."""
        slicer.mrmlScene.Clear(0)
        self.wait(0.1)
        self.target, truth = self.case(2)
        self.organ = self.voxels(truth, truth.GetSegmentation().GetNthSegmentID(0), self.target)
        slicer.mrmlScene.RemoveNode(truth)
        self.aim(self.target)

    def prompt_by(self, index):
        """Chooses what prompts."""
        self.ui.promptByCombo.currentIndex = index
        self.wait(0.2)

    def visible_parts(self, *names):
        """Those of some widgets that are shown."""
        return [name for name in names if getattr(self.ui, name).visible]

    def tick_class(self, *wanted):
        """Ticks some classes and unticks the others."""
        listed = self.ui.classList
        for number in range(listed.count):
            item = listed.item(number)
            item.setCheckState(qt.Qt.Checked if item.text() in wanted else qt.Qt.Unchecked)
        self.wait(0.1)

    def middle(self, index):
        """The voxel in the middle of the organ on a slice."""
        rows, columns = np.nonzero(self.organ[index])
        return round(columns.mean()), round(rows.mean()), index

    def answered(self, run, seconds=20):
        """Waits until the marks are answered; the seconds that it took."""
        begun = time.monotonic()
        self.wait(0.12)  # marks are read a moment after they are made
        self.until(lambda: run.idle and not run.pending, seconds, "the answer")
        assert not run.error, run.error
        return time.monotonic() - begun

    def apply_ends_at(self):
        """The lower end of Apply in the visible part of the panel, at the size that Slicer opens with."""
        dock = self.window.findChild("QDockWidget", "PanelDockWidget")
        self.window.resize(1100, 900)
        self.window.resizeDocks([dock], [362], qt.Qt.Horizontal)
        self.wait(0.4)
        area = self.panel_scroll()
        area.verticalScrollBar().setValue(0)
        self.wait(0.2)
        button = self.ui.applyButton
        place = button.mapTo(area.viewport(), qt.QPoint(0, 0))
        print(f"panel {area.viewport().width} x {area.viewport().height}, Apply ends at {place.y() + button.height}")
        return place.y() + button.height

    # --- steps ------------------------------------------------------------------------------------------------

    def apply_is_in_sight_whatever_prompts(self):
        """What does not apply is not shown, and Apply can be seen at 362 x 666."""
        self.fresh()
        parts = ("supportButton", "libraryButton", "whyButton", "classFrame", "handFrame", "registerSupportsBox")
        shown = {
            SUPPORT: ["supportButton", "libraryButton", "whyButton"],
            CLASS: ["classFrame"],
            STRUCTURE: ["classFrame"],
            HAND: ["handFrame"],
        }
        for index, name in ((SUPPORT, "support"), (CLASS, "class"), (STRUCTURE, "structure"), (HAND, "hand")):
            self.prompt_by(index)
            self.open_only("supportButton", "targetButton")
            assert self.visible_parts(*parts) == shown[index], (name, self.visible_parts(*parts))
            ends = self.apply_ends_at()
            self.narrow(f"prompt_by_{name}", "supportButton", "targetButton") if index == SUPPORT else self.snap(name)
            assert ends <= 666, f"{name}: Apply ends at {ends}"
            assert not self.overlaps(), self.overlaps()

    def snap(self, name):
        """A picture of the window as it is."""
        if self.pictures is not None:
            self.pictures.mkdir(parents=True, exist_ok=True)
            slicer.util.forceRenderAllViews()
            self.wait(0.2)
            self.window.grab().save(str(self.pictures / f"prompt_by_{name}.png"))

    def class_by_its_name(self):
        """A structure is searched, segmented without a support, and has its code and Slicer's colour."""
        self.alone()
        self.prompt_by(CLASS)
        assert not self.ui.applyButton.enabled and self.ui.classList.count == 24, self.ui.classList.count
        self.ui.classSearchEdit.text = "prost"
        self.wait(0.1)
        assert self.ui.classList.count == 1
        self.tick_class("prostate")
        run = self.run_it()
        segment = run.segmentation.GetSegmentation().GetSegment(run.segment_ids["prostate"])
        assert [round(255 * part) for part in segment.GetColor()] == [230, 158, 140], segment.GetColor()
        self.recommended_color(segment)
        self.ui.classSearchEdit.text = ""
        self.picture("class_result", ["resultButton"])
        self.press("undoButton")
        self.press("redoButton")

    def recommended_color(self, segment):
        """The colour is the one that Slicer's own terminology recommends for the code."""
        import vtk

        tag = vtk.reference("")
        segment.GetTag("TerminologyEntry", tag)
        entry = slicer.vtkSlicerTerminologyEntry()
        logic = slicer.modules.terminologies.logic()
        assert logic.DeserializeTerminologyEntry(str(tag), entry), str(tag)
        assert entry.GetTypeObject().GetCodeValue() == "41216001", str(tag)
        folder = logic.GetModuleShareDirectory()
        files = [os.path.join(folder, name) for name in os.listdir(folder) if "GeneralAnatomy" in name]
        kinds = [kind for file in files for kind in self.kinds_in(file) if kind["CodeValue"] == "41216001"]
        assert [230, 158, 140] in [kind.get("recommendedDisplayRGBValue") for kind in kinds], kinds

    def kinds_in(self, file):
        """The types of all categories of a terminology."""
        import json

        with open(file, encoding="utf-8") as opened:
            codes = json.load(opened)["SegmentationCodes"]
        return [kind for category in codes["Category"] for kind in category["Type"]]

    def class_that_cannot_be_shown(self):
        """A polyp is not looked for in MRI; a sentence says so."""
        self.alone()
        self.target.SetAttribute("DICOM.Modality", "MR")
        self.prompt_by(CLASS)
        self.tick_class("polyp")
        run = self.run_it()
        assert not self.mask(run, "polyp", self.target).any()
        assert "shows in endoscopy" in self.ui.runLabel.text, self.ui.runLabel.text
        self.snap("polyp_in_mri")

    def class_cancelled_and_another_patient(self):
        """Cancel keeps what is done; the next patient's result is another one."""
        self.alone()
        self.prompt_by(CLASS)
        self.tick_class("prostate")
        self.press("applyButton")
        run = self.panel.state.run
        self.until(lambda: run.written or run.ended, what="a slice")
        if not run.ended:
            self.press("applyButton")
        self.until(lambda: run.ended, what="the end")
        other = self.another()
        self.aim(other)
        assert not self.visible(run.segmentation)
        second = self.run_it()
        assert second.segmentation is not run.segmentation and self.visible(second.segmentation)

    def points_by_hand(self):
        """Clicks with the mouse are answered in under a second, undone, and tied to their image."""
        self.alone()
        self.prompt_by(HAND)
        self.ui.handNameEdit.text = "gland"
        self.ui.handNameEdit.editingFinished()
        self.press("insideButton")
        run = self.panel.state.run
        self.click_at(self.target, self.middle(6))
        self.answered(run, 60)
        i, j, k = self.middle(6)
        assert self.mask(run, "gland", self.target)[k, j, i], "the click was not answered"
        took = []
        for step in (3, 6):
            self.click_at(self.target, (i + step, j, k))
            took.append(self.answered(run))
        print(f"seconds of a further click: {', '.join(f'{one:.2f}' for one in took)}")
        assert min(took) < 1, took
        self.press("outsideButton")
        assert self.panel.state.run is run, "another run began"
        self.click_at(self.target, (i + 6, j, k))
        self.answered(run)
        assert not self.mask(run, "gland", self.target)[k, j, i + 6]
        self.picture("points", ["targetButton"])
        self.press("takeBackButton")
        self.answered(run)
        self.press("applyButton")  # Finish marking
        self.until(lambda: run.ended, what="the summary")
        assert run.state == "finished" and run.rows, run.error
        found = self.mask(run, "gland", self.target)
        other = self.another()
        self.aim(other)
        from ProxyPromptSegmentModule.scene.hand_marks import marks_of

        assert all(not node.GetDisplayNode().GetVisibility() for node in marks_of(slicer.mrmlScene, self.target))
        assert not self.ui.insideButton.checked and not self.panel.chosen.requests.said()
        self.aim(self.target)
        assert all(node.GetDisplayNode().GetVisibility() for node in marks_of(slicer.mrmlScene, self.target))
        self.press("undoButton")
        assert not run.segmentation.GetSegmentation().GetNumberOfSegments()
        self.press("redoButton")
        assert np.array_equal(self.mask(run, "gland", self.target), found)

    def boxes_by_hand(self):
        """A box that is dragged in a view lies on that slice alone."""
        self.alone()
        self.prompt_by(HAND)
        self.press("boxButton")
        run = self.panel.state.run
        rows, columns = np.nonzero(self.organ[6])
        corners = [(columns.min(), rows.min(), 6), (columns.max(), rows.max(), 6)]
        for corner in corners:  # Slicer takes two clicks
            self.click_at(self.target, corner)
            self.wait(0.2)
        self.until(lambda: run.written or run.ended, 60, "the answer to the box")
        self.until(lambda: run.ended, 60, "the end of the run")
        assert run.written == {6}, run.written
        self.picture("box", ["targetButton"])

    def painted_mask(self):
        """A segment that was painted roughly is drawn finer."""
        self.alone()
        rough = np.zeros(self.organ.shape, np.uint8)
        rough[6] = self.organ[6]
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "painted")
        node.CreateDefaultDisplayNodes()
        node.SetReferenceImageGeometryParameterFromVolumeNode(self.target)
        node.GetSegmentation().AddEmptySegment("rough", "rough")
        slicer.util.updateSegmentBinaryLabelmapFromArray(rough, node, "rough", self.target)
        self.prompt_by(HAND)
        self.wait(0.5)
        self.choose("handMaskCombo", "painted: rough")
        run = self.panel.state.run
        self.until(lambda: run.ended, 60, "the answer to the mask")
        assert run.written == {6} and self.mask(run, "object", self.target)[6].any()

    def everything_on_a_slice(self):
        """A labelled segmentation of its own, removed by the same button."""
        self.alone()
        self.prompt_by(HAND)
        self.press("everythingButton")
        run = self.panel.state.run
        self.until(lambda: run.ended, 120, "everything")
        assert run.state == "finished", run.error
        print(f"things found: {run.found}")
        assert run.found > 1, run.sentences
        self.picture("everything", ["targetButton"])
        node = run.segmentation
        self.press("everythingButton")
        assert not slicer.mrmlScene.IsNodePresent(node)

    def corrected_by_clicks(self):
        """The result of a support is corrected on the slice in view; the next run keeps that."""
        self.fresh()
        run = self.run_it()
        before = self.of(run)
        index = int(np.argmax(before.sum(axis=(1, 2))))
        rows, columns = np.nonzero(before[index])
        place = (round(columns.mean()), round(rows.mean()), index)
        self.open_only("reviewButton")
        self.press("clickOutsideButton")
        correcting = self.panel.state.run
        self.click_at(self.target, place)
        self.answered(correcting, 60)
        after = self.mask(correcting, "prostate", self.target)
        assert not after[index, place[1], place[0]] and np.array_equal(
            np.delete(after, index, 0), np.delete(before, index, 0)
        )
        self.picture("corrected", ["reviewButton"])
        self.press("clickOutsideButton")
        self.until(lambda: correcting.ended, 60, "the end of the corrections")
        again = self.run_it()
        assert not self.of(again)[index, place[1], place[0]], "the next run lost the correction"

    def saved_and_loaded(self):
        """Marks come back with the scene, on their own image; further clicks go on."""
        from ProxyPromptSegmentModule.scene.hand_marks import marks_of

        self.alone()
        self.prompt_by(HAND)
        self.press("insideButton")
        run = self.panel.state.run
        self.click_at(self.target, self.middle(6))
        self.answered(run, 60)
        self.press("applyButton")
        self.until(lambda: run.ended, what="the summary")
        path = os.path.join(tempfile.mkdtemp(), "marks.mrb")
        assert slicer.util.saveScene(path)
        slicer.mrmlScene.Clear(0)
        self.wait(0.3)
        slicer.util.loadScene(path)
        self.wait(0.5)
        target = self.panel.state.parameters.targetVolume
        assert target is not None and len(marks_of(slicer.mrmlScene, target)) == 1
        assert self.ui.promptByCombo.currentIndex == HAND and "inside 1" in self.ui.handLabel.text
        again = self.run_it()
        assert again.written == {6} and again.segmentation.GetSegmentation().GetNumberOfSegments() == 1

    def deleted_meanwhile(self):
        """Marks, target and scene are deleted while a run answers."""
        from ProxyPromptSegmentModule.scene.hand_marks import marks_of

        self.alone()
        self.prompt_by(HAND)
        self.press("insideButton")
        run = self.panel.state.run
        self.click_at(self.target, self.middle(6))
        self.answered(run, 60)
        (node,) = marks_of(slicer.mrmlScene, self.target)
        slicer.mrmlScene.RemoveNode(node)
        self.wait(0.3)
        self.until(lambda: run.ended or (run.idle and not run.written), 60, "the slice as it was before")
        self.press("insideButton")
        if not self.ui.insideButton.checked:
            self.press("insideButton")
        self.click_at(self.target, self.middle(6))
        self.wait(0.2)
        slicer.mrmlScene.RemoveNode(self.target)
        self.wait(0.5)
        assert not self.ui.insideButton.checked
        self.alone()
        self.prompt_by(HAND)
        self.press("insideButton")
        self.click_at(self.target, self.middle(6))
        slicer.mrmlScene.Clear(0)
        self.wait(0.5)
        self.prompt_by(SUPPORT)

    def all(self):
        """The steps in their order."""
        self.walk(
            [
                self.apply_is_in_sight_whatever_prompts,
                self.class_by_its_name,
                self.class_that_cannot_be_shown,
                self.class_cancelled_and_another_patient,
                self.points_by_hand,
                self.boxes_by_hand,
                self.painted_mask,
                self.everything_on_a_slice,
                self.corrected_by_clicks,
                self.saved_and_loaded,
                self.deleted_meanwhile,
            ]
        )


if __name__ == "__main__":
    start(WalkPrompts)
