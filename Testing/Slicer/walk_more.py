"""Walks through what the tutorial leaves out: every choice of the panel, in a real Slicer; the exit status tells.

    Slicer --no-splash --disable-settings --additional-module-paths ProxyPromptSegment \
        --python-script Testing/Slicer/walk_more.py [FOLDER FOR PICTURES]

The variable STEPS names some of the steps, with commas between them; by default all of them are walked.
"""

from __future__ import annotations

import os
import sys

import slicer

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # Slicer runs the file and does not know its folder

from more_life import Faults, Life
from more_runs import Runs
from more_sequences import Sequences
from more_shelves import Shelves
from walking import Walking, start


class WalkMore(Runs, Sequences, Shelves, Life, Walking):
    """Steps that do not need each other: each begins with an empty scene."""

    def __init__(self, pictures):
        """Listens to the log before the module is opened."""
        self.faults = Faults()
        super().__init__(pictures)

    def all(self):
        """The steps in their order."""
        steps = [
            self.live_preview,
            self.live_with_another_support,
            self.live_without_a_view,
            self.some_slices,
            self.slices_in_a_box,
            self.editor_masking,
            self.correct_by_hand,
            self.askew,
            self.cine,
            self.series,
            self.library,
            self.models,
            self.first_run,
            self.switch_and_reload,
            self.import_a_session,
            self.leave,
        ]
        if slicer.app.testingEnabled():  # dialogs answer themselves then, and nothing is installed or asked
            steps = [step for step in steps if step not in (self.library, self.models, self.first_run)]
            print("testing mode: library, models and first_run are left out")
        self.walk(steps)


if __name__ == "__main__":
    start(WalkMore)
