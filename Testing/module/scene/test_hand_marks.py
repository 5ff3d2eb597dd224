"""Marks by hand on real MRML: whose they are, what they say, when they are shown and when they go."""

from __future__ import annotations

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed, which holds MRML without an application")

from mark_cases import click, draw_box, ras_of
from mrml_cases import turned
from mrml_scene import add_segmentation, add_transform, add_volume
from ProxyPromptSegmentModule.scene import hand_marks
from ProxyPromptSegmentModule.scene.marks_said import said_by
from ProxyPromptSegmentModule.scene.nodes import exact_ijk, nodes_of
from ProxyPromptSegmentModule.scene.slice_views import show_only_own
from ProxyPromptSegmentModule.states import Mark

AFFINE = np.diag([-0.5, -0.5, 3.0, 1.0])


def a_volume(name="MR", parent=None, affine=AFFINE):
    rng = np.random.default_rng(9)
    return add_volume(rng.normal(size=(6, 20, 30)).astype(np.float32), affine, name, parent)


@pytest.mark.parametrize("moved", [False, True])
def test_clicks_are_voxels_in_the_order_in_which_they_were_made(scene, moved):
    parent = add_transform(turned(25), "askew") if moved else None
    volume = a_volume(parent=parent)
    places = [(4.0, 7.0, 2.0), (9.0, 3.0, 2.0), (5.0, 8.0, 3.0)]
    for place, kind in zip(places, ("inside", "outside", "inside"), strict=True):
        click(volume, place, kind, "gland")
    said = said_by(scene, volume, "k")
    assert [one.inside for one in said.points] == [True, False, True]
    assert [one.object for one in said.points] == ["gland"] * 3
    assert np.allclose([one.ijk for one in said.points], places, atol=1e-3)
    assert len(hand_marks.marks_of(scene, volume)) == 2  # one node for each kind


def test_marks_are_of_one_target_and_shown_with_it_alone(scene):
    one, other = a_volume("one"), a_volume("other")
    node = click(one, (4, 7, 2))
    assert said_by(scene, other, "k").points == () and hand_marks.marked_objects(scene, one) == ["object"]
    display = node.GetDisplayNode()
    show_only_own(scene, other, [])
    assert not display.GetVisibility()
    show_only_own(scene, one, [])
    assert display.GetVisibility()
    display.SetVisibility(False)  # by the user
    show_only_own(scene, other, [])
    show_only_own(scene, one, [])
    assert not display.GetVisibility()


def test_a_thin_box_stays_on_its_slice_and_a_thick_one_spans_several(scene):
    volume = a_volume()
    draw_box(volume, (4, 5, 2), (12, 9, 2))
    (box,) = said_by(scene, volume, "k").boxes
    assert np.allclose(box.first, (4, 5, 2), atol=1e-3) and np.allclose(box.last, (12, 9, 2), atol=1e-3)
    hand_marks.remove_marks(scene, volume)
    draw_box(volume, (4, 5, 0.8), (12, 9, 3.2))
    (box,) = said_by(scene, volume, "k").boxes
    assert round(box.first[2]) == 1 and round(box.last[2]) == 3


def test_what_lies_outside_of_the_image_is_left_out(scene):
    volume = a_volume()
    click(volume, (4, 7, 20))
    draw_box(volume, (40, 5, 2), (60, 9, 2))
    assert not said_by(scene, volume, "k")
    draw_box(volume, (20, 5, 2), (60, 9, 2))
    (box,) = said_by(scene, volume, "k").boxes
    assert np.allclose(box.last, (29, 9, 2), atol=1e-3)
    hand_marks.new_mark(volume, Mark.BOX, "not drawn yet")
    assert len(said_by(scene, volume, "k").boxes) == 1


def test_a_painted_segment_is_a_mask(scene):
    volume = a_volume()
    mask = np.zeros((6, 20, 30), np.uint8)
    mask[2, 4:9, 5:15] = 1
    node = add_segmentation(volume, {"rough": mask, "empty": np.zeros_like(mask)})
    said = said_by(scene, volume, "k", [(node, "rough", "gland"), (node, "empty", "nothing")])
    (one,) = said.masks
    assert one.object == "gland" and np.array_equal(one.voxels, mask)


def test_the_last_mark_is_removed_first(scene):
    volume = a_volume()
    click(volume, (4, 7, 2))
    click(volume, (6, 7, 2), "outside")
    draw_box(volume, (4, 5, 2), (12, 9, 2))
    click(volume, (5, 7, 2))
    left = []
    while hand_marks.remove_last(scene, volume):
        said = said_by(scene, volume, "k")
        left.append((len(said.points), len(said.boxes)))
    assert left == [(2, 1), (2, 0), (1, 0), (0, 0)]


def test_marks_go_with_their_target_and_with_their_result(scene):
    one, other = a_volume("one"), a_volume("other")
    first, second, third = click(one, (4, 7, 2)), click(other, (4, 7, 2)), click(other, (4, 7, 2), "outside")
    result = add_segmentation(other, {})
    hand_marks.answered_by([second], result)
    scene.RemoveNode(one)
    hand_marks.forget_lost(scene)
    assert not scene.IsNodePresent(first) and scene.IsNodePresent(second)
    scene.RemoveNode(result)
    hand_marks.forget_lost(scene)
    assert not scene.IsNodePresent(second) and scene.IsNodePresent(third)


@pytest.mark.parametrize("name", ["gland", "liver & spleen", "<1 cm", "Простата", "前立腺", 'the "left" one/two'])
def test_marks_are_saved_with_the_scene_and_are_still_those_of_their_target(scene, tmp_path, name):
    volume = a_volume()
    click(volume, (4, 7, 2), name=name)
    click(volume, (6, 8, 2), "outside", name)
    expected = said_by(scene, volume, "k")
    path = str(tmp_path / "scene.mrb")
    assert scene.WriteToMRB(path)
    scene.Clear(False)
    assert scene.ReadFromMRB(path)
    (volume,) = [node for node in nodes_of(scene, slicer.vtkMRMLScalarVolumeNode)]
    found = said_by(scene, volume, "k")
    assert [one.inside for one in found.points] == [True, False] and {one.object for one in found.points} == {name}
    assert np.allclose([one.ijk for one in found.points], [one.ijk for one in expected.points], atol=1e-3)
    click(volume, (7, 8, 2), name=name)
    assert len(said_by(scene, volume, "k").points) == 3  # in the same nodes
    assert len(hand_marks.marks_of(scene, volume)) == 2


def test_a_world_position_and_its_voxel_agree(scene):
    volume = a_volume(parent=add_transform(turned(40), "askew"))
    assert np.allclose(exact_ijk(volume, ras_of(volume, (3.25, 4.5, 1.0))), (3.25, 4.5, 1.0), atol=1e-4)
