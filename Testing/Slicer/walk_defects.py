"""Walks in a real Slicer through what a radiologist stumbled over and no other walk shows; README.md lists them all.

    Slicer --no-splash --disable-settings --additional-module-paths ProxyPromptSegment \
        --python-script Testing/Slicer/walk_defects.py [FOLDER FOR PICTURES]

The variable STEPS names some of the steps, with commas between them; by default all of them are walked.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import qt
import slicer
import vtk

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # Slicer runs the file and does not know its folder

from walk_targets import WalkTargets
from walking import SECTIONS, start

DEGREES = (30, 44, 46, 60, 90)
WIDTHS = (362, 420, 700)


class WalkDefects(WalkTargets):
    """Steps that do not need each other: each begins with an empty scene."""

    # --- helpers ----------------------------------------------------------------------------------------------

    def from_files(self, volume, segmentation=None):
        """The same case as a user loads it: the annotation of a file refers to no image."""
        folder = Path(tempfile.mkdtemp())
        names = [node.GetName() for node in (volume, segmentation) if node is not None]
        assert slicer.util.saveNode(volume, str(folder / "image.nrrd"))
        slicer.mrmlScene.RemoveNode(volume)
        loaded = [slicer.util.loadVolume(str(folder / "image.nrrd"), {"name": names[0], "show": False})]
        if segmentation is not None:
            assert slicer.util.saveNode(segmentation, str(folder / "marks.seg.nrrd"))
            slicer.mrmlScene.RemoveNode(segmentation)
            loaded.append(slicer.util.loadSegmentation(str(folder / "marks.seg.nrrd"), {"name": names[1]}))
        return loaded if segmentation is not None else loaded[0]

    def turned(self, axis, degrees):
        """A turn about an axis of the world, by its name."""
        turn = vtk.vtkTransform()
        getattr(turn, f"Rotate{axis}")(degrees)
        return turn.GetMatrix()

    def put_voxels(self, volume, array):
        """Other voxels for a volume."""
        slicer.util.updateVolumeFromArray(volume, array)
        volume.Modified()
        self.wait(0.1)

    # --- steps ------------------------------------------------------------------------------------------------

    def annotation_of_another_case(self):
        """Defect 5: an annotation from a file is not paired with the image of another case without a question."""
        self.fresh()
        image, marks = self.case(3)
        image, marks = self.from_files(image, marks)
        rows = self.ui.supportTable.rowCount
        self.ui.supportSegmentationSelector.setCurrentNode(marks)
        self.wait(0.1)
        chosen = self.ui.supportVolumeSelector.currentNode()
        assert chosen is not self.support, "the image of the first case stays beside the annotation of another"
        assert chosen is image, chosen and chosen.GetName()
        self.ui.supportVolumeSelector.setCurrentNode(self.support)  # the user insists
        self.press("addSupportButton")
        said = self.ui.supportMessageLabel.text
        assert self.ui.supportTable.rowCount == rows, "a wrong pair was added without a question"
        assert "belong together" in said and image.GetName() in said, said
        self.picture("doubtful_pair", ["supportButton"])
        self.ui.supportVolumeSelector.setCurrentNode(image)
        self.press("addSupportButton")
        assert self.ui.supportTable.rowCount == rows + 1, self.ui.supportMessageLabel.text
        assert not self.ui.supportMessageLabel.text, self.ui.supportMessageLabel.text

    def annotation_on_another_grid(self):
        """Defect 5: what the notes of a support say can be seen in the table."""
        self.fresh()
        image, marks = self.case(3, size=(10, 72, 72))
        slicer.mrmlScene.RemoveNode(image)
        self.ui.supportSegmentationSelector.setCurrentNode(marks)
        self.ui.supportVolumeSelector.setCurrentNode(self.target)
        self.press("addSupportButton")
        assert "another grid" in self.ui.supportMessageLabel.text, self.ui.supportMessageLabel.text
        rows = self.ui.supportTable.rowCount
        self.press("addSupportButton")
        assert self.ui.supportTable.rowCount == rows + 1, self.ui.supportMessageLabel.text
        note = self.ui.supportTable.item(rows, 4)
        assert note.text() and "grid" in note.toolTip(), (note.text(), note.toolTip())

    def tilted(self):
        """Defect 8: an image that lies turned, by any angle about any axis, gives the same mask."""
        self.fresh()
        straight = self.of(self.run_it())
        for axis in "XYZ":
            for degrees in DEGREES:
                self.fresh(self.parent_of(axis, degrees))
                found = self.of(self.run_it())
                dice = 2 * (found & straight).sum() / (found.sum() + straight.sum())
                print(f"turned by {degrees} degrees about {axis}: Dice {dice:.3f}", flush=True)
                assert np.array_equal(found, straight), (axis, degrees, dice)

    def parent_of(self, axis, degrees):
        """A function that makes the transform of the target, once the scene is empty."""

        def make():
            node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", f"turned {axis} {degrees}")
            node.SetMatrixTransformToParent(self.turned(axis, degrees))
            return node

        return make

    def closed_during_a_check(self):
        """Defect 10: the button is there again after the scene was closed during a check."""
        self.fresh()
        self.open_only("supportButton")
        self.press("checkSupportsButton")
        assert not self.ui.checkSupportsButton.enabled
        self.fresh()
        assert self.ui.checkSupportsButton.enabled, self.ui.checkSupportsButton.toolTip
        self.press("checkSupportsButton")
        self.until(lambda: self.ui.checkSupportsButton.enabled, what="the check")
        assert "Checking" not in self.ui.supportMessageLabel.text, self.ui.supportMessageLabel.text

    def refused_suggestion(self):
        """Defect 10: a target that cannot be compared with the library does not disable the button permanently."""
        os.environ["PROXYPROMPT_LIBRARY"] = str(Path(tempfile.mkdtemp()) / "library")
        try:
            self.fresh()
            state = self.panel.state
            state.library = state.table = None
            state.equip()
            self.panel.sections.library.look_again()
            self.panel.refresh()
            self.open_only("libraryButton")
            self.ui.libraryTitleEdit.text = "Pelvis"
            self.press("librarySaveButton")
            assert self.ui.libraryList.count == 1, self.ui.libraryMessageLabel.text
            good = slicer.util.arrayFromVolume(self.target).astype(np.float32)
            bad = good.copy()
            bad[6, 40, 40] = np.nan
            self.put_voxels(self.target, bad)
            self.press("librarySuggestButton")
            self.until(lambda: self.ui.librarySuggestButton.enabled, 60, "the refusal")
            assert "NaN" in self.ui.libraryMessageLabel.text, self.ui.libraryMessageLabel.text
            self.put_voxels(self.target, good)
            self.press("librarySuggestButton")
            slicer.mrmlScene.Clear(0)  # closed while the library is compared
            self.target, truth = self.case(2)
            slicer.mrmlScene.RemoveNode(truth)
            self.aim(self.target)
            self.panel.refresh()
            self.press("librarySuggestButton")
            self.until(lambda: self.ui.librarySuggestButton.enabled, 60, "the suggestion")
            assert "likeness" in self.ui.libraryList.item(0).text(), self.ui.libraryMessageLabel.text
        finally:
            del os.environ["PROXYPROMPT_LIBRARY"]

    def own_data(self):
        """Defect 12: with one annotated and one bare image, two buttons are enough."""
        slicer.mrmlScene.Clear(0)
        self.wait(0.2)
        slicer.util.selectModule("Data")
        image, marks = self.case(1)
        bare, truth = self.case(2)
        slicer.mrmlScene.RemoveNode(truth)
        bare = self.from_files(bare)
        image, marks = self.from_files(image, marks)
        slicer.util.selectModule("ProxyPromptSegment")
        self.wait(0.3)
        assert self.ui.supportSegmentationSelector.currentNode() is marks
        assert self.ui.supportVolumeSelector.currentNode() is image
        assert self.ui.targetSelector.currentNode() is bare
        self.press("addSupportButton")
        assert self.ui.supportTable.rowCount == 1, self.ui.supportMessageLabel.text
        assert self.ui.targetSelector.currentNode() is bare
        run = self.run_it()
        assert run.request.target is bare and self.of(run).any()

    def plain_views_of_a_tilted_image(self):
        """Defect 19: plain axial views cannot show a slice of a tilted image; the panel says to turn them."""
        self.fresh(self.parent_of("X", 25))
        self.run_it()
        for name in slicer.app.layoutManager().sliceViewNames():
            slicer.app.layoutManager().sliceWidget(name).mrmlSliceNode().SetOrientationToAxial()
        self.wait(0.1)
        self.press("useCorrectedButton")
        said = self.ui.resultMessageLabel.text
        assert "turn one to its plane" in said, said

    def voxels_without_a_number(self):
        """Defect 19: NaN outside the body is replaced, which is said; inside it is refused with a way to mend it."""
        self.fresh()
        array = slicer.util.arrayFromVolume(self.target).astype(np.float32)
        outside = array.copy()
        outside[0, 0, 0] = np.nan
        self.put_voxels(self.target, outside)
        run = self.run_it()
        assert self.of(run).any() and "outside the body" in self.ui.runLabel.text, self.ui.runLabel.text
        inside = array.copy()
        inside[6, 40, 40] = np.nan
        self.put_voxels(self.target, inside)
        self.press("applyButton")
        run = self.panel.state.run
        self.until(lambda: run.ended, what="the refusal")
        assert run.state == "failed" and "inside the body" in self.ui.runLabel.text, self.ui.runLabel.text
        assert "Replace them" in self.ui.runLabel.text

    def said_after_undo(self):
        """Defect 19: the sentence about a finished run does not stay after its undo."""
        self.fresh()
        self.run_it()
        assert "Finished" in self.ui.runLabel.text
        self.press("undoButton")
        self.wait(0.1)
        assert "Finished" not in self.ui.runLabel.text and "undone" in self.ui.runLabel.text, self.ui.runLabel.text

    def names_as_written(self):
        """Defect 19: the name of an image is shown as it is, also at the beginning of a sentence."""
        self.fresh()
        self.target.SetName("p07 t2w")
        self.press("applyButton")
        run = self.panel.state.run
        other = self.another()
        self.aim(other)
        self.until(lambda: run.ended, what="the run")
        self.wait(0.2)
        said = self.ui.runLabel.text
        assert "p07 t2w" in said and "P07" not in said, said

    def explained_point(self):
        """Defect 19: the point that "why" explains is marked in the views."""
        self.fresh()
        run = self.run_it()
        self.open_only("whyButton")
        found = self.of(run)
        index = int(np.argmax(found.sum(axis=(1, 2))))
        rows, columns = np.nonzero(found[index])
        place = (int(columns.mean()), int(rows.mean()), index)
        self.press("whyPointButton")
        self.click_at(self.target, place)
        self.until(lambda: self.ui.whyList.count, 120, "the explanation")
        marks = slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")
        assert len(marks) == 1 and marks[0].GetDisplayNode().GetVisibility(), [one.GetName() for one in marks]
        ras = [0.0, 0.0, 0.0]
        marks[0].GetNthControlPointPositionWorld(0, ras)
        assert math.dist(ras, self.ras_of(self.target, place)) < 6, (ras, place)
        self.picture("explained_point", ["whyButton"])

    def readable_record(self):
        """Defect 19: the run record opens as a table; its JSON is a text node; a second press goes back."""
        self.fresh()
        self.run_it()
        manager = slicer.app.layoutManager()
        before = manager.layout
        self.press("recordButton")
        self.wait(0.3)
        shown = [manager.tableWidget(n).tableView().mrmlTableNode() for n in range(manager.tableViewCount)]
        tables = [one for one in shown if one is not None and one.GetNumberOfRows() > 5]
        assert tables, "no table is shown"
        cells = " ".join(
            tables[0].GetCellText(row, column)
            for row in range(tables[0].GetNumberOfRows())
            for column in range(tables[0].GetNumberOfColumns())
        )
        assert "sam-compact" in cells and "{" not in cells, cells
        self.picture("record_table", ["resultButton"], narrow=False)
        texts = [node.GetText() or "" for node in slicer.util.getNodesByClass("vtkMRMLTextNode")]
        assert any(text.lstrip().startswith("{") and "sam-compact" in text for text in texts), "the JSON is not there"
        self.press("recordButton")
        assert manager.layout == before

    def row_of_a_support(self):
        """Defect 19: the cell of the structures is one of the table, so that it follows selections and dark themes."""
        self.fresh()
        table = self.ui.supportTable
        assert table.cellWidget(0, 2) is None, "a widget with its own colours lies in the row"
        assert table.item(0, 2).text() == "prostate" and not table.item(0, 2).icon().isNull()

    def sections_one_by_one(self):
        """Defect 16: each section alone, with all that it can unfold, at three widths: nothing overlaps or is cut."""
        self.fresh()
        self.run_it()
        dock = self.window.findChild("QDockWidget", "PanelDockWidget")
        self.window.resize(1200, 900)
        faults = []
        for width in WIDTHS:
            self.window.resizeDocks([dock], [width], qt.Qt.Horizontal)
            for section in SECTIONS:
                self.open_only(section)
                self.unfold(getattr(self.ui, section), False)
                self.settle()
                area = self.panel_scroll()
                assert area.widget().width <= area.viewport().width + 1, (width, section, "wider than its place")
                faults += [(width, section, *one) for one in self.overlaps()]
                faults += [(width, section, *one) for one in self.cut()]
                if self.pictures is not None:
                    self.pictures.mkdir(parents=True, exist_ok=True)
                    area.widget().grab().save(str(self.pictures / f"{section}_{width}.png"))
                self.unfold(getattr(self.ui, section), True)
        for fault in faults:
            print("fault:", *fault)
        assert not faults, faults

    def settle(self):
        """Waits until the panel is laid out: its boxes unfold with an animation, and a busy machine takes longer."""
        before = None
        while (places := self.places()) != before:
            before = places
            self.wait(1.0)

    def places(self):
        """Position and size of every visible widget of the panel."""
        shown = [one for one in vars(self.ui).values() if hasattr(one, "isVisible") and one.isVisible()]
        return [(one.x, one.y, one.width, one.height) for one in shown]

    def unfold(self, section, collapsed):
        """Opens or closes all boxes in a section."""
        for box in slicer.util.findChildren(section, className="ctkCollapsibleGroupBox"):
            box.collapsed = collapsed

    def cut(self):
        """Widgets whose text needs more room than they have."""
        found = []
        for name, one in vars(self.ui).items():
            if not (hasattr(one, "isVisible") and one.isVisible()):
                continue
            if one.inherits("QAbstractButton") or (one.inherits("QLabel") and not one.wordWrap):
                needed = one.minimumSizeHint
                if one.width < min(needed.width(), one.maximumWidth) - 1 or one.height < needed.height() - 1:
                    found.append((name, "is cut", one.width, one.height, needed.width(), needed.height()))
            elif one.inherits("QLabel") and one.height < one.heightForWidth(one.width) - 1:
                found.append((name, "is cut", one.height, one.heightForWidth(one.width)))
        return found

    def all(self):
        """The steps in their order."""
        self.walk(
            [
                self.annotation_of_another_case,
                self.annotation_on_another_grid,
                self.tilted,
                self.closed_during_a_check,
                self.refused_suggestion,
                self.own_data,
                self.plain_views_of_a_tilted_image,
                self.voxels_without_a_number,
                self.said_after_undo,
                self.names_as_written,
                self.explained_point,
                self.readable_record,
                self.row_of_a_support,
                self.sections_one_by_one,
            ]
        )


if __name__ == "__main__":
    start(WalkDefects)
