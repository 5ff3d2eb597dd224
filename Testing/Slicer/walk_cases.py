"""Walks through a list of patients in a real Slicer: which is done, what is doubtful, what was corrected?

    Slicer --no-splash --disable-settings --additional-module-paths ProxyPromptSegment \
        --python-script Testing/Slicer/walk_cases.py [FOLDER FOR PICTURES]

The variable STEPS names some of the steps, with commas between them; by default all of them are walked.
"""

from __future__ import annotations

import os
import sys
import tempfile

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
        return [listed.item(number).text() for number in range(listed.count)]

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
        steps = [self.states_follow_the_work, self.apply_is_in_sight]
        wanted = [name for name in os.environ.get("STEPS", "").split(",") if name]
        self.walk([step for step in steps if not wanted or step.__name__ in wanted])


if __name__ == "__main__":
    start(lambda pictures: WalkCases(pictures).all())
