"""Teaches a model in a real Slicer: three drawn cases, a handful of steps, cancelled once, kept, used, exported.

    Slicer --no-splash --disable-settings --additional-module-paths ProxyPromptSegment \
        --python-script Testing/Slicer/walk_teach.py [FOLDER FOR PICTURES]

The variable STEPS names some of the steps, with commas between them; by default all of them are walked.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

# Before the module is loaded: models of this walk are nobody's.
HOME = Path(tempfile.mkdtemp(prefix="walk-teach-"))
os.environ["PROXYPROMPT_CACHE"] = str(HOME / "cache")
os.environ["PROXYPROMPT_REGISTRY"] = str(HOME / "own.json")

import qt
import slicer

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # Slicer runs the file and does not know its folder

from walking import Walking, start

QUICK = {"steps": 2, "variants": 1, "targets": 3, "threads": 1, "shares": (1.0,)}
SIZE = (6, 64, 64)
WIDTH = 362
PATIENCE = 900  # seconds, on a machine that has other things to do


class WalkTeach(Walking):
    """Steps that build on each other."""

    def school(self, count=3):
        """Annotated cases, a target, and the section open."""
        slicer.mrmlScene.Clear(0)
        self.wait(0.1)
        self.cases = [self.case(seed, SIZE) for seed in range(1, count + 1)]
        self.target, truth = self.case(9, SIZE)
        slicer.mrmlScene.RemoveNode(truth)
        self.aim(self.target)
        self.panel.chosen.lesson.more = dict(QUICK)
        self.panel.state.parameters.device = "cpu"
        self.open_only("teachButton")
        self.wait(0.3)

    def shot(self, name, widget="teachButton"):
        """A picture of the panel at the width that Slicer opens with; nothing may overlap or be cut."""
        dock = self.window.findChild("QDockWidget", "PanelDockWidget")
        self.window.resize(1100, 900)
        self.window.resizeDocks([dock], [WIDTH], qt.Qt.Horizontal)
        self.wait(0.3)
        self.scroll_to(widget)
        self.wait(0.3)
        if self.pictures is not None:
            self.pictures.mkdir(parents=True, exist_ok=True)
            dock.grab().save(str(self.pictures / f"{name}.png"))
        area = self.panel_scroll()
        assert area.widget().width <= area.viewport().width + 1, "the panel is wider than its place"

    def lesson(self, seconds=PATIENCE):
        """Waits for the end of the lesson and returns it."""
        lesson = self.panel.state.lesson
        assert lesson is not None, self.ui.teachMessageLabel.text
        self.until(lambda: lesson.ended, seconds, "the end of the lesson")
        self.wait(0.2)
        return lesson

    def name(self, text):
        """Types the name of the new model."""
        self.ui.teachNameEdit.setText(text)
        self.ui.teachNameEdit.editingFinished()
        self.wait(0.1)

    # --- steps ------------------------------------------------------------------------------------------------

    def the_cases_are_listed_and_checked(self):
        """The list, the estimate, and a check that trains nothing."""
        self.school()
        listed = self.ui.teachCasesList
        assert [listed.item(n).text() for n in range(listed.count)] == ["pelvis 1", "pelvis 2", "pelvis 3"]
        assert self.ui.teachStructureCombo.currentText == "prostate (in 3 cases)"
        assert self.ui.teachEstimateLabel.text.startswith("3 cases of 3 patients, about 15 min in all: 3 trainings")
        self.shot("teach_choices")
        self.press("teachCheckButton")
        lesson = self.lesson()
        assert lesson.result is None and "3 cases of 3 patients can be learned from" in self.ui.teachMessageLabel.text

    def a_name_with_slashes_and_umlauts(self):
        """It is refused with one that can be."""
        self.name("Müller/Prostata")
        assert "“mueller-prostata” is free" in self.ui.teachReasonLabel.text and not self.ui.teachStartButton.enabled
        self.shot("teach_name", "teachNameEdit")
        self.name("sam-compact")
        assert "never replaced" in self.ui.teachReasonLabel.text
        self.name("")
        assert self.ui.teachStartButton.enabled, self.ui.teachReasonLabel.text

    def cancelled_in_the_middle(self):
        """Cancel keeps what was found; the window lives meanwhile."""
        self.press("teachStartButton")
        lesson = self.panel.state.lesson
        self.until(lambda: lesson.losses or lesson.ended, PATIENCE, "the first step")
        assert not lesson.ended, lesson.error
        longest, end = 0.0, time.monotonic() + 3
        while time.monotonic() < end and not lesson.ended:
            begun = time.monotonic()
            slicer.app.processEvents(qt.QEventLoop.AllEvents, 20)
            longest = max(longest, time.monotonic() - begun)
        print(f"the window was stuck for {1000 * longest:.0f} ms at most while a model was taught", flush=True)
        assert not self.ui.applyButton.enabled and "is being taught" in self.ui.reasonLabel.text
        self.shot("teach_running")
        if not lesson.ended:
            self.press("teachStartButton")
        self.lesson()
        assert lesson.state == "cancelled" and "What was learned so far is kept" in self.ui.teachMessageLabel.text
        assert self.ui.teachStartButton.text == "Continue"
        self.shot("teach_cancelled")

    def continued_to_the_end_kept_and_used(self):
        """Scores, curve and picture; kept in any case; used on the target."""
        self.press("teachStartButton")
        lesson = self.lesson()
        assert lesson.state == "finished", lesson.error
        assert self.ui.teachScoresTable.rowCount == 4
        assert self.ui.teachScoresTable.item(3, 0).text() == "Mean"
        self.shot("teach_result", "teachStartButton")
        if not lesson.result.kept:
            assert self.ui.teachMessageLabel.text.startswith("Not better")
            self.press("teachKeepButton")
            lesson = self.lesson()
        assert lesson.result.kept, self.ui.teachMessageLabel.text
        assert "Kept as “my-prostate”" in self.ui.teachMessageLabel.text
        self.shot("teach_kept", "teachStartButton")
        self.press("teachUseButton")
        run = self.panel.state.run
        assert run is not None and run.request.settings.model == "my-prostate", self.ui.teachMessageLabel.text
        self.until(lambda: run.ended, PATIENCE, "the run")
        assert run.state == "finished", run.error
        assert self.ui.modelCombo.currentText.startswith("my-prostate")

    def renamed_exported_removed_imported(self):
        """The models of the user's own."""
        self.open_only("teachButton")
        self.ui.ownModelsBox.collapsed = False
        self.wait(0.3)
        self.ui.ownModelsList.currentRow = 0
        self.wait(0.2)
        assert self.ui.ownNameEdit.text == "my-prostate"
        self.ui.ownNameEdit.setText("prostate-3t")
        self.ui.ownWordsEdit.setText("For our 3 T scanner.")
        self.press("ownSaveButton")
        assert "prostate-3t" in self.ui.ownMessageLabel.text, self.ui.ownMessageLabel.text
        self.shot("teach_own_models", "ownModelsBox")
        file = HOME / "out.safetensors"
        models = self.panel.sections.own_models._models
        models.export("prostate-3t", file)  # what the buttons do behind Qt's dialogs
        models.remove("prostate-3t")
        self.panel.state.models_changed.emit()
        self.panel.refresh()
        assert self.ui.ownModelsList.count == 0
        assert models.take(file).name == "prostate-3t"
        self.panel.state.models_changed.emit()
        self.panel.refresh()
        assert self.ui.ownModelsList.count == 1
        text = (HOME / "cache" / "prostate-3t" / "prostate-3t.md").read_text(encoding="utf-8")
        assert "For our 3 T scanner." in text and "pelvis" not in text + (HOME / "own.json").read_text(encoding="utf-8")

    def closed_in_the_middle(self):
        """A scene closed while a model is taught leaves nothing half-written, and no names."""
        self.school()
        self.name("second")
        self.press("teachStartButton")
        lesson = self.panel.state.lesson
        self.until(lambda: lesson.losses or lesson.ended, PATIENCE, "the first step")
        assert not lesson.ended, lesson.error
        slicer.mrmlScene.Clear(0)
        assert lesson.state == "cancelled" and "The scene was closed" in self.ui.teachMessageLabel.text
        logic = self.widget.logic
        self.until(lambda: not logic.worker.busy, 60, "the worker")
        found = [path.name for path in (HOME / "cache").rglob("*") if path.is_file()]
        assert "state.json" in found and not [name for name in found if "partial-" in name or "keeping" in name], found
        self.shot("teach_closed")

    def all(self):
        """The steps in their order."""
        self.walk(
            [
                self.the_cases_are_listed_and_checked,
                self.a_name_with_slashes_and_umlauts,
                self.cancelled_in_the_middle,
                self.continued_to_the_end_kept_and_used,
                self.renamed_exported_removed_imported,
                self.closed_in_the_middle,
            ]
        )


if __name__ == "__main__":
    start(WalkTeach)
