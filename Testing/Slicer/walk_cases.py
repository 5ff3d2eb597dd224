"""Walks through a list of patients in a real Slicer: which is done, what is doubtful, what was corrected?

    Slicer --no-splash --disable-settings --additional-module-paths ProxyPromptSegment \
        --python-script Testing/Slicer/walk_cases.py [FOLDER FOR PICTURES]

The variable STEPS names some of the steps, with commas between them; by default all of them are walked.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import numpy as np
import slicer

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # Slicer runs the file and does not know its folder

from walk_targets import WalkTargets
from walking import start


class WalkCases(WalkTargets):
    """Steps that do not need each other: each begins with an empty scene."""

    # --- helpers ----------------------------------------------------------------------------------------------

    def cases(self):
        """The lines of the list of cases."""
        listed = self.ui.casesList
        return [listed.item(number).text().split("\n")[0] for number in range(listed.count)]

    def narrow(self, name, *sections):
        """A picture at the width and height that Slicer opens with."""
        dock = self.window.findChild("QDockWidget", "PanelDockWidget")
        self.window.resize(1100, 900)
        self.open_only(*sections)
        self.window.resizeDocks([dock], [362], self.horizontal())
        self.wait(0.4)
        if sections:
            self.scroll_to(sections[0])
        self.wait(0.3)
        if self.pictures is not None:
            self.pictures.mkdir(parents=True, exist_ok=True)
            self.window.grab().save(str(self.pictures / f"{name}.png"))
        overlapping = self.overlaps()
        assert not overlapping, overlapping

    def horizontal(self):
        """The direction in which docks are resized."""
        import qt

        return qt.Qt.Horizontal

    # --- steps ------------------------------------------------------------------------------------------------

    def empty_scene(self):
        """The hint loads the sample data, which can be segmented at once."""
        slicer.mrmlScene.Clear(0)
        self.wait(0.3)
        assert self.ui.hintFrame.visible
        self.narrow("hint")
        self.press("sampleButton")
        self.until(lambda: self.panel.state.parameters.targetVolume is not None, 10, "the target")
        assert not self.ui.hintFrame.visible
        self.until(lambda: self.ui.addSupportButton.enabled, 10, "the annotated case")

    def states_follow_the_work(self):
        """New, segmented, corrected; of each patient alone; saved and loaded."""
        self.fresh()
        other = self.another()
        self.wait(0.5)
        mine, others = self.target.GetName(), other.GetName()
        assert self.cases() == [f"{mine}: new", f"{others}: new"], self.cases()
        run = self.run_it()
        assert self.cases() == [f"{mine}: segmented", f"{others}: new"], self.cases()
        self.press("nextCaseButton")
        assert self.panel.state.parameters.targetVolume is other and not self.visible(run.segmentation)
        second = self.run_it()
        self.paint(second, 1)
        self.until(lambda: self.cases() == [f"{mine}: segmented", f"{others}: corrected"], 10, "the correction")
        self.narrow("cases", "casesButton")
        self.click_line(0)
        self.wait(0.1)
        assert self.panel.state.parameters.targetVolume is self.target and self.visible(run.segmentation)
        path = os.path.join(tempfile.mkdtemp(), "session.mrb")
        assert slicer.util.saveScene(path)
        slicer.mrmlScene.Clear(0)
        self.wait(0.2)
        assert self.cases() == []
        slicer.util.loadScene(path)
        self.wait(0.5)
        assert self.cases() == [f"{mine}: segmented", f"{others}: corrected"], self.cases()
        slicer.mrmlScene.RemoveNode(slicer.util.getNode(mine))
        self.until(lambda: self.cases() == [f"{others}: corrected"], 5, "the removal of a case")

    def keys_and_strip(self):
        """The strip, the keys and accepting; no key of ours is one of Slicer's, or works in another module."""
        self.fresh()
        run = self.run_it()
        self.open_only("reviewButton")
        self.wait(0.2)
        strip = self.ui.confidenceStrip
        assert strip.visible and strip.columnCount == 12, strip.columnCount
        self.click_cell(strip, 7)
        assert self.on_screen() == 7, self.on_screen()
        assert self.marked(strip) == [7]
        self.narrow("review", "reviewButton")
        widths = {strip.columnWidth(column) for column in range(12)}
        assert min(widths) >= 10 and sum(strip.columnWidth(column) for column in range(12)) <= strip.width, widths
        self.no_key_clashes()
        doubts = self.panel.chosen.result.now().doubts
        if doubts:
            self.type_key("shift+n")
            assert self.on_screen() == doubts[0].index
        self.type_key("shift+t")
        assert not self.visible(run.segmentation)
        self.type_key("shift+t")
        assert self.visible(run.segmentation)
        self.type_key("shift+a")
        assert self.cases() == [f"{self.target.GetName()}: accepted"], self.cases()
        slicer.util.selectModule("Data")
        self.wait(0.3)
        self.type_key("shift+t")
        self.type_key("shift+u")
        assert self.visible(run.segmentation) and not run.undone, "a key worked in another module"
        slicer.util.selectModule("ProxyPromptSegment")
        self.wait(0.3)
        self.paint(run, 1)
        self.until(lambda: self.cases() == [f"{self.target.GetName()}: corrected"], 10, "the end of the acceptance")
        self.type_key("shift+u")
        assert run.undone and self.of(run)[1].any(), "the key for undo"

    def strokes(self):
        """Paint and erase from the panel, on the result only; the last stroke is taken back."""
        self.fresh()
        run = self.run_it()
        self.open_only("reviewButton")
        found = self.of(run)
        index = int(np.argmax(found.sum(axis=(1, 2))))
        self.press("paintButton")
        self.drag_through(self.target, [(8, 10, index), (14, 12, index), (20, 14, index)])
        painted = self.of(run)
        assert (painted & ~found)[index].sum() > 10, "nothing was painted"
        assert np.array_equal(np.delete(painted, index, axis=0), np.delete(found, index, axis=0))
        self.until(lambda: self.cases() == [f"{self.target.GetName()}: corrected"], 10, "the state of the case")
        self.check_numbers(run)
        self.narrow("strokes", "reviewButton")
        self.press("eraseButton")
        rows, columns = np.nonzero(found[index])
        row = int(rows.mean())
        self.drag_through(self.target, [(int(columns.min()), row, index), (int(columns.max()), row, index)])
        erased = self.of(run)
        assert (painted & ~erased)[index].sum() > 5, "nothing was erased"
        self.press("undoStrokeButton")
        assert np.array_equal(self.of(run), painted)
        self.press("undoStrokeButton")
        assert np.array_equal(self.of(run), found)
        self.until(lambda: self.cases() == [f"{self.target.GetName()}: segmented"], 10, "strokes taken back")
        self.press("paintButton")
        assert self.ui.paintButton.checked and not self.ui.eraseButton.checked
        other = self.another()
        self.aim(other)
        assert not self.ui.paintButton.checked
        self.drag_through(other, [(8, 10, index), (14, 12, index)])
        self.aim(self.target)
        assert np.array_equal(self.of(run), found), "a stroke on another patient reached this result"
        slicer.util.selectModule("SegmentEditor")
        self.wait(0.3)
        slicer.util.selectModule("ProxyPromptSegment")

    def refined_live(self):
        """Small pieces and smoothing, at once and back; hand work stays, undo takes all of the run back."""
        self.fresh()
        run = self.run_it()
        self.open_only("reviewButton")
        found = self.of(run)
        drawn = self.paint(run, 1)[1]
        self.wait(0.5)
        self.tick_box("smoothBox")
        smooth = self.of(run)
        assert not np.array_equal(smooth, found) and np.array_equal(smooth[1], drawn)
        assert self.ui.smoothBox.checked
        self.check_numbers(run)
        self.tick_box("piecesBox")
        self.tick_box("smoothBox", False)
        self.tick_box("piecesBox", False)
        back = self.of(run)
        assert np.array_equal(np.delete(back, 1, axis=0), np.delete(found, 1, axis=0)) and np.array_equal(
            back[1], drawn
        )
        self.tick_box("smoothBox")
        self.press("undoButton")
        left = self.of(run)
        assert np.array_equal(left[1], drawn) and not np.delete(left, 1, axis=0).any()
        assert not self.ui.smoothBox.enabled
        self.press("redoButton")
        assert np.array_equal(np.delete(self.of(run), 1, axis=0), np.delete(smooth, 1, axis=0))

    def tick_box(self, name, wanted=True):
        """Ticks a box, or unticks it, and waits until the slices are written."""
        box = getattr(self.ui, name)
        assert box.enabled and box.checked != wanted, (name, box.toolTip)
        box.click()
        self.until(lambda: box.enabled and box.checked == wanted and not self.panel.state.run.pending, 30, name)
        self.wait(0.1)

    def overlay(self):
        """The colours lie over the target, and never over another patient."""
        self.fresh()
        self.run_it()
        self.open_only("reviewButton")
        views = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
        assert all(view.GetForegroundVolumeID() is None for view in views)
        self.ui.overlayBox.click()
        self.until(lambda: all(view.GetForegroundVolumeID() for view in views), 30, "the overlay")
        assert self.ui.overlayBox.checked
        self.narrow("overlay", "reviewButton")
        other = self.another()
        self.aim(other)
        assert all(view.GetForegroundVolumeID() is None for view in views) and not self.ui.overlayBox.checked
        assert self.cases() == [f"{self.target.GetName()}: segmented", f"{other.GetName()}: new"], self.cases()

    def on_screen(self):
        """The slice of the target in the views."""
        from ProxyPromptSegmentModule.scene.slice_views import slice_on_screen

        return slice_on_screen(slicer.mrmlScene, self.target, "k")

    def marked(self, strip):
        """The cells with the mark of the slice on screen."""
        return [n for n in range(strip.columnCount) if strip.item(1, n).background().color().red() == 20]

    def click_cell(self, table, column):
        """A click on a cell of the strip."""
        import qt

        box = table.visualItemRect(table.item(0, column))
        point = (float(box.center().x()), float(box.center().y()))
        for kind in (qt.QEvent.MouseButtonPress, qt.QEvent.MouseButtonRelease):
            self.mouse(table.viewport(), kind, point, qt.Qt.LeftButton)
        self.wait(0.1)

    def no_key_clashes(self):
        """Each key of the panel is used once in the whole window."""
        from ProxyPromptSegmentModule.panel.shortcuts import Key

        found = [one.toString() for action in self.window.findChildren("QAction") for one in action.shortcuts()]
        found += [one.key.toString() for one in self.window.findChildren("QShortcut")]
        for key in Key:
            assert found.count(str(key)) == 1, (key, found)

    def type_key(self, keys):
        """Presses keys on the keyboard of the display."""
        self.window.activateWindow()
        self.window.setFocus()
        self.wait(0.1)
        subprocess.run(["xdotool", "key", keys], check=True)
        self.wait(0.4)

    def click_line(self, number):
        """A click on a line of the list of cases."""
        import qt

        listed = self.ui.casesList
        box = listed.visualItemRect(listed.item(number))
        point = (float(box.center().x()), float(box.center().y()))
        for kind, button in (
            (qt.QEvent.MouseButtonPress, qt.Qt.LeftButton),
            (qt.QEvent.MouseButtonRelease, qt.Qt.LeftButton),
        ):
            self.mouse(listed.viewport(), kind, point, button)

    def all(self):
        """The steps in their order."""
        self.walk(
            [
                self.apply_is_in_sight,
                self.empty_scene,
                self.states_follow_the_work,
                self.keys_and_strip,
                self.strokes,
                self.refined_live,
                self.overlay,
            ]
        )


if __name__ == "__main__":
    start(WalkCases)
