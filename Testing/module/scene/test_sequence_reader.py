"""Sequences on real MRML: frames come out as they lie in the items, and nothing changes."""

from __future__ import annotations

import numpy as np
import pytest

from mrml_scene import REASON, add_transform, add_volume, has_mrml

if not has_mrml():
    pytest.skip(REASON, allow_module_level=True)

import slicer

from ProxyPromptSegmentLib.errors import InputError, UsageError
from ProxyPromptSegmentModule.scene.sequence_reader import browsers_of, frames_of, reading_frames
from ProxyPromptSegmentModule.states import ItemKind
from sequence_cases import OBLIQUE, a_sequence, noise, state


@pytest.mark.parametrize("place", [np.diag([-1.0, -1, 1, 1]), np.diag([2.0, 1, 1, 1]), OBLIQUE])
def test_single_slices_become_turned_frames_and_nothing_changes(scene, place):
    arrays = [noise(1, 12, 16, seed=t) for t in range(4)]
    browser, sequence, proxy = a_sequence(arrays, place)
    browser.SetSelectedItemNumber(2)
    before = state()
    frames = frames_of(browser, proxy)
    assert state() == before and browser.GetSelectedItemNumber() == 2
    assert (frames.kind, len(frames), frames.items, frames.notes) == (ItemKind.SLICES, 4, (0, 1, 2, 3), ())
    assert frames.images.dtype == np.float32
    for image, array in zip(frames.images, arrays, strict=True):
        np.testing.assert_array_equal(image, frames.view.take(array)[0])
    # Turned as a radiologist looks: rows run to posterior (or inferior), columns to the left (or posterior).
    assert frames.view.axis == "k"
    assert (frames.values, frames.times, frames.unit) == (("0", "0.04", "0.08", "0.12"), (0, 0.04, 0.08, 0.12), "s")
    assert (frames.sequence_id, frames.proxy_id, frames.browser_id) == (
        sequence.GetID(), proxy.GetID(), browser.GetID(),
    )  # fmt: skip
    to_lps = np.diag([-1, -1, 1, 1]) @ place
    np.testing.assert_allclose(frames.geometries[3].affine, to_lps, atol=1e-12)
    frames.images[:] = 0
    assert slicer.util.arrayFromVolume(sequence.GetNthDataNode(0)).any()  # a copy


def test_frames_are_not_turned_unless_wanted_and_the_parent_transform_counts(scene):
    arrays = [noise(1, 12, 16)]
    browser, sequence, proxy = a_sequence(arrays, np.eye(4))
    plain = frames_of(browser, proxy, oriented=False)
    np.testing.assert_array_equal(plain.images[0], arrays[0][0])
    np.testing.assert_array_equal(frames_of(browser, proxy).images[0], arrays[0][0, ::-1, ::-1])  # RAS to LPS
    turn = np.array([[0, -1.0, 0, 5], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    proxy.SetAndObserveTransformNodeID(add_transform(turn).GetID())
    turned = frames_of(browser, proxy)
    assert turned.images.shape == (1, 16, 12)
    np.testing.assert_allclose(turned.geometries[0].affine, np.diag([-1, -1, 1, 1]) @ turn)
    np.testing.assert_array_equal(frames_of(None, sequence).images[0], arrays[0][0, ::-1, ::-1])


def test_colour_frames_keep_red_green_and_blue(scene):
    arrays = [noise(1, 12, 16, 4, seed=t).astype(np.uint8) for t in range(2)]
    browser, _, proxy = a_sequence(arrays, np.diag([-1.0, -1, 1, 1]))
    frames = frames_of(browser, proxy)
    np.testing.assert_array_equal(frames.images, np.concatenate(arrays)[..., :3])


def test_some_items_in_the_order_asked_for(scene):
    arrays = [noise(1, 12, 16, seed=t) for t in range(5)]
    browser, _, proxy = a_sequence(arrays, np.diag([-1.0, -1, 1, 1]))
    frames = frames_of(browser, proxy, [3, 1, 3])
    assert frames.items == (3, 1) and frames.values == ("0.12", "0.04")
    np.testing.assert_array_equal(frames.images, np.stack([arrays[3][0], arrays[1][0]]))
    reading = reading_frames(browser, proxy, [3, 1])
    assert list(reading) == [(1, 2), (2, 2)]


def test_frames_of_another_size_or_without_image_are_left_out_and_told(scene):
    arrays = [noise(1, 12, 16, seed=t) for t in range(3)] + [noise(1, 10, 16), noise(3, 12, 16)]
    browser, sequence, proxy = a_sequence(arrays, np.diag([-1.0, -1, 1, 1]))
    sequence.GetNthDataNode(1).SetAndObserveImageData(None)
    frames = frames_of(browser, proxy)
    assert frames.items == (0, 2)
    np.testing.assert_array_equal(frames.images, np.stack([arrays[0][0], arrays[2][0]]))
    assert frames.notes == (
        "Items 1 of the sequence have no image and were skipped (1 in all).",
        "Items 3, 4 of the sequence have another size than the first and were skipped (2 in all).",
    )


def test_volumes_stay_as_they_are_stored_and_may_differ_in_size(scene):
    arrays = [noise(3, 12, 16), noise(4, 10, 16)]
    browser, _, proxy = a_sequence(arrays, [OBLIQUE, np.eye(4)])
    frames = frames_of(browser, proxy)
    assert (frames.kind, frames.images, frames.view) == (ItemKind.VOLUMES, None, None)
    for volume, array in zip(frames.volumes, arrays, strict=True):
        np.testing.assert_array_equal(volume, array)
        assert volume.dtype == np.float32
    assert frames.notes == ("The volumes of the sequence have 2 sizes; each is segmented on its own grid.",)
    assert frames.geometries[1].size_ijk == (16, 10, 4)


def test_what_shows_no_sequence_is_refused_in_a_sentence(scene):
    browser, sequence, proxy = a_sequence([noise(1, 12, 16)])
    alone = add_volume(noise(1, 12, 16), name="alone")
    with pytest.raises(UsageError, match="'alone' shows no sequence"):
        frames_of(browser, alone)
    with pytest.raises(UsageError, match="has no item 1; its items are 0 to 0"):
        frames_of(browser, proxy, [0, 1])
    with pytest.raises(UsageError, match="no sequence was given"):
        frames_of(browser, None)
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "tables")
    empty.SetDataNodeAtValue(slicer.vtkMRMLTableNode(), "0")
    with pytest.raises(InputError, match="'tables' has no images"):
        frames_of(None, empty)
    assert browsers_of(proxy) == browsers_of(sequence) == [browser]
    assert browsers_of(alone) == browsers_of(None) == []
    assert frames_of(None, proxy).browser_id == ""
