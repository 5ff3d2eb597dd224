"""Steps of the longer walk: other modules, reloads, imported scenes; and what the log says at the end."""

from __future__ import annotations

import logging
import os
import tempfile
import threading

import numpy as np
import slicer

# What Slicer says of itself: at its start, and whenever a scene with two segmentations is closed.
NOISE = (
    "DisplayableManager",
    "CropVolume",
    "subject hierarchy item",
    "SliceOrientationPreset",
    "XCB error",
    "setSliceView",
)


class Faults(logging.Handler):
    """Collects what is logged as an error."""

    def __init__(self):
        """Listens at once."""
        super().__init__(logging.ERROR)
        self.found = []
        logging.getLogger().addHandler(self)

    def emit(self, record):
        """Keeps a line."""
        self.found.append(record.getMessage())


def log_lines():
    """Warnings and errors of the application's log that are not Slicer's own noise."""
    with open(slicer.app.errorLogModel().filePath, encoding="utf-8", errors="replace") as file:
        lines = [line.rstrip() for line in file]
        lines = [line for line in lines if not line.endswith(" -")]  # an empty line that something printed says nothing
    loud = ("[WARNING]", "[ERROR]", "[CRITICAL]", "[FATAL]", "Traceback", "QFormBuilder", "Could not", "invalid")
    return [line for line in lines if any(one in line for one in loud) and not any(one in line for one in NOISE)]


def own_threads():
    """Names of the threads that are ours."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ProxyPrompt")]


def left_over():
    """Names of the threads that are there twice: one for runs and one for estimates is the panel's own."""
    names = own_threads()
    return [name for name in set(names) if names.count(name) > 1]


class Life:
    """The panel comes and goes."""

    def switch_and_reload(self):
        """Another module during a run; the module is reloaded during a run and afterwards."""
        self.fresh()
        self.press("applyButton")
        run = self.panel.state.run
        slicer.util.selectModule("Data")
        self.until(lambda: run.ended, what="the run while another module is open")
        assert run.state == "finished", run.error
        slicer.util.selectModule("ProxyPromptSegment")
        self.wait(0.2)
        assert self.ui.resultsTable.visible or not self.ui.resultButton.collapsed
        self.results()
        before = self.mask(run, "prostate", self.target)
        for during in (True, False):
            if during:
                self.press("applyButton")
                run = self.panel.state.run
                self.until(lambda run=run: run.written, what="the first slices before the reload")
            self.widget.onReload()
            self.wait(0.5)
            assert run.ended and run.state != "failed", run.error
            self.look()
            assert self.widget.panel.state.run is None
            assert not left_over(), f"threads are left over: {own_threads()}"
            assert self.ui.supportTable.rowCount == 1, "the supports are gone after the reload"
            assert self.panel.state.parameters.targetVolume is self.target
        run = self.run_it()
        assert np.array_equal(self.mask(run, "prostate", self.target), before)
        slicer.util.reloadScriptedModule("ProxyPromptSegment")  # what a developer may call: our packages stay loaded
        self.wait(0.5)
        self.look()
        assert self.run_it().state == "finished"
        self.until(lambda: not left_over(), 15, f"threads are left over: {own_threads()}")

    def results(self):
        """The buttons below the result."""
        run = self.panel.state.run
        self.open_only("resultButton")
        self.press("tableButton")
        assert slicer.app.layoutManager().layout == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpTableView
        self.wait(0.3)
        self.picture("table", ["resultButton"], narrow=False)
        slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        self.wait(0.2)
        self.press("recordButton")
        self.wait(0.3)
        self.picture("record", narrow=False)
        slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        self.wait(0.2)
        assert self.ui.show3DButton.enabled
        self.ui.show3DButton.checked = True  # a click by a program would open its menu
        self.wait(0.5)
        assert run.segmentation.GetSegmentation().ContainsRepresentation("Closed surface"), "nothing is shown in 3D"
        mask = self.mask(run, "prostate", self.target)
        self.press("undoButton")
        assert self.ui.redoButton.enabled and not self.ui.tableButton.enabled
        self.press("redoButton")
        assert np.array_equal(self.mask(run, "prostate", self.target), mask)
        assert self.ui.tableButton.enabled, self.ui.tableButton.toolTip

    def import_a_session(self):
        """A saved session is merged into a scene that is in use."""
        self.fresh()
        self.run_it()
        path = os.path.join(tempfile.mkdtemp(), "session.mrb")
        assert slicer.util.saveScene(path)
        self.press("applyButton")
        run = self.panel.state.run
        self.until(lambda: len(run.written) >= 1, what="the first slice")
        slicer.util.loadScene(path, {"clear": False})
        self.until(lambda: run.ended, what="the run that went on during the import")
        self.wait(0.5)
        assert run.state == "finished", run.error or run.sentences
        print("after the import:", self.ui.supportTable.rowCount, "supports;", self.ui.reasonLabel.text)
        assert self.ui.supportTable.rowCount >= 1
        target = self.panel.state.parameters.targetVolume
        assert target is not None and self.ui.targetSelector.currentNode() is target
        run = self.run_it()
        assert self.mask(run, "prostate", target).any()

    def leave(self):
        """No thread stays behind, and nothing was logged as an error by us."""
        assert self.widget.logic.shutdown()
        assert self.panel.state.catalog.close()
        assert not own_threads(), f"threads are left over: {own_threads()}"
        assert not self.faults.found, self.faults.found
        for line in log_lines():
            print("log:", line)
        assert not log_lines(), "the application's log has warnings"
