"""Models of the user's own in the panel: renamed, described, exported, removed, imported; widgets are stand-ins."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("torch")

from adapt_cases import QUICK, checked, register_small_model, use_folder, write_cases
from widget_cases import text_of


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A file of an adapted model that is named 'mine'."""
    from ProxyPromptSegmentLib.training.adapting.run import adapt
    from ProxyPromptSegmentLib.weights import registry
    from ProxyPromptSegmentLib.weights.own import export

    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        use_folder(patch, folder)
        register_small_model(folder)
        assert adapt(checked(write_cases(folder / "cases", 2)), "mine", replace(QUICK, steps=1), "cpu", True).kept
        export(registry.find("mine"), folder / "mine.safetensors")
    return folder / "mine.safetensors"


@pytest.fixture
def shelf(stand_ins, tmp_path, monkeypatch, made, make_panel):
    """A panel with the box of own models open, and a model in it."""
    from ProxyPromptSegmentLib.weights.own import register

    use_folder(monkeypatch, tmp_path)
    register_small_model(tmp_path)
    register(made)
    panel = make_panel()
    panel.ui.teachButton.collapsed = False
    panel.ui.ownModelsBox.collapsed = False
    panel.refresh()
    return panel


def listed(panel):
    return [panel.ui.ownModelsList.item(n).text().split(",")[0] for n in range(panel.ui.ownModelsList.count)]


def select(panel, row=0):
    panel.ui.ownModelsList.currentRow = row


def agree(monkeypatch, answer=True):
    import slicer.util

    asked = []
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text, title="": asked.append(text) or answer)
    return asked


def test_name_and_words_are_stored_and_a_chosen_model_stays_chosen(shelf):
    ui = shelf.ui
    assert listed(shelf) == ["mine"] and ui.ownExportButton.toolTip == "Select a model in the list."
    select(shelf)
    assert ui.ownNameEdit.text == "mine" and "Adapted from small" in text_of(ui.ownModelLabel)
    shelf.state.parameters.model = "mine"
    ui.ownNameEdit.text, ui.ownWordsEdit.text = "gland-3t", "For our scanner."
    ui.ownSaveButton.click()
    assert text_of(ui.ownMessageLabel) == "Stored as “gland-3t”." and listed(shelf) == ["gland-3t"]
    assert shelf.state.parameters.model == "gland-3t" and ui.modelCombo.currentText.startswith("gland-3t")
    assert ui.ownWordsEdit.text == "For our scanner." and text_of(ui.ownModelLabel).startswith(
        "For our scanner. Adapted"
    )


@pytest.mark.parametrize("name", ["small", "Grüße/1", "sam-compact"])
def test_a_name_that_cannot_be_leaves_the_model_as_it_is(shelf, name):
    select(shelf)
    shelf.ui.ownNameEdit.text = name
    shelf.ui.ownSaveButton.click()
    assert "name" in text_of(shelf.ui.ownMessageLabel) and listed(shelf) == ["mine"]


def test_a_model_goes_out_as_one_file_is_removed_and_comes_back(shelf, stand_ins, tmp_path, monkeypatch):
    ui = shelf.ui
    select(shelf)
    monkeypatch.setattr(stand_ins.Dialogs, "path", str(tmp_path / "out"))
    ui.ownExportButton.click()
    assert (tmp_path / "out.safetensors").is_file()
    assert "It is completed by small, which the other computer needs too." in text_of(ui.ownMessageLabel)
    monkeypatch.setattr(stand_ins.Dialogs, "path", str(tmp_path / "out.safetensors"))
    ui.ownImportButton.click()
    assert text_of(ui.ownMessageLabel) == "This model is here already, as “mine”."
    shelf.state.parameters.model = "mine"
    asked = agree(monkeypatch, False)
    ui.ownRemoveButton.click()
    assert "cannot be downloaded again" in asked[0] and listed(shelf) == ["mine"]
    agree(monkeypatch)
    ui.ownRemoveButton.click()
    assert listed(shelf) == [] and shelf.state.parameters.model == ""
    assert text_of(ui.ownModelLabel).startswith("No models of your own yet") and not ui.ownExportButton.enabled
    ui.ownImportButton.click()
    assert text_of(ui.ownMessageLabel) == "Imported as “mine”." and listed(shelf) == ["mine"]
    monkeypatch.setattr(stand_ins.Dialogs, "path", "")
    ui.ownImportButton.click()
    ui.ownExportButton.click()


def test_an_export_asks_before_it_replaces_a_file_that_the_dialog_did_not_name(shelf, stand_ins, tmp_path, monkeypatch):
    there = tmp_path / "out.safetensors"
    there.write_bytes(b"another model")
    select(shelf)
    monkeypatch.setattr(stand_ins.Dialogs, "path", str(tmp_path / "out"))
    asked = agree(monkeypatch, False)
    shelf.ui.ownExportButton.click()
    assert there.read_bytes() == b"another model" and asked == [f"{there} is there already. Replace it?"]
    agree(monkeypatch)
    shelf.ui.ownExportButton.click()
    assert there.stat().st_size > 1000
    monkeypatch.setattr(stand_ins.Dialogs, "path", str(there))  # the dialog has asked about it itself
    asked = agree(monkeypatch)
    shelf.ui.ownExportButton.click()
    assert asked == []


def test_a_model_to_start_from_stays_chosen_under_its_new_name(shelf):
    select(shelf)
    shelf.state.parameters.teachModel = "mine"
    shelf.ui.ownNameEdit.text = "gland-3t"
    shelf.ui.ownSaveButton.click()
    assert shelf.state.parameters.teachModel == "gland-3t"


def test_an_import_whose_name_is_taken_gets_another_and_a_foreign_file_is_refused(
    shelf, stand_ins, tmp_path, monkeypatch
):
    from ProxyPromptSegmentLib.weights.describing import with_metadata
    from ProxyPromptSegmentLib.weights.publish import read_metadata

    ui = shelf.ui
    select(shelf)
    monkeypatch.setattr(stand_ins.Dialogs, "path", str(tmp_path / "out.safetensors"))
    ui.ownExportButton.click()
    other = tmp_path / "other.safetensors"
    with_metadata(tmp_path / "out.safetensors", other, {**read_metadata(tmp_path / "out.safetensors"), "x": 1})
    monkeypatch.setattr(stand_ins.Dialogs, "path", str(other))
    ui.ownImportButton.click()
    assert text_of(ui.ownMessageLabel) == "Imported as “mine-2”, because “mine” is the name of another model."
    assert listed(shelf) == ["mine", "mine-2"]
    (tmp_path / "bad.safetensors").write_bytes(b"no model")
    monkeypatch.setattr(stand_ins.Dialogs, "path", str(tmp_path / "bad.safetensors"))
    ui.ownImportButton.click()
    assert "is not a checkpoint of ProxyPromptSegment" in text_of(ui.ownMessageLabel) and len(listed(shelf)) == 2


def test_the_buttons_of_the_models_know_models_of_the_users_own_too(shelf, stand_ins, tmp_path, monkeypatch):
    ui = shelf.ui
    select(shelf)
    monkeypatch.setattr(stand_ins.Dialogs, "path", str(tmp_path / "out.safetensors"))
    ui.ownExportButton.click()
    agree(monkeypatch)
    shelf.state.parameters.model = "mine"
    ui.modelRemoveButton.click()
    assert "mine" not in [row.name for row in shelf.chosen.model.rows], "the entry stayed without its file"
    shelf.refresh()
    assert listed(shelf) == []
    ui.modelImportButton.click()
    until = 600
    while ui.modelCancelButton.real.isVisibleTo(shelf.frame) and until:
        stand_ins.process_events()
        until -= 1
    assert text_of(ui.modelMessageLabel) == "“mine” is now on this computer.", text_of(ui.modelMessageLabel)
