"""Library, models and first run in the panel, with stand-ins for Slicer's widgets; the library is the real one."""

from __future__ import annotations

import types

import pytest

from ProxyPromptSegmentLib.inference.closer.choice import USE_CLOSER
from ProxyPromptSegmentLib.inference.helps import REGISTER, USE_POSITION
from ProxyPromptSegmentModule.states import PromptBy
from widget_cases import add_case, add_views, text_of


@pytest.fixture
def ready(make_panel):
    """A panel with a support and a target."""
    add_case("Patient Doe")
    add_case("new", objects=())
    add_views()
    made = make_panel()
    made.ui.addSupportButton.click()
    return made


def _agree(monkeypatch, answer=True):
    import slicer.util

    asked = []
    monkeypatch.setattr(
        slicer.util, "confirmOkCancelDisplay", lambda text, title="", **more: asked.append(text) or answer
    )
    return asked


def _saved(panel, title="Case A"):
    panel.ui.libraryTitleEdit.text = title
    panel.ui.libraryModalityEdit.text = "MR T2"
    panel.ui.librarySaveButton.click()
    return panel.sections.library.entries


def test_a_support_is_saved_without_its_name_and_used_again(ready):
    assert ready.ui.libraryExportButton.toolTip == "The library is empty."
    entries = _saved(ready)
    assert [one.title for one in entries] == ["Case A"] and not entries[0].identifying
    assert "Doe" not in (entries[0].folder / "case.json").read_text(encoding="utf-8")
    assert text_of(ready.ui.libraryMessageLabel) == "Saved as “Case A”."
    assert ready.ui.libraryList.count == 1 and "prostate, tumour · MR T2" in ready.ui.libraryList.item(0).text()
    assert not ready.ui.libraryList.item(0).icon().isNull()
    assert not ready.ui.libraryTitleEdit.text and ready.ui.libraryModalityEdit.text == "MR T2"
    _saved(ready, "Again")
    assert "already has this case, as “Case A”" in text_of(ready.ui.libraryMessageLabel)
    assert ready.ui.libraryAddButton.toolTip.startswith("Select")
    ready.ui.libraryList.item(0).setSelected(True)
    ready.ui.libraryAddButton.click()
    assert [row.title for row in ready.state.table.rows()] == ["Patient Doe", "Case A"]
    assert ready.ui.librarySaveButton.toolTip == "This support comes from the library."
    assert ready.ui.showSupportButton.toolTip == "This case lies in the library, not in the scene."
    ready.ui.applyButton.click()
    assert len(ready.host.logic.runs[0].request.cases) == 2


def test_the_name_is_kept_only_if_that_is_ticked(ready):
    ready.ui.libraryIdentifyingBox.click()
    assert _saved(ready)[0].identifying == {"name": "Patient Doe"}


def test_cases_go_out_and_come_back_as_a_zip(ready, stand_ins, tmp_path, monkeypatch):
    _saved(ready)
    monkeypatch.setattr(stand_ins.Dialogs, "path", str(tmp_path / "out"))
    ready.ui.libraryExportButton.click()
    assert (tmp_path / "out.zip").is_file() and "Cases exported: 1." in text_of(ready.ui.libraryMessageLabel)
    asked = _agree(monkeypatch, False)
    ready.ui.libraryList.item(0).setSelected(True)
    ready.ui.libraryDeleteButton.click()
    assert "Case A" in asked[0] and len(ready.sections.library.entries) == 1
    _agree(monkeypatch)
    ready.ui.libraryDeleteButton.click()
    assert ready.sections.library.entries == [] and ready.ui.libraryList.real.isHidden()
    monkeypatch.setattr(stand_ins.Dialogs, "path", str(tmp_path / "out.zip"))
    ready.ui.libraryImportButton.click()
    assert [one.title for one in ready.sections.library.entries] == ["Case A"]
    assert "Cases imported into the library: 1." in text_of(ready.ui.libraryMessageLabel)
    (tmp_path / "out.zip").write_bytes(b"not a zip")
    ready.ui.libraryImportButton.click()
    assert "zip" in text_of(ready.ui.libraryMessageLabel) and len(ready.sections.library.entries) == 1
    monkeypatch.setattr(stand_ins.Dialogs, "path", "")
    ready.ui.libraryImportButton.click()


def test_suggestions_sort_the_library_and_warn(ready):
    first = _saved(ready, "Case A")[0]
    second_volume, second = add_case("second", shift=2)
    ready.ui.supportSegmentationSelector.setCurrentNode(second)
    ready.ui.addSupportButton.click()
    second = next(one for one in _saved(ready, "Case B") if one.id != first.id)
    ready.ui.librarySuggestButton.click()
    assert not ready.ui.librarySuggestButton.enabled
    on_answer = ready.host.logic.asked[-1][1]
    likeness = [(second, 0.8), (first, 0.3)]
    on_answer([types.SimpleNamespace(entry=one, likeness=value, reason="same plane") for one, value in likeness], "")
    assert [one.title for one in ready.sections.library.entries] == ["Case B", "Case A"]
    assert "likeness 80 %" in ready.ui.libraryList.item(0).text() and ready.ui.librarySuggestButton.enabled
    on_answer([], "nothing resembles the target.")
    assert text_of(ready.ui.libraryMessageLabel) == "Nothing resembles the target."


class Shelf:
    """Models of a test; a download that the test moves on."""

    def __init__(self):
        self.state = types.SimpleNamespace(
            state="running",
            ended=False,
            what="large",
            received=250,
            total=1000,
            seconds_left=30.0,
            error="",
            bytes_per_second=1.0,
        )
        self.calls, self.cancelled = [], False
        self.have = False

    def rows(self):
        return [
            _model("sam-compact", True),
            _model("large", self.have, can_download=not self.have, can_remove=self.have, follows=True),
        ]

    def needed(self, name):
        return []

    def download(self, name):
        self.calls.append(name)
        return types.SimpleNamespace(
            name=name, poll=lambda: self.state, cancel=lambda: setattr(self, "cancelled", True)
        )

    def import_file(self, path):
        return self.download(path)

    def remove(self, name):
        self.have = False
        return 375_000_000

    def close(self):
        pass


def _model(name, usable, **more):
    fields = {"state": "here" if usable else "can be downloaded", "bytes": 375_000_000, "licence": "Apache-2.0"}
    fields.update(description="A network.", trained_on="images", follows=False, can_download=False, can_remove=False)
    fields.update(more)
    reason = "" if usable else f"{name} is not on this computer; download it."
    fields.update(answers=lambda prompt_by: prompt_by == PromptBy.SUPPORT)
    return types.SimpleNamespace(name=name, kind="model", usable=usable, here=usable, reason=reason, **fields)


@pytest.fixture
def shelved(ready):
    """The panel with models of the test."""
    ready.state.catalog.close()
    ready.state.catalog = Shelf()
    ready.sections.model.look_again()
    ready.refresh()
    return ready


def test_a_model_that_is_not_here_cannot_be_applied_and_says_what_to_do(shelved):
    ui = shelved.ui
    assert ui.modelCombo.currentText == "sam-compact (here)" and ui.modelDownloadButton.toolTip.startswith("This")
    assert not ui.followMemoryBox.enabled
    ui.modelCombo.currentIndex = 1
    assert shelved.state.parameters.model == "large" and "375 MB" in ui.modelCombo.currentText
    assert text_of(ui.reasonLabel) == "Large is not on this computer; download it." and not ui.applyButton.enabled
    assert ui.followMemoryBox.enabled and "Licence: Apache-2.0." in text_of(ui.modelLabel)


def test_a_download_asks_first_and_can_be_cancelled(shelved, stand_ins, monkeypatch):
    ui = shelved.ui
    ui.modelCombo.currentIndex = 1
    asked = _agree(monkeypatch, False)
    ui.modelDownloadButton.click()
    assert "375 MB, licence Apache-2.0" in asked[0] and not shelved.state.catalog.calls
    _agree(monkeypatch)
    ui.modelDownloadButton.click()
    stand_ins.process_events()
    assert shelved.state.catalog.calls == ["large"] and not ui.modelProgressBar.real.isHidden()
    assert ui.modelProgressBar.value == 250 and ui.modelProgressBar.format.endswith("about 30 s left")
    assert "download is in progress" in ui.modelDownloadButton.toolTip
    ui.modelCancelButton.click()
    assert shelved.state.catalog.cancelled
    shelved.state.catalog.state.ended, shelved.state.catalog.have = True, True
    stand_ins.process_events()
    assert ui.modelProgressBar.real.isHidden() and ui.applyButton.enabled
    assert text_of(ui.modelMessageLabel) == "“large” is now on this computer."
    ui.modelRemoveButton.click()
    assert text_of(ui.modelMessageLabel) == "375 MB were freed." and not ui.applyButton.enabled


def test_a_download_that_fails_says_why(shelved, stand_ins, monkeypatch):
    monkeypatch.setattr(stand_ins.Dialogs, "path", "weights.pth")
    shelved.state.catalog.state.ended, shelved.state.catalog.state.error = True, "the file has another hash."
    shelved.ui.modelImportButton.click()
    stand_ins.process_events()
    assert shelved.state.catalog.calls == ["weights.pth"]
    assert text_of(shelved.ui.modelMessageLabel) == "The file has another hash."


def test_a_cancelled_download_says_that_it_can_go_on(shelved, stand_ins, monkeypatch):
    _agree(monkeypatch)
    shelved.ui.modelCombo.currentIndex = 1
    shelved.ui.modelDownloadButton.click()
    shelved.state.catalog.state.ended, shelved.state.catalog.state.state = True, "cancelled"
    stand_ins.process_events()
    assert "the next attempt resumes there" in text_of(shelved.ui.modelMessageLabel)


def test_memory_and_device_are_passed_on(shelved):
    shelved.state.catalog.have = True
    shelved.sections.model.look_again()
    shelved.ui.modelCombo.currentIndex = 1
    assert shelved.ui.tilesCombo.enabled
    shelved.ui.followMemoryBox.click()
    for widget in (
        shelved.ui.tilesCombo,
        shelved.ui.usePositionBox,
        shelved.ui.registerSupportsBox,
        shelved.ui.lookCloserBox,
    ):
        assert not widget.enabled and "untick it" in widget.toolTip
    shelved.ui.deviceCombo.currentIndex = 1
    shelved.ui.applyButton.click()
    settings = shelved.host.logic.runs[0].request.settings
    assert (settings.model, settings.device, settings.follow, settings.fill_gaps) == ("large", "cpu", True, True)
    shelved.ui.fillGapsBox.click()
    assert shelved.sections.apply._requests.settings().fill_gaps is False
    assert settings.most_read == 4
    shelved.ui.chooseSupportsBox.click()
    assert shelved.sections.apply._requests.settings().most_read is None
    shelved.ui.applyButton.click()
    shelved.host.logic.runs[0].end("cancelled")
    shelved.ui.modelCombo.currentIndex = 0
    assert shelved.ui.tilesCombo.enabled and shelved.ui.usePositionBox.enabled
    shelved.ui.applyButton.click()
    assert shelved.host.logic.runs[1].request.settings.follow is False


def test_helps_are_chosen_in_the_panel_and_passed_on(shelved):
    boxes = (shelved.ui.usePositionBox, shelved.ui.registerSupportsBox, shelved.ui.lookCloserBox)
    requests = shelved.sections.apply._requests
    before = requests.settings()
    assert [box.checked for box in boxes] == [before.position, before.register, before.closer]
    assert [box.checked for box in boxes] == [USE_POSITION, REGISTER, USE_CLOSER]
    for box in boxes:
        box.click()
    after = requests.settings()
    assert (after.position, after.register, after.closer) == tuple(
        not one for one in (before.position, before.register, before.closer)
    )
    shelved.sections.model.refresh()
    assert [box.checked for box in boxes] == [after.position, after.register, after.closer]


def test_what_is_not_installed_yet_is_said_and_installed_after_asking(ready, monkeypatch):
    from ProxyPromptSegmentModule.install.installer import Outcome
    from ProxyPromptSegmentModule.states import InstallState

    section, ui = ready.sections.install, ready.ui
    lacking = ["torch>=2.6", "einops"]
    monkeypatch.setattr(section.requirements, "missing", lambda: list(lacking))
    section.look_again()
    ready.refresh()
    assert not ui.firstRunFrame.real.isHidden() and "PyTorch is not installed yet" in text_of(ui.firstRunLabel)
    assert not ui.applyButton.enabled and "PyTorch is not installed yet" in text_of(ui.reasonLabel)
    answers = []
    asked = _agree(monkeypatch)

    def install(ask, report):
        answers.append(ask("This installs PyTorch."))
        report("installing PyTorch.")
        assert text_of(ui.firstRunLabel) == "Installing PyTorch."
        return Outcome(state=InstallState.FAILED, text="There is no network.", missing=tuple(lacking))

    monkeypatch.setattr(section.requirements, "install", install)
    ui.firstRunButton.click()
    assert answers == [True] and asked == ["This installs PyTorch."]
    assert text_of(ui.firstRunLabel) == "There is no network." and ui.firstRunButton.enabled
    monkeypatch.setattr(
        section.requirements,
        "install",
        lambda ask, report: lacking.clear() or Outcome(state=InstallState.READY, text="Everything is installed."),
    )
    ui.firstRunButton.click()
    assert text_of(ui.firstRunLabel) == "Everything is installed." and ui.firstRunButton.real.isHidden()
    assert ui.applyButton.enabled


def test_a_question_that_cannot_be_asked_leaves_its_button(ready, monkeypatch):
    from ProxyPromptSegmentLib.errors import InputError

    def refuse(*args, **more):
        raise InputError("the target has no voxels.")

    monkeypatch.setattr(ready.host.logic, "suggest", refuse, raising=False)
    monkeypatch.setattr(ready.host.logic, "check", refuse, raising=False)
    for section, button, press in (
        (ready.sections.library, "librarySuggestButton", "on_suggest"),
        (ready.sections.supports_table, "checkSupportsButton", "on_check"),
    ):
        getattr(section, press)()
        assert "busy" not in vars(section) and "being" not in getattr(ready.ui, button).toolTip
    assert "The target has no voxels." in text_of(ready.ui.libraryMessageLabel)
    assert ready.ui.checkSupportsButton.enabled
