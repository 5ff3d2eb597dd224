"""Another object or support segments again at once, where this target has a result."""

from __future__ import annotations

from widget_cases import add_case, finish


def test_another_object_segments_again_at_once_after_a_result_only(ready):
    from PySide6.QtCore import Qt

    objects, logic = ready.ui.objectsList, ready.host.logic
    objects.item(1).setCheckState(Qt.Unchecked)
    assert not logic.runs
    assert ready.ui.applyButton.toolTip == "Segments prostate in new."
    ready.ui.applyButton.click()
    objects.item(1).setCheckState(Qt.Checked)
    assert len(logic.runs) == 1  # it still runs
    result = finish(ready, logic.runs[0])
    objects.item(0).setCheckState(Qt.Unchecked)
    assert len(logic.runs) == 2
    assert logic.runs[1].request.objects == ("tumour",)
    assert logic.runs[1].request.output.segmentation is result
    assert logic.runs[1].request.output.reuse
    finish(ready, logic.runs[1])
    ready.ui.updateAtOnceBox.click()
    objects.item(0).setCheckState(Qt.Checked)
    assert len(logic.runs) == 2


def test_another_support_segments_again_at_once(ready):
    from PySide6.QtCore import Qt

    ready.ui.applyButton.click()
    finish(ready, ready.host.logic.runs[0])
    second, annotation = add_case("second", shift=1)
    ready.ui.supportSegmentationSelector.setCurrentNode(annotation)
    assert ready.ui.supportVolumeSelector.currentNode() is second
    ready.ui.addSupportButton.click()
    assert len(ready.host.logic.runs) == 2 and len(ready.host.logic.runs[1].request.cases) == 2
    finish(ready, ready.host.logic.runs[1])
    ready.ui.supportTable.item(0, 0).setCheckState(Qt.Unchecked)
    assert [case.volume.name for case in ready.host.logic.runs[2].request.cases] == ["second"]
