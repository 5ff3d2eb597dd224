"""Walks through work that is interrupted in a real Slicer: closed, cancelled, clicked away, taken back, beside a cine.

    Slicer --no-splash --disable-settings --additional-module-paths ProxyPromptSegment \
        --python-script Testing/Slicer/walk_interrupted.py [FOLDER FOR PICTURES]

The variable STEPS names some of the steps, with commas between them; by default all of them are walked.
"""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import qt
import slicer

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # Slicer runs the file and does not know its folder

from more_sequences import Sequences
from walk_corrections import WalkCorrections
from walking import start

TURNS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""After how many turns of the window something is interrupted."""


class WalkInterrupted(Sequences, WalkCorrections):
    """Steps that do not need each other: each begins with an empty scene and a folder of its own."""

    # --- helpers ----------------------------------------------------------------------------------------------

    def kept(self, *seeds):
        """An opened folder of drawn pelves with results, the drawn masks; the folders of studies and results."""
        from ProxyPromptSegmentLib.cohort.contents import Inputs
        from ProxyPromptSegmentLib.cohort.folder import CohortFolder
        from ProxyPromptSegmentLib.cohort.studies import list_studies
        from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom
        from ProxyPromptSegmentLib.imaging.segmentations import write_segmentation

        place = self.place(*seeds)
        results = place.parent / f"{place.name} results"
        folder = CohortFolder.begin(results, {"supports": [], "model": {"name": "m", "sha256": "0"}, "settings": {}})
        for study, seed in zip(list_studies(place).studies, seeds, strict=True):
            content, marks = Inputs(folder.folder("inputs")).of(study.path), pelvis_phantom(seed, (12, 80, 80))[1]
            key = folder.key_of(content)
            files = folder.files_of(study, key)
            write_segmentation(files.result, marks, study.path)
            files.report.write_text(json.dumps({"objects": [], "inputs": {"target": {"axis": "k"}}}), encoding="utf-8")
            objects = [
                {"name": one.name, "voxels": int(one.mask.sum()), "volume_ml": one.mask.sum() * 0.008}
                for one in marks.segments
            ]
            folder.publish(key, study, files, {"input_sha256": content, "objects": objects, "review": []})
        self.open_folder(place, len(seeds))
        return place, results

    def turns(self, count):
        """Lets the window live for some turns."""
        for _turn in range(count):
            slicer.app.processEvents(qt.QEventLoop.AllEvents, 20)

    def shown_results(self):
        """Names of the segmentations that are seen."""
        nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        return [node.GetName() for node in nodes if self.visible(node)]

    def images(self):
        """Names of the images in the scene, but that of the support."""
        nodes = slicer.util.getNodesByClass("vtkMRMLVolumeNode")
        return sorted(node.GetName() for node in nodes if node is not self.support)

    # --- steps ------------------------------------------------------------------------------------------------

    def closed_while_saving(self):
        """The scene is closed, or the module reloaded, as soon as the button was pressed: what was drawn is on disk."""
        for end in ("scene", "module"):
            _place, results = self.kept(2)
            node = self.show("patient 2.nrrd")
            mask = self.correct(5)
            self.ui.saveCorrectionsButton.click()
            if end == "scene":
                slicer.mrmlScene.Clear(0)
            else:
                slicer.modules.ProxyPromptSegmentWidget.onReload()
                self.look()
            self.until(lambda results=results: list((results / "corrected").glob("*.seg.nrrd")), 30, "the correction")
            (file,) = (results / "corrected").glob("*.seg.nrrd")
            self.is_in(file, mask, node)
            if end == "scene":
                message = self.ui.casesMessageLabel
                self.until(lambda message=message: "are in" in message.text, 30, "the words about it")
                self.narrow("closed_while_saving", "casesButton")

    def two_quickly(self):
        """Two studies that are clicked in turn quickly: the last one is shown, whole and alone."""
        self.kept(2, 3, 4)
        state, names = self.panel.state, ("patient 2.nrrd", "patient 3.nrrd", "patient 4.nrrd")
        for number, turns in enumerate(TURNS[:8]):
            first, last = names[number % 3], names[(number + 1) % 3]
            self.click_line(next(n for n, line in enumerate(self.cases()) if line.startswith(first)))
            self.turns(turns)
            node = self.show(last)
            assert node.GetName() == last and self.images() == [last], (turns, self.images())
            assert self.shown_results() == [f"{last} segmentation"], (turns, self.shown_results())
            assert state.segmentation.GetSegmentation().GetNumberOfSegments() >= 1
            assert "Reading" not in self.ui.casesMessageLabel.text, self.ui.casesMessageLabel.text
            views = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
            assert {view.GetBackgroundVolumeID() for view in views} == {node.GetID()}, turns
        self.narrow("two_quickly", "casesButton")

    def beside_a_cine(self):
        """A cine plays in the scene while a study is corrected and saved; neither disturbs the other."""
        _place, _results = self.kept(2, 3)
        array = slicer.util.arrayFromVolume(self.support).copy()
        browser, proxy = self.sequence_of([array[n : n + 1] for n in range(3, 9)], self.support, "cine")
        self.wait(0.5)
        node = self.show("patient 2.nrrd")
        browser.SetPlaybackRateFps(10)
        browser.SetPlaybackActive(True)
        mask = self.correct(5)  # waits until it can be saved, although nothing comes to rest
        file = self.save()
        assert browser.GetPlaybackActive(), "the cine has stopped"
        self.is_in(file, mask, node)
        self.show("patient 3.nrrd")
        assert self.images() == sorted([proxy.GetName(), "patient 3.nrrd"]), self.images()
        assert slicer.mrmlScene.GetNodeByID(browser.GetID()) is browser and browser.GetNumberOfItems() == 6
        browser.SetPlaybackActive(False)
        self.narrow("beside_a_cine", "casesButton")
        self.press("folderButton")
        self.until(lambda: any(line.startswith(proxy.GetName()) for line in self.cases()), 20, f"{self.cases()}")
        self.narrow("the_cine_as_a_case", "casesButton")

    def strokes_taken_back(self):
        """A stroke that the Segment Editor takes back leaves nothing to be saved; a later run goes back first."""
        self.kept(2)
        node = self.show("patient 2.nrrd")
        segmentation, segment_id, before = self.drawn()
        button = self.ui.saveCorrectionsButton
        editor = self.paint(node, segmentation, segment_id, 5)
        painted = self.drawn()[2]
        assert (painted & ~before).sum() > 20, "the mouse has painted nothing"
        self.until(lambda: button.enabled, 20, button.toolTip)
        editor.undo()
        assert np.array_equal(self.drawn()[2], before)
        self.until(lambda: not button.enabled, 20, "that what was taken back need not be saved")
        assert "as it is on screen" in button.toolTip, button.toolTip
        editor.redo()
        assert np.array_equal(self.drawn()[2], painted)
        self.until(lambda: button.enabled, 20, button.toolTip)
        slicer.util.selectModule("ProxyPromptSegment")
        run = self.run_it()
        found = self.voxels(run.segmentation, run.segment_ids["prostate"], node)
        editor.undo()
        assert np.array_equal(self.voxels(segmentation, segment_id, node), painted), "the stroke went first"
        editor.redo()
        assert np.array_equal(self.voxels(run.segmentation, run.segment_ids["prostate"], node), found)
        self.press("undoButton")
        assert np.array_equal(self.voxels(segmentation, segment_id, node), painted), "the panel's undo takes more back"
        self.narrow("strokes_taken_back", "resultButton")

    def cancelled_anywhere(self):
        """A run is cancelled after 0, 1, 2, 4, … turns: it ends, what is done stays, the next one can begin."""
        self.fresh()
        button, seen = self.ui.applyButton, []
        for turns in TURNS:
            button.click()
            run = self.panel.state.run
            self.turns(turns)
            if run.ended:
                seen.append((turns, "ended before"))
                break
            what = (run.what, len(run.written))
            button.click()
            self.until(lambda run=run: run.ended, 60, f"the end after {turns} turns")
            self.until(lambda: button.text == "Apply" and button.enabled, 10, f"the button after {turns} turns")
            assert not self.ui.progressBar.visible and run.state in ("cancelled", "finished"), (turns, run.error)
            assert "Cancelled" in self.ui.runLabel.text or run.state == "finished", (turns, what, self.ui.runLabel.text)
            seen.append((turns, *what, run.state, len(run.written)))
            nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
            others = [node.GetName() for node in nodes if node is not self.annotation]
            if not run.written:
                assert not others, (turns, others)
                continue
            mask = self.of(run)
            assert set(np.flatnonzero(mask.any(axis=(1, 2)))) <= run.written
            self.press("undoButton")
            assert not self.voxels_left(run), turns
        print("cancelled:", *seen, sep="\n  ", flush=True)
        self.narrow("cancelled_anywhere")
        assert self.run_it().state == "finished"

    def removed_nodes(self):
        """A selector whose node is removed shows none, and not the annotation or the image of another patient."""
        self.fresh()
        self.case(3)
        result = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "result")
        for selector, node in ((self.ui.outputSelector, result), (self.ui.targetSelector, self.target)):
            selector.setCurrentNode(node)
            self.wait(0.5)
            assert selector.currentNode() is node
            slicer.mrmlScene.RemoveNode(node)
            self.wait(0.5)
            assert selector.currentNode() is None, selector.currentNode().GetName()
        parameters = self.panel.state.parameters
        assert parameters.targetVolume is None and parameters.outputSegmentation is None
        assert not self.ui.applyButton.enabled

    def voxels_left(self, run):
        """Whether the run's segments hold anything after an undo."""
        inside = run.segmentation.GetSegmentation() if run.segmentation.GetScene() is not None else None
        ids = [one for one in run.segment_ids.values() if inside is not None and inside.GetSegment(one) is not None]
        return any(self.voxels(run.segmentation, one, self.target).any() for one in ids)

    def studies_cancelled_anywhere(self):
        """Studies of a folder are cancelled after 0, 1, 2, 4, … turns: no claim is left, and they can be continued."""
        place = self.place(2, 3)
        results = self.open_folder(place, 2)
        seen, button = [], self.ui.segmentCasesButton
        for turns in (*TURNS[::2], None):
            button.click()
            studies = self.studies()
            assert studies is not None, self.ui.casesMessageLabel.text
            if turns is not None:
                self.turns(turns)
                if not studies.ended:
                    button.click()
            self.until(lambda studies=studies: studies.ended, 120, f"the end after {turns} turns")
            self.until(lambda: not self.ui.casesProgressBar.visible, 10, "that the bar goes")
            seen.append((turns, studies.state, studies.count("done")))
            assert not list((results / "claims").glob("*")), "a claim is left"
            if studies.count("done") == 2 or not button.enabled:
                break
        print("cancelled:", *seen, self.cases(), sep="\n  ", flush=True)
        assert sorted(self.cases()) == ["patient 2.nrrd: segmented", "patient 3.nrrd: segmented"], self.cases()

    def all(self):
        """All steps."""
        self.walk(
            [
                self.closed_while_saving,
                self.two_quickly,
                self.beside_a_cine,
                self.strokes_taken_back,
                self.removed_nodes,
                self.cancelled_anywhere,
                self.studies_cancelled_anywhere,
            ]
        )


if __name__ == "__main__":
    start(WalkInterrupted)
