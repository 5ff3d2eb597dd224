"""Walks through two patients in a real Slicer: whose result is it, what did the user draw, what do the numbers say?

    Slicer --no-splash --disable-settings --additional-module-paths ProxyPromptSegment \
        --python-script Testing/Slicer/walk_targets.py [FOLDER FOR PICTURES]

The variable STEPS names some of the steps, with commas between them; by default all of them are walked.
"""

from __future__ import annotations

import os
import sys
import tempfile

import numpy as np
import qt
import slicer

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # Slicer runs the file and does not know its folder

from walking import Walking, start


class WalkTargets(Walking):
    """Steps that do not need each other: each begins with an empty scene."""

    # --- helpers ----------------------------------------------------------------------------------------------

    def another(self):
        """A second target, whose truth is not in the scene."""
        volume, truth = self.case(3)
        slicer.mrmlScene.RemoveNode(truth)
        return volume

    def of(self, run):
        """The prostate of a run on its target."""
        return self.mask(run, "prostate", run.request.target)

    def paint(self, run, index, size=8):
        """A square is drawn by hand into a slice of the result, at its edge."""
        mask = self.of(run)
        mask[index, :size, :size] = True
        self.put(run, mask)
        return mask

    def put(self, run, mask):
        """Voxels as the Segment Editor's effects leave them."""
        slicer.util.updateSegmentBinaryLabelmapFromArray(
            mask.astype(np.uint8), run.segmentation, run.segment_ids["prostate"], run.request.target
        )

    def visible(self, node):
        """Whether a segmentation is shown."""
        return bool(node.GetDisplayNode().GetVisibility())

    def cell(self, column, row=0):
        """A cell of the table in the panel, by the beginning of its title."""
        table = self.ui.resultsTable
        titles = [table.horizontalHeaderItem(n).text().replace("\n", " ") for n in range(table.columnCount)]
        return table.item(row, next(n for n, title in enumerate(titles) if title.startswith(column))).text()

    def check_numbers(self, run):
        """The number in the panel is that of the segment."""
        self.until(lambda: self.is_counted(run), 10, "the numbers of the segment")

    def is_counted(self, run):
        """Whether the panel shows the segment's volume and slices."""
        mask = self.of(run)
        millilitres = mask.sum() * np.prod(run.request.target.GetSpacing()) / 1000
        return (
            abs(float(self.cell("Volume")) - millilitres) <= 0.006 * millilitres
            and int(self.cell("Slices")) == mask.any(axis=(1, 2)).sum()
        )

    # --- steps ------------------------------------------------------------------------------------------------

    def results_belong_to_a_target(self):
        """Defects 3 and 4: results, undo and table follow the target."""
        self.fresh()
        first = self.run_it()
        found = self.of(first)
        other = self.another()
        self.aim(other)
        self.open_only("resultButton")
        assert not self.visible(first.segmentation), "the first patient's result lies over the second"
        assert self.ui.resultButton.text == "Results" and not self.ui.undoButton.enabled
        second = self.run_it()
        assert second.segmentation is not first.segmentation
        assert self.ui.resultButton.text == f"Results of {other.GetName()}"
        self.picture("second_target", ["resultButton"])
        self.aim(self.target)
        assert self.visible(first.segmentation) and not self.visible(second.segmentation)
        assert self.ui.outputSelector.currentNode() is first.segmentation
        self.check_numbers(first)
        self.press("undoButton")
        assert first.undone and not second.undone
        self.press("redoButton")
        assert np.array_equal(self.of(first), found)
        self.press("editButton")
        self.wait(0.3)
        editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
        assert editor.segmentationNode() is first.segmentation and editor.sourceVolumeNode() is self.target
        slicer.util.selectModule("ProxyPromptSegment")

    def writing_into_another_patient_s_result(self):
        """Defect 6: nothing is replaced there."""
        self.fresh()
        first = self.run_it()
        found = self.of(first)
        grid = slicer.modules.volumes.logic().CloneVolume(slicer.mrmlScene, self.target, "on the same grid")
        self.aim(grid)
        self.ui.outputSelector.setCurrentNode(first.segmentation)
        self.wait(0.1)
        assert "new ones are added" in self.ui.scopeLabel.text
        second = self.run_it()
        assert second.segmentation is first.segmentation and second.segment_ids != first.segment_ids
        assert np.array_equal(self.of(first), found), "the first patient's segment was replaced"

    def corrected_while_it_runs(self):
        """Defect 1: drafts and final masks leave a slice that was changed meanwhile."""
        self.fresh()
        self.press("applyButton")
        run = self.panel.state.run
        self.until(lambda: len(run.written) >= 3 or run.ended, what="some slices")
        index = sorted(run.written)[0]
        drawn = self.paint(run, index)[index]
        self.until(lambda: run.ended, what="the run")
        assert run.state == "finished", run.error
        assert np.array_equal(self.of(run)[index], drawn), "the correction was overwritten by the same run"
        assert "Changed by hand" in self.ui.runLabel.text
        again = self.run_it()
        assert again.segment_ids == run.segment_ids and np.array_equal(self.of(again)[index], drawn)
        assert again.segmentation.GetSegmentation().GetNumberOfSegments() == 1, "a second segment of the same name"

    def numbers_follow_corrections(self):
        """Defect 2: the panel and the saved table count what is in the segment."""
        from ProxyPromptSegmentModule.scene import result_nodes

        self.fresh()
        run = self.run_it()
        self.open_only("resultButton")
        self.check_numbers(run)
        mask = self.of(run)
        index = int(np.argmax(mask.sum(axis=(1, 2))))
        mask[index] = False
        self.put(run, mask)
        self.check_numbers(run)
        self.until(
            lambda: float(result_nodes.table_of(run.segmentation).GetCellText(0, 2)) == mask.sum(), 5, "the table node"
        )
        self.choose("scopeCombo", "Some slices")
        self.ui.sliceRange.setValues(index + 1, index + 2)
        self.wait(0.1)
        again = self.run_it()
        assert again.segment_ids == run.segment_ids
        self.check_numbers(again)
        self.picture("numbers", ["resultButton"])

    def undo_keeps_hand_work(self):
        """Defect 7, and 13: no "prostate (2)" after an undo."""
        self.fresh()
        run = self.run_it()
        drawn = self.paint(run, 1)[1]
        self.wait(0.5)
        self.press("undoButton")
        left = self.of(run)
        assert np.array_equal(left[1], drawn) and not np.delete(left, 1, axis=0).any()
        assert "Changed by hand" in self.ui.resultMessageLabel.text
        again = self.run_it()
        names = [again.segmentation.GetSegmentation().GetSegment(one).GetName() for one in again.segment_ids.values()]
        assert names == ["prostate"] and np.array_equal(self.of(again)[1], drawn)
        assert again.segmentation.GetSegmentation().GetNumberOfSegments() == 1

    def editor_undo(self):
        """Defect 9: the Segment Editor's undo of an earlier stroke does not take a later run's segment along."""
        self.fresh()
        run = self.run_it()
        self.press("editButton")
        editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
        inside = run.segmentation.GetSegmentation()
        own = inside.AddEmptySegment("own", "own")
        editor.setCurrentSegmentID(own)
        editor.setActiveEffectByName("Paint")
        editor.activeEffect().setCommonParameter("BrushRelativeDiameter", 5)
        self.wait(0.3)
        self.drag_through(self.target, [(20, 20, 5), (26, 22, 5), (30, 24, 5)])
        editor.setActiveEffectByName("")
        assert self.voxels(run.segmentation, own, self.target).any(), "nothing was painted"
        slicer.util.selectModule("ProxyPromptSegment")
        self.tick("prostate")
        again = self.run_it()
        found, stroke = self.of(again), self.voxels(run.segmentation, own, self.target)
        editor.undo()  # takes the run back, which was last
        assert np.array_equal(self.voxels(run.segmentation, own, self.target), stroke), "the stroke went first"
        editor.redo()
        assert np.array_equal(self.of(again), found)
        editor.undo()
        editor.undo()
        assert not self.voxels(run.segmentation, own, self.target).any(), "the stroke can be undone no more"
        ids = again.segmentation.GetSegmentation().GetSegmentIDs()
        assert run.segment_ids["prostate"] in ids, "the segment of the first run went with the stroke"

    def table_at_the_first_press(self):
        """Defect 14: the table view shows the table at once; a second press goes back."""
        self.fresh()
        self.run_it()
        manager = slicer.app.layoutManager()
        before = manager.layout
        self.press("tableButton")
        self.wait(0.3)
        views = [manager.tableWidget(n).tableView() for n in range(manager.tableViewCount)]
        assert any(view.mrmlTableNode() is not None and view.mrmlTableNode().GetNumberOfRows() for view in views)
        self.press("tableButton")
        assert manager.layout == before

    def largest_section(self):
        """Defect 15: after a run the views show the largest section."""
        self.fresh()
        run = self.run_it()
        from ProxyPromptSegmentModule.scene.slice_views import slice_on_screen

        shown = slice_on_screen(slicer.mrmlScene, self.target, "k")
        areas = self.of(run).sum(axis=(1, 2))
        assert areas[shown] == areas.max(), (shown, areas)

    def deleted_while_it_runs(self):
        """Defect 17: a segment deleted during a run does not make the next one fail."""
        self.fresh()
        self.run_it()
        self.press("applyButton")
        run = self.panel.state.run
        self.until(lambda: run.written or run.ended, what="a slice")
        run.segmentation.GetSegmentation().RemoveSegment(run.segment_ids["prostate"])
        self.until(lambda: run.ended, what="the run")
        again = self.run_it()
        assert self.of(again).any()

    def saved_and_loaded(self):
        """Defect 18: what the scene knows is offered after loading."""
        self.fresh()
        run = self.run_it()
        drawn = self.paint(run, 1)[1]
        self.wait(0.5)
        listed = [self.ui.doubtsList.item(n).text() for n in range(self.ui.doubtsList.count)]
        name = self.target.GetName()
        path = os.path.join(tempfile.mkdtemp(), "session.mrb")
        assert slicer.util.saveScene(path)
        slicer.mrmlScene.Clear(0)
        slicer.util.loadScene(path)
        self.wait(0.5)
        self.target = slicer.util.getNode(name)
        self.ui.targetSelector.setCurrentNode(self.target)
        self.wait(0.2)
        assert self.ui.resultButton.text == f"Results of {name}"
        assert [self.ui.doubtsList.item(n).text() for n in range(self.ui.doubtsList.count)] == listed
        assert self.ui.tableButton.enabled and self.ui.recordButton.enabled and self.ui.editButton.enabled
        again = self.run_it()
        assert np.array_equal(self.of(again)[1], drawn), "a correction was lost by saving and loading"
        assert again.segmentation.GetSegmentation().GetNumberOfSegments() == 1

    def two_axial_views(self):
        """Defect 11: the view that was scrolled last is meant."""
        self.fresh()
        run = self.run_it()
        manager = slicer.app.layoutManager()
        before = manager.layout
        manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutTwoOverTwoView)
        self.wait(0.5)
        nodes = {name: manager.sliceWidget(name).mrmlSliceNode() for name in manager.sliceViewNames()}
        shown = np.flatnonzero(self.of(run).any(axis=(1, 2)))
        places = {"Red": int(shown[0]), "Green": int(shown[-1])}
        for name in places:
            nodes[name].SetOrientationToAxial()
            nodes[name].RotateToVolumePlane(self.target)
        self.panel.refresh()
        for name in ("Red", "Green"):
            index = places[name]
            self.paint(run, index)
            self.wait(0.5)
            nodes[name].JumpSliceByOffsetting(*self.ras_of(self.target, (10, 10, index)))
            self.wait(0.1)
            self.press("useCorrectedButton")
            said = self.ui.resultMessageLabel.text
            assert f"Slice {index} is now" in said, (name, places, said)
        manager.setLayout(before)

    def apply_is_in_sight(self):
        """Defect 16: at the width and height that Slicer opens with, nothing overlaps and Apply can be seen."""
        self.fresh()
        self.open_only("supportButton", "targetButton")  # as the panel opens
        dock = self.window.findChild("QDockWidget", "PanelDockWidget")
        self.window.resize(1100, 900)
        self.window.resizeDocks([dock], [362], qt.Qt.Horizontal)
        self.wait(0.5)
        area = self.panel_scroll()
        area.verticalScrollBar().setValue(0)
        self.wait(0.2)
        button = self.ui.applyButton
        place = button.mapTo(area.viewport(), qt.QPoint(0, 0))
        print(f"panel {area.viewport().width} x {area.viewport().height}, Apply ends at {place.y() + button.height}")
        if self.pictures is not None:
            self.pictures.mkdir(parents=True, exist_ok=True)
            self.window.grab().save(str(self.pictures / "narrow.png"))
        overlapping = self.overlaps()
        assert not overlapping, overlapping
        lowest = min(596, area.viewport().height)  # what is seen of the panel on a screen of 1366 x 768
        assert place.y() + button.height <= lowest, "Apply is below the visible part of the panel"
        self.ui.outputBox.collapsed = False
        self.wait(0.3)
        overlapping = self.overlaps()
        assert self.ui.outputSelector.visible and not overlapping, overlapping
        self.ui.outputBox.collapsed = True

    def overlaps(self):
        """Pairs of visible widgets of the panel that overlap though neither holds the other."""
        widgets = [
            (name, one)
            for name, one in vars(self.ui).items()
            if hasattr(one, "isVisible") and one.isVisible() and hasattr(one, "mapToGlobal")
        ]
        boxes = [(name, one, qt.QRect(one.mapToGlobal(qt.QPoint(0, 0)), one.size)) for name, one in widgets]
        found = []
        for number, (name, one, box) in enumerate(boxes):
            for other_name, other, other_box in boxes[number + 1 :]:
                if one.isAncestorOf(other) or other.isAncestorOf(one):
                    continue
                shared = box.intersected(other_box)
                if shared.width() > 1 and shared.height() > 1:
                    found.append((name, other_name, shared.height()))
        return found

    def all(self):
        """The steps in their order."""
        self.walk(
            [
                self.results_belong_to_a_target,
                self.writing_into_another_patient_s_result,
                self.corrected_while_it_runs,
                self.numbers_follow_corrections,
                self.undo_keeps_hand_work,
                self.editor_undo,
                self.table_at_the_first_press,
                self.largest_section,
                self.deleted_while_it_runs,
                self.saved_and_loaded,
                self.two_axial_views,
                self.apply_is_in_sight,
            ]
        )


if __name__ == "__main__":
    start(WalkTargets)
