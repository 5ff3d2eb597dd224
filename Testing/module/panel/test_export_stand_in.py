"""The button that writes a result for a picture archive."""

from __future__ import annotations

import pytest

from widget_cases import text_of


@pytest.fixture
def exported(monkeypatch, finished):
    """The calls of the export, which answers with a note."""
    from ProxyPromptSegmentModule.panel import export_section

    calls = []
    monkeypatch.setattr(export_section, "dicom_files_of", lambda volume: ["a.dcm"])
    monkeypatch.setattr(export_section, "export_results", lambda *args: calls.append(args) or ["Left out: tumour."])
    return calls


def choose(panel, stand_ins, path):
    stand_ins.Dialogs.path = str(path)
    panel.ui.exportButton.click()


def test_without_a_result_the_button_says_why(make_panel):
    panel = make_panel()
    assert not panel.ui.exportButton.enabled
    assert panel.ui.exportButton.toolTip == "There is no result yet; press Apply."


def test_the_result_of_the_target_is_written_into_the_chosen_file_with_its_suffix(
    finished, stand_ins, exported, tmp_path
):
    assert finished.ui.exportButton.enabled and "patient's name" in finished.ui.exportButton.toolTip
    choose(finished, stand_ins, tmp_path / "mine")
    ((node, volume, ids, path),) = exported
    assert (node, volume) == (finished.result, finished.new_case) and set(ids) == {"prostate", "tumour"}
    assert path == tmp_path / "mine.dcm"
    assert text_of(finished.ui.resultMessageLabel) == f"Written to {path}.\nLeft out: tumour."
    choose(finished, stand_ins, "")
    assert len(exported) == 1, "a dialog that was closed writes nothing"


def test_an_image_that_was_not_loaded_from_dicom_is_said_before_a_name_is_asked_for(finished, stand_ins, tmp_path):
    choose(finished, stand_ins, tmp_path / "x.dcm")
    said = text_of(finished.ui.resultMessageLabel)
    assert "was not loaded from DICOM" in said and ".seg.nrrd" in said
    assert list(tmp_path.glob("*.dcm")) == []
