"""What the walks through the panel share: waiting, pressing, the mouse, pictures, and the exit status."""

from __future__ import annotations

import os
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import qt
import slicer
import vtk

PANEL_WIDTHS = (420, 700)
WINDOW = tuple(int(number) for number in os.environ.get("WINDOW", "1600x1000").split("x"))
"""Size of the window in pixels; those of a small screen show what is cut, and are drawn faster without a card."""
SECTIONS = (
    "supportButton",
    "libraryButton",
    "targetButton",
    "casesButton",
    "modelButton",
    "resultButton",
    "reviewButton",
    "whyButton",
    "teachButton",
)


class Walking:
    """A window with the panel, and what somebody does with it; the steps are those of a subclass."""

    def __init__(self, pictures):
        """Opens the module."""
        self.pictures = Path(pictures) if pictures else None
        self.window = slicer.util.mainWindow()
        self.window.resize(*WINDOW)
        slicer.util.selectModule("ProxyPromptSegment")
        self.look()
        self.wait(0.5)

    def look(self):
        """Finds the panel, which is another one after a reload."""
        self.widget = slicer.modules.ProxyPromptSegmentWidget
        assert self.widget.panel is not None, "the panel was not built"
        self.ui, self.panel = self.widget.panel.ui, self.widget.panel

    def wait(self, seconds):
        """Lets the window live for some time."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            slicer.app.processEvents(qt.QEventLoop.AllEvents, 20)

    def until(self, true, seconds=120.0, what=""):
        """Lets the window live until something is so; the variable PATIENCE multiplies the time on a busy machine."""
        end = time.monotonic() + seconds * float(os.environ.get("PATIENCE", "1"))
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
        for name in SECTIONS:
            getattr(self.ui, name).collapsed = name not in names
        self.wait(0.1)

    def press(self, name):
        """Presses a button as a user would."""
        button = getattr(self.ui, name)
        assert button.enabled, f"{name} cannot be pressed: {button.toolTip}"
        button.click()
        self.wait(0.05)

    def mask(self, run, name, volume):
        """The voxels of an object of a run."""
        return self.voxels(run.segmentation, run.segment_ids[name], volume)

    def voxels(self, segmentation, segment_id, volume):
        """A segment's voxels on a volume's grid."""
        found = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment_id, volume)
        return np.asarray(found) > 0

    def drag_through(self, volume, places, view="Red"):
        """Presses the left button in a slice view and draws through voxels of a volume, all on one slice."""
        widget = slicer.app.layoutManager().sliceWidget(view)
        node = widget.mrmlSliceNode()
        ras = [self.ras_of(volume, place) for place in places]
        node.RotateToVolumePlane(volume)
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

    def tick(self, wanted):
        """Ticks one object and unticks the others."""
        listed = self.ui.objectsList
        for number in range(listed.count):
            item = listed.item(number)
            state = qt.Qt.Checked if item.text().startswith(wanted) else qt.Qt.Unchecked
            if item.checkState() != state:
                item.setCheckState(state)
        self.wait(0.2)

    def case(self, seed, size=(12, 80, 80), parent=None):
        """A drawn pelvis and its prostate, small so that a run takes seconds: volume node and segmentation node."""
        from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom
        from ProxyPromptSegmentModule.scene import sample_data

        volume, marks = pelvis_phantom(seed, size)
        volume_node = sample_data._add_volume(volume, f"pelvis {seed}")
        segmentation = sample_data._add_segmentation(marks, volume_node, f"pelvis {seed} annotation")
        for node in (volume_node, segmentation):
            node.SetAndObserveTransformNodeID(parent.GetID() if parent is not None else None)
        return volume_node, segmentation

    def fresh(self, parent=None):
        """An empty scene, one support in the table, and a target, shown in its own planes.

        ``parent`` is the transform of the target, or a function that makes it in the empty scene.
        """
        slicer.mrmlScene.Clear(0)
        self.wait(0.1)
        self.support, self.annotation = self.case(1)
        self.target, truth = self.case(2, parent=parent() if callable(parent) else parent)
        slicer.mrmlScene.RemoveNode(truth)
        self.add_case(self.support, self.annotation)
        self.aim(self.target)
        assert not self.annotation.GetDisplayNode().GetVisibility(), "another patient's contour lies on the target"

    def add_case(self, volume, segmentation):
        """Makes nodes a support, by the selectors and the button."""
        self.ui.supportSegmentationSelector.setCurrentNode(segmentation)
        self.ui.supportVolumeSelector.setCurrentNode(volume)
        before = self.ui.supportTable.rowCount
        self.press("addSupportButton")
        assert self.ui.supportTable.rowCount == before + 1, self.ui.supportMessageLabel.text

    def aim(self, volume):
        """Makes a volume the target and turns the views to its planes."""
        self.ui.targetSelector.setCurrentNode(volume)
        self.wait(0.1)
        assert self.panel.state.parameters.targetVolume is volume
        slicer.util.setSliceViewerLayers(background=volume, fit=True)
        for name in slicer.app.layoutManager().sliceViewNames():
            slicer.app.layoutManager().sliceWidget(name).mrmlSliceNode().RotateToVolumePlane(volume)
        self.wait(0.1)

    def choose(self, combo, text):
        """Chooses the entry of a combo box that begins so."""
        combo = getattr(self.ui, combo)
        found = [number for number in range(combo.count) if combo.itemText(number).startswith(text)]
        assert found, f"there is no '{text}' in {[combo.itemText(n) for n in range(combo.count)]}"
        combo.currentIndex = found[0]
        self.wait(0.05)

    def run_it(self, seconds=120):
        """Presses Apply and waits for the end."""
        self.press("applyButton")
        run = self.panel.state.run
        assert run is not None, self.ui.runLabel.text
        self.until(lambda: run.ended, seconds, "the run")
        assert run.state == "finished", run.error or run.sentences
        self.wait(0.1)
        return run

    def walk(self, steps):
        """The steps in their order: all, or those that the variable STEPS names, with commas between them."""
        wanted = [name for name in os.environ.get("STEPS", "").split(",") if name]
        for step in steps:
            if wanted and step.__name__ not in wanted:
                continue
            begun = time.monotonic()
            step()
            print(f"{step.__name__}: done in {time.monotonic() - begun:.1f} s", flush=True)


def start(kind):
    """Walks all steps of a subclass of `Walking` when the window is there, and exits with 1 where one fails."""

    def go():
        pictures = next((word for word in sys.argv[1:] if not word.startswith("-")), os.environ.get("PICTURES", ""))
        try:
            kind(pictures).all()
            code = 0
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        slicer.util.exit(code)

    qt.QTimer.singleShot(1000, go)
