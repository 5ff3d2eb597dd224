"""Steps of the longer walk: the library of supports, the shelf of models, the first run."""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import qt
import slicer

HELPERS = Path(__file__).resolve().parents[1] / "helpers"


class Shelves:
    """Dialogs are answered by a timer, so that none stays open."""

    @contextmanager
    def answering(self, button="OK", path=None):
        """Answers the next modal dialog: presses a button, or types a path; the texts that were seen are collected."""
        texts, timer = [], qt.QTimer()

        def answer():
            dialog = slicer.app.activeModalWidget()
            if dialog is None:
                return
            timer.stop()
            if path is not None:
                slicer.util.findChild(dialog, "fileNameEdit").text = str(path)
                texts.append(dialog.windowTitle)
                self.button_of(dialog, ("Open", "Save", "&Open", "&Save")).click()
                return
            texts.append(dialog.text)
            self.button_of(dialog, (button, f"&{button}")).click()

        timer.setInterval(100)
        timer.connect("timeout()", answer)
        timer.start()
        try:
            yield texts
        finally:
            timer.stop()
        assert texts, (
            f"no dialog has asked; the panel says {self.ui.firstRunLabel.text} {self.ui.modelMessageLabel.text}"
        )

    def button_of(self, dialog, names):
        """A button of a dialog, by what is on it."""
        buttons = [one for one in slicer.util.findChildren(dialog, className="QPushButton") if one.text in names]
        assert buttons, f"the dialog has no button {names}"
        return buttons[0]

    def equip_anew(self):
        """The library and the shelf of the folders that the variables name now."""
        self.panel.state.library = self.panel.state.catalog = self.panel.state.table = None
        self.panel.state.equip()
        self.panel.sections.library.look_again()
        self.panel.sections.model.look_again()
        self.panel.refresh()

    def library(self):
        """Save, list, use in another scene, suggest, export, delete, import."""
        folder = tempfile.mkdtemp()
        os.environ["PROXYPROMPT_LIBRARY"] = str(Path(folder) / "library")
        self.fresh()
        self.equip_anew()
        self.open_only("libraryButton")
        assert not self.ui.libraryExportButton.enabled
        self.picture("library_empty", ["libraryButton"])
        self.ui.librarySaveBox.collapsed = False
        self.ui.libraryTitleEdit.text = "Pelvis, T2 weighted"
        self.ui.libraryModalityEdit.text = "MR T2"
        self.ui.libraryAnnotatorEdit.text = "R. Reader"
        self.press("librarySaveButton")
        assert "Saved as" in self.ui.libraryMessageLabel.text, self.ui.libraryMessageLabel.text
        self.press("librarySaveButton")
        assert "already" in self.ui.libraryMessageLabel.text, self.ui.libraryMessageLabel.text
        assert self.ui.libraryList.count == 1
        assert not self.ui.libraryList.item(0).icon().isNull(), "the case has no picture"
        second, marks = self.case(3)
        self.add_case(second, marks)
        assert not self.ui.libraryTitleEdit.text, "the title of one case is offered for the next"
        self.ui.libraryTitleEdit.text = "Another pelvis"
        self.press("librarySaveButton")
        assert self.ui.libraryList.count == 2
        slicer.mrmlScene.Clear(0)  # an empty scene: the library is all that there is
        self.wait(0.2)
        self.target, truth = self.case(2)
        slicer.mrmlScene.RemoveNode(truth)
        self.aim(self.target)
        self.open_only("libraryButton")
        self.press("librarySuggestButton")
        self.until(lambda: "Comparing" not in self.ui.libraryMessageLabel.text, what="the suggestions")
        print("suggest:", self.ui.libraryMessageLabel.text, "|", self.ui.libraryList.item(0).text().replace("\n", " "))
        assert "likeness" in self.ui.libraryList.item(0).text()
        self.ui.libraryList.item(0).setSelected(True)
        self.wait(0.1)
        self.picture("library", ["libraryButton"])
        self.press("libraryAddButton")
        assert self.ui.supportTable.rowCount == 1
        run = self.run_it()
        assert self.mask(run, "prostate", self.target).any()
        self.open_only("libraryButton", "supportButton")
        exported = Path(folder) / "cases.zip"
        self.ui.libraryList.clearSelection()
        with self.answering(path=exported):
            self.press("libraryExportButton")
        assert exported.is_file() and "2" in self.ui.libraryMessageLabel.text
        self.ui.libraryList.selectAll()
        with self.answering("Cancel") as texts:
            self.press("libraryDeleteButton")
        assert self.ui.libraryList.count == 2 and "Permanently" in texts[0]
        with self.answering():
            self.press("libraryDeleteButton")
        assert self.ui.libraryList.count == 0
        self.wait(0.2)
        assert not self.ui.applyButton.enabled, "the support's case is gone, and Apply can be pressed"
        print("library case gone:", self.ui.reasonLabel.text)
        with self.answering(path=exported):
            self.press("libraryImportButton")
        assert self.ui.libraryList.count == 2, self.ui.libraryMessageLabel.text
        self.wait(0.2)
        self.press("removeSupportButton")
        self.ui.libraryList.item(0).setSelected(True)
        self.press("libraryAddButton")
        assert self.ui.applyButton.enabled, self.ui.reasonLabel.text
        self.picture("library_again", ["supportButton"])

    def models(self):
        """List, download with progress and consent, cancel, go on, import, remove."""
        sys.path.insert(0, str(HELPERS))
        from hostile_server import HostileServer
        from ProxyPromptSegmentLib.weights.download import Manner

        folder = Path(tempfile.mkdtemp())
        os.environ["PROXYPROMPT_CACHE"] = str(folder / "cache")
        os.environ["PROXYPROMPT_REGISTRY"] = str(folder / "own.json")
        os.environ["NO_PROXY"] = "127.0.0.1"
        content = random.Random(0).randbytes(3_000_000)
        with HostileServer() as server:
            url = server.serve("/w.pth", content, pause=0.02)
            entry = {
                "name": "mine",
                "kind": "backbone",
                "file": "mine.pth",
                "fits": "sam-vit-b",
                "licence": "CC0",
                "sha256": hashlib.sha256(content).hexdigest(),
                "bytes": len(content),
                "urls": [url],
            }
            (folder / "own.json").write_text(json.dumps({"format": 2, "models": [entry]}), encoding="utf-8")
            self.fresh()
            self.equip_anew()
            self.open_only("modelButton")
            print("models:", [self.ui.modelCombo.itemText(n) for n in range(self.ui.modelCombo.count)])
            self.picture("models", ["modelButton"])
            self.choose("modelCombo", "mine")
            assert not self.ui.applyButton.enabled
            print("apply:", self.ui.reasonLabel.text, "| about:", self.ui.modelLabel.text)
            shelf, manner = self.panel.state.catalog, Manner(allow_http=True, timeout=5.0, pauses=(0.0, 0.0))
            download = shelf.download
            shelf.download = lambda name: download(name, manner)
            with self.answering("Cancel") as texts:
                self.press("modelDownloadButton")
            assert "3 MB" in texts[0] and "CC0" in texts[0], texts
            assert not server.asked, "something was fetched without consent"
            with self.answering():
                self.press("modelDownloadButton")
            bar = self.ui.modelProgressBar
            self.until(lambda: bar.value > 100, 20, "the download")
            assert not self.ui.modelImportButton.enabled
            self.picture("download", ["modelButton"], narrow=False, waiting=0.05)
            self.press("modelCancelButton")
            self.until(lambda: not bar.visible, 20, "the cancel")
            print("cancelled:", self.ui.modelMessageLabel.text, [one.sent for one in server.asked])
            assert self.ui.modelMessageLabel.text, "nothing is said after a cancel"
            with self.answering():
                self.press("modelDownloadButton")
            self.until(lambda: self.panel.chosen.model.row.here, 30, "the rest of the download")
            assert server.asked[-1].start, "the download began again"
            print("downloaded:", self.ui.modelMessageLabel.text, self.ui.modelCombo.currentText)
            assert self.ui.modelMessageLabel.text, "nothing is said after a download"
            with self.answering():
                self.press("modelRemoveButton")
            assert not self.panel.chosen.model.row.here and "free" in self.ui.modelMessageLabel.text
            (folder / "w.pth").write_bytes(content)
            with self.answering(path=folder / "w.pth"):
                self.press("modelImportButton")
            self.until(lambda: self.panel.chosen.model.row.here, 30, "the import")
            print("imported:", self.ui.modelMessageLabel.text)
            assert self.ui.modelMessageLabel.text, "nothing is said after an import"
            (folder / "nonsense.pth").write_bytes(b"nonsense")
            with self.answering(path=folder / "nonsense.pth"):
                self.press("modelImportButton")
            self.until(lambda: "none of the known" in self.ui.modelMessageLabel.text, 30, "the refusal")
            self.picture("import_refused", ["modelButton"])
        self.choose("modelCombo", "sam-compact")
        assert self.ui.applyButton.enabled
        for name in ("PROXYPROMPT_CACHE", "PROXYPROMPT_REGISTRY"):
            del os.environ[name]
        self.equip_anew()

    def first_run(self):
        """Where packages are missing the panel says so, nothing runs, and nothing is installed without consent."""
        from ProxyPromptSegmentModule.install import installer

        self.fresh()
        kept = installer.Requirements.missing
        installed = []
        installer.Requirements.missing = lambda self: ["torch>=2.6"]
        run, installer.Requirements._run = installer.Requirements._run, lambda self, *steps: installed.append(steps)
        try:
            self.panel.sections.install.look_again()
            self.panel.refresh()
            self.wait(0.2)
            assert self.ui.firstRunFrame.visible and self.ui.firstRunButton.visible
            assert not self.ui.applyButton.enabled and "Install" in self.ui.reasonLabel.text
            print("first run:", self.ui.firstRunLabel.text)
            self.open_only("supportButton")
            self.picture("first_run", ["firstRunFrame"])
            with self.answering("Cancel") as texts:
                self.press("firstRunButton")
            print("consent:", texts[0])
            self.wait(0.1)
            assert not installed, "something was installed without consent"
            print("declined:", self.ui.firstRunLabel.text)
            assert self.ui.firstRunButton.enabled
        finally:
            installer.Requirements.missing, installer.Requirements._run = kept, run
        slicer.util.selectModule("Data")
        slicer.util.selectModule("ProxyPromptSegment")
        self.wait(0.3)
        assert not self.ui.firstRunFrame.visible, self.ui.firstRunLabel.text
        assert self.ui.applyButton.enabled, self.ui.reasonLabel.text
