"""Own data with stand-ins for Slicer's widgets: what is preselected, and what is asked before it is paired."""

from __future__ import annotations

import pytest

from widget_cases import add_case, add_views, text_of


def _unreferenced(node):
    node.RemoveNodeReferenceIDs(node.GetReferenceImageGeometryReferenceRole())
    return node


@pytest.mark.parametrize("order", ["image first", "all at once"])
def test_one_annotated_and_one_bare_volume_are_preselected(make_panel, order):
    panel = make_panel() if order == "image first" else None
    image, annotation = add_case("case 1", objects=("prostate",))
    _unreferenced(annotation)
    if panel is not None:
        panel.choose_defaults()
    bare, _ = add_case("case 2", objects=(), shift=1)
    add_views()
    panel = panel or make_panel()
    panel.choose_defaults()
    parameters = panel.state.parameters
    assert parameters.supportSegmentation is annotation and parameters.supportVolume is image
    assert parameters.targetVolume is bare


def test_an_image_that_was_the_only_volume_is_not_kept_as_target_when_its_annotation_arrives(make_panel):
    from mrml_scene import add_segmentation

    image, empty = add_case("case 1", objects=())
    panel = make_panel()
    assert panel.state.parameters.targetVolume is image
    empty.GetSegmentation().AddEmptySegment("prostate", "prostate")
    bare, _ = add_case("case 2", objects=(), shift=1)
    panel.on_segments()
    assert panel.state.parameters.targetVolume is bare and panel.state.parameters.supportVolume is image
    assert add_segmentation is not None


def test_a_target_that_the_user_chose_is_kept(make_panel):
    image, _annotation = add_case("case 1", objects=("prostate",))
    add_case("case 2", objects=(), shift=1)
    panel = make_panel()
    panel.ui.targetSelector.setCurrentNode(image)
    panel.choose_defaults()
    assert panel.state.parameters.targetVolume is image


def test_the_annotation_of_another_case_takes_its_image_along_or_none(make_panel):
    first, annotation = add_case("case A", objects=("prostate",))
    second, other = add_case("case B", objects=("prostate",), shift=1)
    _unreferenced(other)
    panel = make_panel()
    panel.ui.supportSegmentationSelector.setCurrentNode(annotation)
    panel.ui.addSupportButton.click()
    panel.ui.supportSegmentationSelector.setCurrentNode(other)
    assert panel.state.parameters.supportVolume is second
    other.SetName("structures")  # now nothing tells the two images apart
    panel.ui.supportSegmentationSelector.setCurrentNode(None)
    panel.ui.supportVolumeSelector.setCurrentNode(first)
    panel.ui.supportSegmentationSelector.setCurrentNode(other)
    assert panel.state.parameters.supportVolume is None
    assert panel.ui.addSupportButton.toolTip == "Select the image on which the segmentation was drawn."


def test_a_doubtful_pair_is_added_only_after_a_second_press(make_panel):
    first, _annotation = add_case("case A", objects=("prostate",))
    _second, other = add_case("case B", objects=("prostate",), shift=1)
    _unreferenced(other)
    panel = make_panel()
    panel.ui.supportSegmentationSelector.setCurrentNode(other)
    panel.ui.supportVolumeSelector.setCurrentNode(first)
    panel.ui.addSupportButton.click()
    said = text_of(panel.ui.supportMessageLabel)
    assert not panel.state.table.rows() and "Its name is like that of ‘case B’." in said
    assert "Do ‘case A’ and ‘case B annotation’ belong together?" in said
    panel.ui.addSupportButton.click()
    assert [row.title for row in panel.state.table.rows()] == ["case A"]


def test_a_large_support_is_read_while_the_window_lives(make_panel, monkeypatch):
    from ProxyPromptSegmentModule.panel import support_section

    monkeypatch.setattr(support_section, "_AT_ONCE", 0)
    add_case("case 1", objects=("prostate",))
    panel = make_panel()
    panel.choose_defaults()
    panel.ui.addSupportButton.click()
    (work,) = panel.host.logic.pieces
    assert panel.ui.supportTable.rowCount == 0 and not panel.ui.addSupportButton.enabled
    assert panel.ui.addSupportButton.toolTip == "A support is being read."
    assert text_of(panel.ui.supportMessageLabel) == "Reading ‘case 1’…"
    next(work)
    assert panel.ui.supportTable.rowCount == 0
    for _piece in work:
        pass
    assert panel.ui.supportTable.rowCount == 1 and panel.ui.addSupportButton.enabled
    assert not text_of(panel.ui.supportMessageLabel)


def test_a_support_that_cannot_be_read_or_whose_scene_is_closed_leaves_the_button_free(make_panel, monkeypatch):
    from ProxyPromptSegmentModule.panel import support_section

    monkeypatch.setattr(support_section, "_AT_ONCE", 0)
    image, _annotation = add_case("case 1", objects=("prostate",))
    panel = make_panel()
    panel.choose_defaults()
    panel.ui.addSupportButton.click()
    panel.host.logic.pieces.pop().close()  # as when the scene is closed
    panel.refresh()
    assert panel.ui.addSupportButton.enabled and not text_of(panel.ui.supportMessageLabel)
    panel.ui.addSupportButton.click()
    work = panel.host.logic.pieces.pop()
    next(work)
    image.GetScene().RemoveNode(image)
    for _piece in work:
        pass
    assert "was removed while it was read" in text_of(panel.ui.supportMessageLabel)
    assert panel.ui.supportTable.rowCount == 0
