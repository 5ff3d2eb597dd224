"""The choice “Prompt by”: what belongs to it is shown, and asked for; the panel has stand-ins for Slicer's widgets."""

from __future__ import annotations

import dataclasses

import pytest

from widget_cases import text_of

SUPPORT, CLASS, STRUCTURE = range(3)


def shown(panel, *names):
    return [name for name in names if not getattr(panel.ui, name).real.isHidden()]


def lines(panel):
    listed = panel.ui.classList
    return [listed.item(number).text() for number in range(listed.count)]


def tick(panel, name, state=True):
    import qt

    item = panel.ui.classList.item(lines(panel).index(name))
    item.setCheckState(qt.Qt.Checked if state else qt.Qt.Unchecked)


PARTS = ("supportButton", "libraryButton", "whyButton", "useCorrectedButton", "classFrame", "registerSupportsBox")


def test_what_does_not_apply_is_not_shown(ready):
    assert shown(ready, *PARTS) == [one for one in PARTS if one != "classFrame"]
    ready.ui.promptByCombo.currentIndex = CLASS
    assert ready.state.parameters.promptBy == "class" and shown(ready, *PARTS) == ["classFrame"]
    assert not shown(ready, "structureModelCombo") and "lookCloserBox" not in shown(ready, "lookCloserBox")
    assert [ready.ui.modelCombo.currentText.split()[0], ready.ui.modelCombo.count] == ["classes-compact", 1]
    assert text_of(ready.ui.reasonLabel) == "Tick at least one structure in the list."
    ready.ui.promptByCombo.currentIndex = SUPPORT
    assert ready.ui.modelCombo.currentText.startswith("sam-compact") and not text_of(ready.ui.reasonLabel)


def test_classes_are_searched_by_name_synonym_and_code_and_several_are_asked_for(ready):
    ready.ui.promptByCombo.currentIndex = CLASS
    assert len(lines(ready)) == 24
    ready.ui.classSearchEdit.text = "wound"
    assert lines(ready) == ["foot ulcer"]
    ready.ui.classSearchEdit.text = "41216001"
    assert lines(ready) == ["prostate"]
    assert "Prostate, SNOMED CT 41216001" in ready.ui.classList.item(0).toolTip()
    tick(ready, "prostate")
    ready.ui.classSearchEdit.text = "liver"
    assert lines(ready) == ["prostate", "liver"]  # what is ticked stays in sight
    tick(ready, "liver")
    ready.ui.classSearchEdit.text = "nonsense"
    assert lines(ready) == ["prostate", "liver"]
    assert not text_of(ready.ui.reasonLabel) and ready.ui.applyButton.enabled
    ready.ui.applyButton.click()
    request = ready.host.logic.runs[0].request
    assert [one.name for one in request.classes] == ["prostate", "liver"] == list(request.objects)
    assert request.cases == () and request.settings.model == "classes-compact" and not request.settings.follow
    ready.host.logic.runs[0].end("finished")
    tick(ready, "prostate", False)
    tick(ready, "liver", False)
    assert "No structure is called like this" in text_of(ready.ui.classLabel)


def test_no_support_is_needed_for_a_class(panel):
    from widget_cases import add_case

    add_case("new", objects=())
    panel.choose_defaults()
    panel.ui.promptByCombo.currentIndex = CLASS
    tick(panel, "prostate")
    assert panel.ui.applyButton.enabled, text_of(panel.ui.reasonLabel)


def test_a_live_preview_ends_when_something_else_prompts(ready):
    ready.ui.scopeCombo.currentIndex = 3
    ready.ui.applyButton.click()
    run = ready.host.logic.runs[0]
    ready.ui.promptByCombo.currentIndex = CLASS
    assert run.closed


def test_the_choice_is_saved_with_the_scene_and_comes_back(ready):
    ready.ui.promptByCombo.currentIndex = CLASS
    tick(ready, "prostate")
    ready.leave_parameter_node()
    ready.use_parameter_node()
    assert ready.ui.promptByCombo.currentIndex == CLASS
    assert [one.name for one in ready.chosen.classes.chosen()] == ["prostate"]
    ready.state.parameters.promptBy = "something of a later version"
    ready.refresh()
    assert ready.ui.promptByCombo.currentIndex == SUPPORT


def test_a_class_model_that_is_removed_meanwhile_is_missed_in_a_sentence(ready):
    ready.ui.promptByCombo.currentIndex = CLASS
    tick(ready, "polyp")
    model = ready.chosen.model
    kept = model.rows
    model.rows = [row for row in kept if row.name != "classes-compact"]
    ready.refresh()
    assert "No model on this computer can be prompted like this" in text_of(ready.ui.reasonLabel)
    assert "no such model on this computer yet" in text_of(ready.ui.classLabel)
    (row,) = [row for row in kept if row.name == "classes-compact"]
    fewer = tuple(one for one in row.classes if one.name != "polyp")
    model.rows = [*model.rows, dataclasses.replace(row, name="other", classes=fewer)]
    ready.refresh()
    assert "knows “polyp” any more" in text_of(ready.ui.reasonLabel) and not ready.ui.applyButton.enabled


def test_a_second_class_model_is_used_for_what_only_it_knows(ready):
    from ProxyPromptSegmentLib.weights.vocabulary import PromptClass

    ready.ui.promptByCombo.currentIndex = CLASS
    model = ready.chosen.model
    (row,) = [row for row in model.rows if row.name == "classes-compact"]
    spleen = PromptClass("spleen", code="78961009", meaning="Spleen")
    model.rows = [*model.rows, dataclasses.replace(row, name="mine", classes=(spleen, row.classes[0]))]
    ready.refresh()
    assert "spleen" in lines(ready) and ready.ui.modelCombo.count == 2
    tick(ready, "spleen")
    assert ready.chosen.requests.request().settings.model == "mine" and not text_of(ready.ui.reasonLabel)
    tick(ready, "prostate")
    assert ready.chosen.model.name == "mine" and len(ready.chosen.requests.request().classes) == 2
    tick(ready, "liver")
    assert "No model knows all of these structures together" in text_of(ready.ui.reasonLabel)


@pytest.fixture
def with_structure_models(ready):
    """Two models of AutoSAM's kind, one of which comes with the program."""
    model = ready.chosen.model
    (row,) = [row for row in model.rows if row.name == "classes-compact"]
    model.rows = [one for one in model.rows if one.prompts != "image" or one.name == "autosam-polyp"]
    model.rows.append(dataclasses.replace(row, name="autosam-organs", prompts="image", classes=row.classes[:6]))
    ready.ui.promptByCombo.currentIndex = STRUCTURE
    return ready


def test_a_structure_model_needs_nothing_but_the_image(with_structure_models):
    panel = with_structure_models
    assert shown(panel, "structureModelCombo", "classSearchEdit") == ["structureModelCombo"]
    assert lines(panel) == ["polyp"] and panel.ui.applyButton.enabled
    panel.ui.applyButton.click()
    request = panel.host.logic.runs[0].request
    assert request.settings.model == "autosam-polyp" and [one.name for one in request.classes] == ["polyp"]


def test_of_a_structure_model_with_many_structures_some_are_ticked(with_structure_models):
    panel = with_structure_models
    panel.ui.structureModelCombo.currentIndex = 1
    assert len(lines(panel)) == 6 and "Tick at least one structure" in text_of(panel.ui.reasonLabel)
    tick(panel, "left ventricle")
    assert [one.name for one in panel.chosen.requests.request().classes] == ["left ventricle"]
    panel.ui.structureModelCombo.currentIndex = 0  # ticks of another model do not follow
    assert [one.name for one in panel.chosen.requests.request().classes] == ["polyp"]
    assert panel.ui.modelCombo.count == 2  # only models of this kind are offered
    panel.ui.promptByCombo.currentIndex = CLASS
    assert panel.chosen.model.name == "classes-compact"
