"""What Slicer's DICOM SEG export asks of segments that were not drawn by hand."""

from __future__ import annotations

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")

import slicer

from mrml_scene import add_segmentation
from mrml_writing import STROKE, draw, ids_of, random_masks
from ProxyPromptSegmentModule.scene import dicom_tags
from ProxyPromptSegmentModule.scene.nodes import MADE_FOR
from ProxyPromptSegmentModule.scene.result_watch import ResultWatch
from ProxyPromptSegmentModule.scene.terminology import OBJECT_TAG, TAG, tag_of

pytestmark = pytest.mark.usefixtures("scene")


@pytest.fixture
def watch(scene, volume, result):
    made = ResultWatch(scene, lambda node: False, lambda called: None)
    yield made
    made.close()


def tags(node, segment_id):
    segment = node.GetSegmentation().GetSegment(segment_id)
    return tag_of(segment, dicom_tags.TYPE), tag_of(segment, dicom_tags.NAME)


def can_be_exported(node, segment_id):
    """The checks of `_createSegmentData` in Slicer's DICOMSegmentationPlugin."""
    kind, name = tags(node, segment_id)
    kind = kind or "MANUAL"
    assert tag_of(node.GetSegmentation().GetSegment(segment_id), TAG), "an export needs a terminology"
    return kind in ("MANUAL", "SEMIAUTOMATIC", "AUTOMATIC") and (kind == "MANUAL" or bool(name))


def test_a_result_is_automatic_and_names_its_algorithm_from_its_first_voxel(result):
    (segment_id,) = ids_of(result)
    assert tags(result, segment_id) == ("AUTOMATIC", "Proxy Prompt") and can_be_exported(result, segment_id)


def test_a_corrected_result_is_semiautomatic_until_the_correction_is_taken_back(watch, volume, result):
    (segment_id,) = ids_of(result)
    from mrml_scene import segment_array

    before = segment_array(result, segment_id, volume)[2].copy()
    draw(result, segment_id, volume, 2, STROKE)
    watch.refresh()
    assert tags(result, segment_id)[0] == "SEMIAUTOMATIC" and can_be_exported(result, segment_id)
    draw(result, segment_id, volume, 2, before)
    watch.refresh()
    assert tags(result, segment_id)[0] == "AUTOMATIC"


def test_segments_that_were_drawn_by_hand_have_no_algorithm(watch, volume, result):
    own = add_segmentation(volume, {"drawn": random_masks(8)[0]}, "own")
    result.GetSegmentation().AddEmptySegment("beside", "beside")
    watch.refresh()
    assert tags(own, "drawn") == tags(result, "beside") == ("", "")


def test_results_of_an_earlier_version_can_be_exported_too(scene, volume):
    node = add_segmentation(volume, {"gland": random_masks(7)[0]}, "earlier")
    node.SetAttribute(MADE_FOR, volume.GetID())
    segment = node.GetSegmentation().GetSegment("gland")
    segment.SetTag(OBJECT_TAG, "gland")
    watch = ResultWatch(scene, lambda one: False, lambda called: None)
    watch.update(node)
    watch.close()
    assert tags(node, "gland") == ("AUTOMATIC", "Proxy Prompt")


def test_the_name_of_the_algorithm_is_stored_with_those_segments_that_are_still_there(result):
    dicom_tags.name_algorithm(result, [*ids_of(result), "gone"], "Proxy Prompt sam-compact 0d1d8adb")
    assert tags(result, ids_of(result)[0])[1] == "Proxy Prompt sam-compact 0d1d8adb"


def test_tags_do_not_count_as_changes_of_a_result(watch, volume, result):
    heard = []
    watch.observe(lambda: heard.append(1))
    for _turn in range(4):
        watch.refresh()
    assert len(heard) <= 2, "writing tags made the table be written again and again"
    slicer.mrmlScene.RemoveNode(volume)
    watch.refresh()
