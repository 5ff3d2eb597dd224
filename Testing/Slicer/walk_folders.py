"""Walks through studies of folders in a real Slicer: a large one, those of other kinds, corrections, what goes wrong.

    Slicer --no-splash --disable-settings --additional-module-paths ProxyPromptSegment \
        --python-script Testing/Slicer/walk_folders.py [FOLDER FOR PICTURES]

The variable STEPS names some of the steps, with commas between them; by default all of them are walked.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import qt
import slicer

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # Slicer runs the file and does not know its folder

from walk_studies import WalkStudies
from walking import start

MOST_SECONDS = 0.05
"""Processor time of the main thread between two timers that are due at once: how long a click stops the window.

A build that is not optimised, on two cores with much other work, keeps this sometimes: longest turns of 39, 45, 34, 78,
85 and 74 ms. Over it are turns in which the views render (30 ms) beside the panel (25 to 45 ms) or a piece.
"""


class WalkFolders(WalkStudies):
    """Steps that do not need each other: each begins with an empty scene and a folder of its own."""

    # --- helpers ----------------------------------------------------------------------------------------------

    def place(self, *seeds):
        """A new folder with drawn pelves, after `fresh`, whose target is removed."""
        from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom
        from ProxyPromptSegmentLib.imaging.volumes import write_volume

        self.fresh()
        slicer.mrmlScene.RemoveNode(self.target)
        place = Path(tempfile.mkdtemp()) / "archive"
        place.mkdir()
        for seed in seeds:
            write_volume(place / f"patient {seed}.nrrd", pelvis_phantom(seed, (12, 80, 80))[0])
        return place

    def open_folder(self, place, count):
        """Opens a folder, and waits for its studies."""
        from ProxyPromptSegmentModule.runs.folder_request import StudyFolder

        results = place.parent / f"{place.name} results"
        self.panel.sections.folder.open(StudyFolder(place=place, output=results))
        self.until(lambda: len(self.cases()) == count, 20, f"{count} studies, but {self.cases()}")
        self.open_only("casesButton")
        return results

    def segmented(self):
        """Presses the button and waits for the end."""
        self.press("segmentCasesButton")
        studies = self.studies()
        assert studies is not None, self.ui.casesMessageLabel.text
        self.until(lambda: studies.ended, 120, "the end")
        self.wait(0.2)
        return studies

    def show(self, name):
        """Clicks a study and waits until it is the target; returns its image."""
        number = next(n for n, line in enumerate(self.cases()) if line.startswith(name))
        self.click_line(number)
        parameters = self.panel.state.parameters
        self.until(
            lambda: (
                parameters.targetVolume is not None
                and self.panel.state.folder.wanted is None
                and self.cases()[self.ui.casesList.currentRow].startswith(name)
            ),
            20,
            f"{name}, but: {self.ui.casesMessageLabel.text}",
        )
        self.wait(0.3)
        return parameters.targetVolume

    def stalls(self):
        """A list that receives the processor time of the main thread between two timers; and what ends it."""
        found, last = [], [time.thread_time()]
        timer = qt.QTimer()
        timer.setInterval(0)

        def tick():
            time.sleep(0.004)  # without it the thread that reads gets no time; see `runs/pump.py`
            now = time.thread_time()
            found.append(now - last[0])
            last[0] = now

        timer.connect("timeout()", tick)
        timer.start()
        return found, timer.stop

    # --- steps ------------------------------------------------------------------------------------------------

    def a_large_study(self):
        """A study of 300 slices of 512 x 512 with a result is clicked: the window is never stopped for long."""
        from ProxyPromptSegmentLib.cohort.contents import Inputs
        from ProxyPromptSegmentLib.cohort.folder import CohortFolder
        from ProxyPromptSegmentLib.cohort.studies import list_studies
        from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
        from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation, write_segmentation

        place, shape = self.place(2), (300, 512, 512)
        noise = np.random.default_rng(0).normal(0, 100, (512, 512)).astype("<i2")
        grid = VolumeGeometry.from_affine(np.diag([-0.8, -0.8, 1.5, 1.0]), shape[::-1])
        header = (
            "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 512 512 300\n"
            "space directions: (-0.8,0,0) (0,-0.8,0) (0,0,1.5)\nspace origin: (0,0,0)\nendian: little\n"
            "encoding: raw\n\n"
        )
        (place / "large.nrrd").write_bytes(header.encode() + np.broadcast_to(noise, shape).tobytes())
        masks = np.zeros((2, *shape), np.uint8)
        masks[0, 100:200, 150:300, 100:300] = masks[1, 50:90, 200:350, 200:300] = 1
        results = place.parent / "archive results"
        about = {"supports": [], "model": {"name": "m", "sha256": "0"}, "settings": {}}
        folder, study = CohortFolder.begin(results, about), list_studies(place).studies[0]
        assert study.path.name == "large.nrrd"
        key = folder.key_of(Inputs(folder.folder("inputs")).of(study.path))
        files = folder.files_of(study, key)
        found = [Segment(name, mask) for name, mask in zip(("organ", "lesion"), masks, strict=True)]
        write_segmentation(files.result, Segmentation(found, grid), study.path)
        confidence = {"confidence": [0.5] * 300, "lowest_confidence": []}
        objects = [{"name": one.name, **confidence} for one in found]
        files.report.write_text(json.dumps({"objects": objects, "review": []}), encoding="utf-8")
        facts = [{"name": one.name, "voxels": int(one.mask.sum()), "volume_ml": 1.0} for one in found]
        folder.publish(key, study, files, {"objects": facts, "review": []})
        self.open_folder(place, 2)
        self.show("patient 2.nrrd")
        longest = []
        for time_ in ("first", "again"):
            stalls, stop = self.stalls()
            self.show("large.nrrd")
            self.wait(2)
            stop()
            ordered = [round(1000 * one) for one in sorted(stalls)[-6:]]
            print(f"a click on a study of 512 x 512 x 300, {time_}: longest stalls {ordered} ms", flush=True)
            strip = self.ui.confidenceStrip
            assert strip.columnCount > 50 and "confidence 0.5" in strip.item(0, 3).toolTip()
            assert self.panel.state.segmentation.GetSegmentation().GetNumberOfSegments() == 2
            self.show("patient 2.nrrd")
            longest.append(ordered[-1])
        assert max(longest) <= 1000 * MOST_SECONDS, "a click stops the window"

    def corrections(self):
        """A study whose name has all kinds of characters is corrected, saved, left, and read again as it was saved."""
        place = self.place(2)
        (place / "patient 2.nrrd").rename(place / "Müller & Söhne 50 %.nrrd")
        results = self.open_folder(place, 1)
        studies = self.segmented()
        assert studies.count("done") == 1, (studies.error, self.cases())
        node, button = self.show("Müller"), self.ui.saveCorrectionsButton
        assert not button.enabled and "as it is on screen" in button.toolTip, button.toolTip
        segmentation = self.panel.state.segmentation
        segment_id = segmentation.GetSegmentation().GetNthSegmentID(0)
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment_id, node)
        mask[5] = 0
        mask[5, 20:40, 30:50] = 1
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, segment_id, node)
        self.until(lambda: button.enabled, 20, button.toolTip)
        self.narrow("corrections_before", "casesButton")
        self.press("saveCorrectionsButton")
        self.until(lambda: "are in" in self.ui.casesMessageLabel.text, 60, self.ui.casesMessageLabel.text)
        self.narrow("corrections_saved", "casesButton")
        assert self.cases() == ["Müller & Söhne 50 %.nrrd: corrected"], self.cases()
        assert not button.enabled
        assert len(list((results / "corrected").glob("*.seg.nrrd"))) == 1
        assert "1 corrected by hand" in (results / "index.html").read_text(encoding="utf-8")
        self.press("folderButton")
        self.open_folder(place, 1)
        assert self.cases() == ["Müller & Söhne 50 %.nrrd: corrected"], self.cases()
        node, segmentation = self.show("Müller"), self.panel.state.segmentation
        segment_id = segmentation.GetSegmentation().GetNthSegmentID(0)
        again = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment_id, node)
        assert np.array_equal(again, mask)

    def other_kinds(self):
        """A colour picture, a folder of DICOM slices with an umlaut, and a file in a folder below are studies."""
        sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
        from PIL import Image

        from dicom_cases import write_dicom_volume
        from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom

        place = self.place(2)
        write_dicom_volume(place / "Röntgen & CT", pelvis_phantom(3, (12, 80, 80))[0], "1.2.826.0.1.3680043.2.1125.77")
        colours = np.random.default_rng(5).integers(0, 255, (80, 90, 3), dtype=np.uint8)
        Image.fromarray(colours).save(place / "skin 100 %.png")
        self.open_folder(place, 3)
        self.segmented()
        self.narrow("kinds", "casesButton")
        print(self.cases(), [self.ui.casesList.item(n).text() for n in range(3)], flush=True)
        states = dict(line.split(": ", 1) for line in self.cases())
        assert states["Röntgen & CT"] in ("segmented", "nothing found", "not everything found"), states
        node = self.show("Röntgen & CT")
        assert node.GetName() == "Röntgen + CT" and node.GetImageData().GetDimensions() == (80, 80, 12)
        picture = self.show("skin 100 %.png")
        assert picture.IsA("vtkMRMLVectorVolumeNode"), picture.GetClassName()
        assert np.array_equal(slicer.util.arrayFromVolume(picture)[0], colours)
        self.picture("kinds_colour", ("casesButton",), narrow=False)
        self.show("patient 2.nrrd")
        assert len(slicer.util.getNodesByClass("vtkMRMLVectorVolumeNode")) == 0

    def what_goes_wrong(self):
        """The folder of results becomes read-only or goes, a study goes between two clicks; each is said in words."""
        place = self.place(2, 3)
        results = self.open_folder(place, 2)
        self.segmented()
        self.show("patient 2.nrrd")
        (place / "patient 3.nrrd").unlink()
        self.click_line(next(n for n, line in enumerate(self.cases()) if line.startswith("patient 3")))
        message = self.ui.casesMessageLabel
        self.until(lambda: "patient 3.nrrd is not there any more" in message.text, 20, "why it cannot be read")
        assert "patient 2" not in message.text, message.text
        results.rename(results.with_name("moved"))
        self.press("segmentCasesButton")
        self.until(lambda: "Finished: 1 segmented" in message.text, 120, "the end without the folder of results")
        assert self.cases() == ["patient 2.nrrd: segmented"], self.cases()
        assert str(results) in message.text and (results / "index.html").is_file()
        place.rename(place.with_name("also moved"))
        self.press("segmentCasesButton")
        self.until(lambda: "does not exist" in message.text, 120, "the end without the folder of studies")
        assert self.cases() == ["patient 2.nrrd: segmented"], self.cases()
        print("studies that are gone:", message.text, flush=True)
        self.narrow("folders_gone", "casesButton")

    def ends_meanwhile(self):
        """The scene is closed, and the module is reloaded, while studies of a folder are segmented or read."""
        for end in ("scene", "module"):
            place = self.place(2, 3)
            results = self.open_folder(place, 2)
            self.press("segmentCasesButton")
            studies = self.studies()
            self.until(lambda studies=studies: studies.current is not None, 120, "the first study")
            if end == "scene":
                slicer.mrmlScene.Clear(0)
            else:
                slicer.modules.ProxyPromptSegmentWidget.onReload()
                self.look()
            self.until(lambda studies=studies: studies.ended, 60, f"the end with the {end}")
            self.until(lambda: not self.panel.host.logic.worker.busy, 120, "the worker thread")
            self.wait(1)
            assert not list((results / "claims").glob("*")), "a claim is left"
            assert self.ui.folderButton.enabled and self.panel.state.folder is None
            slicer.mrmlScene.Clear(0)
            self.open_folder(place, 2)
            self.press("folderButton")
            assert self.ui.folderButton.text == "Folder of studies…"

    def all(self):
        """All steps."""
        self.walk([self.a_large_study, self.corrections, self.other_kinds, self.what_goes_wrong, self.ends_meanwhile])


if __name__ == "__main__":
    start(WalkFolders)
