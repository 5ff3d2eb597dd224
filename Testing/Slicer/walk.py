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
import time
import traceback
from pathlib import Path

import numpy as np
import qt
import slicer
import vtk

PANEL_WIDTHS = (420, 700)
WINDOW = (1600, 1000)


class Walk:
    """One walk; every step is a method, and a failed assertion ends it."""

    def __init__(self, pictures):
        self.pictures = Path(pictures) if pictures else None
        self.window = slicer.util.mainWindow()
        self.window.resize(*WINDOW)
        slicer.util.selectModule("ProxyPromptSegment")
        self.widget = slicer.modules.ProxyPromptSegmentWidget
        assert self.widget.panel is not None, "the panel was not built"
        self.ui, self.panel = self.widget.panel.ui, self.widget.panel
        self.wait(0.5)

    # --- helpers ----------------------------------------------------------------------------------------------

    def wait(self, seconds):
        """Lets the window live for some time."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            slicer.app.processEvents(qt.QEventLoop.AllEvents, 20)

    def until(self, true, seconds=120.0, what=""):
        """Lets the window live until something is so."""
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, f"waited {seconds:.0f} s in vain: {what}"
            slicer.app.processEvents(qt.QEventLoop.AllEvents, 20)

    def picture(self, name, sections=(), narrow=True, waiting=0.6):
        """The window in both widths of the panel, with some sections open and the others closed."""
        if self.pictures is None:
            return
        self.pictures.mkdir(parents=True, exist_ok=True)
        for width in PANEL_WIDTHS if narrow else PANEL_WIDTHS[:1]:
            dock = self.window.findChild("QDockWidget", "PanelDockWidget")
            self.window.resize(*WINDOW)
            self.window.resizeDocks([dock], [width], qt.Qt.Horizontal)
            if sections:
                self.scroll_to(sections[0])
            self.wait(waiting)
            slicer.util.forceRenderAllViews()
            self.wait(waiting / 3)
            assert self.window.width <= WINDOW[0], f"the panel has widened the window to {self.window.width} pixels"
            self.window.grab().save(str(self.pictures / f"{name}_{width}.png"))

    def scroll_to(self, name):
        """Brings a widget of the panel into sight."""
        area = self.window.findChild("QScrollArea", "ModulePanelScrollArea") or self.panel_scroll()
        if area is not None:
            area.verticalScrollBar().setValue(0)
            self.wait(0.05)
            widget = getattr(self.ui, name)
            place = widget.mapTo(area.widget(), qt.QPoint(0, 0))
            area.verticalScrollBar().setValue(max(0, place.y() - 8))

    def panel_scroll(self):
        """The scroll area around the module's panel."""
        parent = self.ui.applyButton.parentWidget()
        while parent is not None and not parent.inherits("QScrollArea"):
            parent = parent.parentWidget()
        return parent

    def open_only(self, *names):
        """Opens some of the collapsible sections and closes the others."""
        for name in ("supportButton", "libraryButton", "targetButton", "modelButton", "resultButton", "whyButton"):
            getattr(self.ui, name).collapsed = name not in names
        self.wait(0.1)

    def press(self, name):
        """Presses a button as a user would."""
        button = getattr(self.ui, name)
        assert button.enabled, f"{name} cannot be pressed: {button.toolTip}"
        button.click()
        self.wait(0.05)

    def mask(self, run, name, volume):
        """A segment's voxels."""
        found = slicer.util.arrayFromSegmentBinaryLabelmap(run.segmentation, run.segment_ids[name], volume)
        return np.asarray(found) > 0

    # --- steps ------------------------------------------------------------------------------------------------

    def load_cases(self):
        """The sample data of the tutorial."""
        from ProxyPromptSegmentModule import sample_data

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
            self.drag_through("Red", [(i - 3, j, int(k)), (i, j + 2, int(k)), (i + 3, j, int(k))])
        painted = np.asarray(slicer.util.arrayFromSegmentBinaryLabelmap(self.annotation, "central", self.support)) > 0
        assert painted.sum() > 20, "the mouse has painted nothing"
        self.picture("editor", narrow=False)
        editor.setActiveEffectByName("")
        slicer.util.selectModule("ProxyPromptSegment")
        self.wait(0.5)

    def drag_through(self, view, places):
        """Presses the left button in a slice view and draws through voxels of the support, all on one slice."""
        widget = slicer.app.layoutManager().sliceWidget(view)
        node = widget.mrmlSliceNode()
        ras = [self.ras_of(self.support, place) for place in places]
        node.RotateToVolumePlane(self.support)
        node.JumpSliceByOffsetting(*ras[0])
        self.wait(0.3)
        points = [self.pixel_of(widget, one) for one in ras]
        target = widget.sliceView().VTKWidget() if hasattr(widget.sliceView(), "VTKWidget") else widget.sliceView()
        self.mouse(target, qt.QEvent.MouseMove, points[0], qt.Qt.NoButton)
        self.mouse(target, qt.QEvent.MouseButtonPress, points[0], qt.Qt.LeftButton)
        for point in points[1:]:
            self.mouse(target, qt.QEvent.MouseMove, point, qt.Qt.LeftButton)
        self.mouse(target, qt.QEvent.MouseButtonRelease, points[-1], qt.Qt.LeftButton)
        self.wait(0.3)

    def click_at(self, volume, ijk, view="Red"):
        """A click on a voxel of a volume in a slice view."""
        widget = slicer.app.layoutManager().sliceWidget(view)
        ras = self.ras_of(volume, ijk)
        widget.mrmlSliceNode().JumpSliceByOffsetting(*ras)
        self.wait(0.3)
        point = self.pixel_of(widget, ras)
        target = widget.sliceView().VTKWidget() if hasattr(widget.sliceView(), "VTKWidget") else widget.sliceView()
        self.mouse(target, qt.QEvent.MouseMove, point, qt.Qt.NoButton)
        self.wait(0.1)
        self.mouse(target, qt.QEvent.MouseButtonPress, point, qt.Qt.LeftButton)
        self.mouse(target, qt.QEvent.MouseButtonRelease, point, qt.Qt.LeftButton)

    def mouse(self, widget, kind, point, button):
        """Sends one mouse event to a widget."""
        pressed = qt.Qt.NoButton if kind == qt.QEvent.MouseButtonRelease else button
        cause = qt.Qt.NoButton if kind == qt.QEvent.MouseMove else button
        event = qt.QMouseEvent(kind, qt.QPointF(*point), cause, pressed, qt.Qt.NoModifier)
        slicer.app.sendEvent(widget, event)
        self.wait(0.03)

    def ras_of(self, volume, ijk):
        """A voxel's place in the world."""
        matrix = vtk.vtkMatrix4x4()
        volume.GetIJKToRASMatrix(matrix)
        return matrix.MultiplyPoint([*(float(n) for n in ijk), 1.0])[:3]

    def pixel_of(self, widget, ras):
        """Where a place of the world is in a slice view, in pixels of the widget."""
        matrix = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(widget.mrmlSliceNode().GetXYToRAS(), matrix)
        x, y = matrix.MultiplyPoint([*ras, 1.0])[:2]
        ratio = widget.sliceView().devicePixelRatioF() if hasattr(widget.sliceView(), "devicePixelRatioF") else 1.0
        return x / ratio, widget.sliceView().height - y / ratio

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

    def tick(self, wanted):
        """Ticks one object and unticks the others."""
        listed = self.ui.objectsList
        for number in range(listed.count):
            item = listed.item(number)
            state = qt.Qt.Checked if item.text().startswith(wanted) else qt.Qt.Unchecked
            if item.checkState() != state:
                item.setCheckState(state)
        self.wait(0.2)

    def apply_and_cancel(self):
        """Cancels in the middle; what is done stays."""
        self.open_only("targetButton")
        for name in slicer.app.layoutManager().sliceViewNames():
            slicer.app.layoutManager().sliceWidget(name).mrmlSliceNode().RotateToVolumePlane(self.target)
        self.press("applyButton")
        run = self.panel.run
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
        run = self.panel.run
        self.until(lambda: len(run.written) >= 4, what="the first slices")
        self.picture("running", ["targetButton"], waiting=0.15)
        self.until(lambda: run.ended, what="the run")
        assert run.state == "finished", run.error
        self.first = self.mask(run, "prostate", self.target)
        assert self.first.any()
        from ProxyPromptSegmentModule import sample_data

        truth = sample_data.target_truth() > 0
        dice = 2 * (self.first & truth).sum() / (self.first.sum() + truth.sum())
        print(f"Dice of the sample case: {dice:.3f}")
        assert dice > 0.5
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
        self.until(lambda: self.panel.run is not self.run and self.panel.run.ended, what="the run after the switch")
        run = self.panel.run
        assert run.state == "finished", run.error
        assert run.result.embedded == 0, f"{run.result.embedded} slices were embedded again"
        assert np.array_equal(self.mask(self.run, "prostate", self.target), self.first)
        self.open_only("resultButton")
        self.press("undoButton")
        assert self.panel.run.undone
        ids = run.segmentation.GetSegmentation().GetSegmentIDs()
        assert run.segment_ids["central gland"] not in ids
        assert np.array_equal(self.mask(self.run, "prostate", self.target), self.first)
        self.press("redoButton")
        assert not self.panel.run.undone

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
        if self.panel.run.ended:
            self.press("applyButton")
        run = self.panel.run
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
        run = self.panel.run
        self.until(lambda: run.ended, what="a run in the loaded scene")
        assert run.state == "finished", run.error

    def leave(self):
        """No thread stays behind, and nothing was logged as an error by us."""
        assert self.widget.logic.shutdown()
        alive = [thread.name for thread in threading.enumerate() if thread.name.startswith("ProxyPrompt")]
        assert not alive, f"threads are left over: {alive}"

    def all(self):
        """The steps in their order."""
        for step in (
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
        ):
            begun = time.monotonic()
            step()
            print(f"{step.__name__}: done in {time.monotonic() - begun:.1f} s", flush=True)


def main():
    """Walks; the exit status tells how it went."""
    pictures = next((word for word in sys.argv[1:] if not word.startswith("-")), os.environ.get("PICTURES", ""))
    try:
        Walk(pictures).all()
        code = 0
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    slicer.util.exit(code)


if __name__ == "__main__":
    qt.QTimer.singleShot(1000, main)
