"""Walks through many studies in a real Slicer: all are segmented from the one list, one fails, one is cancelled.

    Slicer --no-splash --disable-settings --additional-module-paths ProxyPromptSegment \
        --python-script Testing/Slicer/walk_studies.py [FOLDER FOR PICTURES]

The variable STEPS names some of the steps, with commas between them; by default all of them are walked.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import slicer

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # Slicer runs the file and does not know its folder

from walk_cases import WalkCases
from walking import start

MOST_SECONDS, NEVER_SECONDS = 0.05, 0.1
"""Processor time that a turn of the main thread takes, but one in 300, and that none takes; in a build that is not
optimised, where making a segmentation node alone takes 40 ms. On the clock, other programs count as well."""


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

    def timed_turns(self):
        """A list that receives the processor time of each turn of the main thread in seconds."""
        pump, turns = self.panel.host.logic.pump, []
        work = self.panel.host.logic._work

        def timed():
            begun = time.thread_time()
            left = work()
            turns.append(time.thread_time() - begun)
            return left

        pump._work = timed
        return turns

    def are_short(self, turns):
        """The turns, and whether they kept the window alive."""
        ordered = sorted(turns)
        print(f"{len(turns)} turns, the longest {[round(1000 * one) for one in ordered[-5:]]} ms", flush=True)
        slow = sum(one > MOST_SECONDS for one in turns)
        assert slow <= 1 + len(turns) / 300 and ordered[-1] < NEVER_SECONDS, "turns stop the window"

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
        turns = self.timed_turns()
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
        self.are_short(turns)
        if studies.state == "cancelled":  # the last slice may just have been done
            self.until(lambda: "patient 4: waiting" in self.cases(), 10, "the words after cancel")
            assert self.ui.segmentCasesButton.text.startswith("Continue: 1"), self.ui.segmentCasesButton.text
            self.press("segmentCasesButton")
            self.until(lambda: self.studies().ended, 120, "the rest")
        wanted = ["patient 2: segmented", "patient 3, empty file: failed", "patient 4: segmented"]
        self.until(lambda: sorted(self.cases()) == wanted, 10, f"the end, but {self.cases()}")
        assert self.cases()[0] == "patient 3, empty file: failed", self.cases()
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

    def a_folder_of_studies(self):
        """Three studies on disk, of which one is no image: segmented, shown one by one, and none stays in the scene."""
        from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom
        from ProxyPromptSegmentLib.imaging.volumes import write_volume
        from ProxyPromptSegmentModule.runs.folder_request import StudyFolder

        self.fresh()
        slicer.mrmlScene.RemoveNode(self.target)
        place = Path(tempfile.mkdtemp()) / "archive"
        place.mkdir()
        for seed in (2, 3):
            write_volume(place / f"patient {seed}.nrrd", pelvis_phantom(seed, (12, 80, 80))[0])
        (place / "patient 4.nrrd").write_bytes(b"no image")
        self.panel.sections.folder.open(StudyFolder(place=place, output=place.parent / "archive results"))
        self.until(lambda: len(self.cases()) == 3, 20, "the list of studies")
        self.open_only("casesButton")
        turns = self.timed_turns()
        self.press("segmentCasesButton")
        studies = self.studies()
        assert studies is not None, self.ui.casesMessageLabel.text
        self.until(lambda: studies.count("done") == 1, 120, "the first study")
        self.narrow("folder_running", "casesButton")
        self.until(lambda: studies.ended, 120, "the end")
        self.are_short(turns)
        self.until(lambda: self.ui.casesMessageLabel.text, 10, "the words about the end")
        assert self.cases()[0] == "patient 4.nrrd: failed", self.cases()
        assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) == 1, "a study was loaded"
        state = self.panel.state
        for name in ("patient 2.nrrd", "patient 3.nrrd"):
            self.click_line(self.cases().index(f"{name}: segmented"))
            self.until(
                lambda name=name: state.segmentation is not None and state.parameters.targetVolume.GetName() == name,
                20,
                name,
            )
            self.until(lambda: state.folder.wanted is None, 20, f"the end of the click on {name}")
            self.wait(0.3)
            assert self.visible(state.segmentation)
            names = [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")]
            assert sorted(names) == sorted([self.support.GetName(), name]), names
        self.narrow("folder_done", "casesButton")

    def all(self):
        """All steps."""
        self.walk([self.all_of_the_scene, self.a_folder_of_studies])


if __name__ == "__main__":
    start(WalkStudies)
