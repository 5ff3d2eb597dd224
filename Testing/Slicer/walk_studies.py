"""Walks through many studies in a real Slicer: all are segmented from the one list, one fails, one is cancelled.

    Slicer --no-splash --disable-settings --additional-module-paths ProxyPromptSegment \
        --python-script Testing/Slicer/walk_studies.py [FOLDER FOR PICTURES]

The variable STEPS names some of the steps, with commas between them; by default all of them are walked.
"""

from __future__ import annotations

import os
import sys

import numpy as np
import slicer

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # Slicer runs the file and does not know its folder

from walk_cases import WalkCases
from walking import start

MOST_SECONDS = 0.05
"""So long may the window stand still in one turn."""


class WalkStudies(WalkCases):
    """Steps that do not need each other: each begins with an empty scene."""

    # --- helpers ----------------------------------------------------------------------------------------------

    def ward(self):
        """A support, and three studies of which one has nothing in it."""
        self.fresh()
        self.target.SetName("patient 2")
        self.damaged, self.third = self.another(), self.case(4)[0]
        slicer.mrmlScene.RemoveNode(slicer.util.getNode("pelvis 4 annotation"))
        self.damaged.SetName("patient 3, empty file")
        self.third.SetName("patient 4")
        empty = np.zeros_like(slicer.util.arrayFromVolume(self.damaged))
        slicer.util.updateVolumeFromArray(self.damaged, empty)
        wanted = ["patient 2: new", "patient 3, empty file: new", "patient 4: new"]
        self.until(lambda: self.cases() == wanted, 5, f"the names in {self.cases()}")

    def studies(self):
        """The studies in progress."""
        return self.panel.state.studies

    def apply_is_in_sight(self):
        """Whether the whole button lies in the visible part of the panel, when it is scrolled to its top."""
        area = self.panel_scroll()
        area.verticalScrollBar().setValue(0)
        self.wait(0.1)
        import qt

        place = self.ui.applyButton.mapTo(area.viewport(), qt.QPoint(0, 0))
        return place.y() >= 0 and place.y() + self.ui.applyButton.height <= area.viewport().height

    # --- steps ------------------------------------------------------------------------------------------------

    def all_of_the_scene(self):
        """Three studies, of which one fails; cancelled in the middle, continued, and looked at by a click."""
        self.ward()
        self.open_only("casesButton", "supportButton")
        self.wait(0.3)
        self.narrow("studies_before", "casesButton")
        pump = self.panel.host.logic.pump
        pump.longest = 0.0
        self.press("segmentCasesButton")
        studies = self.studies()
        assert studies is not None, self.ui.casesMessageLabel.text
        self.until(lambda: studies.count("failed") == 1, 120, "the study that fails")
        self.until(lambda: studies.current is not None and studies.current.run.written, 120, "the third study")
        self.narrow("studies_running", "casesButton")
        assert self.ui.casesProgressBar.visible and not self.ui.applyButton.enabled
        dock = self.window.findChild("QDockWidget", "PanelDockWidget")
        assert dock.width <= 366, f"the panel has become {dock.width} pixels wide"
        self.press("segmentCasesButton")
        self.until(lambda: studies.ended, 60, "the end after cancel")
        print("longest turn", round(pump.longest, 3), "s", flush=True)
        if studies.state == "cancelled":  # the last slice may just have been done
            assert self.ui.segmentCasesButton.text.startswith("Continue: 1"), self.ui.segmentCasesButton.text
            assert "patient 4: waiting" in self.cases(), self.cases()
            self.press("segmentCasesButton")
            self.until(lambda: self.studies().ended, 120, "the rest")
        print(self.ui.casesMessageLabel.text, flush=True)
        assert self.cases()[0] == "patient 3, empty file: failed", self.cases()
        assert sorted(self.cases()[1:]) == ["patient 2: segmented", "patient 4: segmented"], self.cases()
        results = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        assert len(results) == 3, [node.GetName() for node in results]
        self.click_line(self.cases().index("patient 4: segmented"))
        self.wait(0.3)
        state = self.panel.state
        assert state.parameters.targetVolume is self.third and self.visible(state.segmentation)
        shown = [node for node in results if self.visible(node)]
        assert shown == [state.segmentation], [node.GetName() for node in shown]
        self.narrow("studies_done", "casesButton")
        assert self.ui.undoButton.enabled
        for widget in (self.ui.casesList, self.ui.segmentCasesButton, self.ui.casesMessageLabel):
            assert widget.width <= self.panel_scroll().viewport().width, widget.objectName
        self.open_only("supportButton", "casesButton")
        assert self.apply_is_in_sight()
        self.picture("studies", ("casesButton",), narrow=False)

    def all(self):
        """All steps."""
        self.walk([self.all_of_the_scene])


if __name__ == "__main__":
    start(WalkStudies)
