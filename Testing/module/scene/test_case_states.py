"""The state of each case of a scene: it follows the results, is kept with the scene, and is of one patient only."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")

import slicer
import slicer.util

from mrml_scene import add_segmentation, segment_array
from mrml_writing import a_run, random_masks
from ProxyPromptSegmentModule.scene import result_watch
from ProxyPromptSegmentModule.scene.case_states import STATE, accept, state_in, states_in
from ProxyPromptSegmentModule.scene.nodes import MADE_FOR
from ProxyPromptSegmentModule.scene.owners import key_of, result_segments
from ProxyPromptSegmentModule.scene.result_watch import ResultWatch
from ProxyPromptSegmentModule.scene.segment_writer import create_segmentation
from ProxyPromptSegmentModule.scene.terminology import OBJECT_TAG

pytestmark = pytest.mark.usefixtures("scene", "views")


@pytest.fixture
def watch(scene, volume):
    made = ResultWatch(scene, lambda node: False, lambda called: None)
    yield made
    made.close()


def state_of(volume):
    return states_in(slicer.mrmlScene).get(volume.GetID())


def paint(node, volume, index=2):
    segment_id = next(iter(result_segments(node, volume)))
    mask = segment_array(node, segment_id, volume)
    mask[index, :4, :4] = 1 - mask[index, :4, :4]
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, segment_id, volume)


def test_a_case_is_new_then_segmented_then_corrected_then_accepted(watch, volume, other):
    assert state_of(volume) is None
    node = create_segmentation(volume, "result")
    a_run(node, volume, 1)
    watch.refresh()
    assert state_of(volume) == "segmented"
    paint(node, volume)
    seen = []
    tag = node.AddObserver("ModifiedEvent", lambda caller, event: seen.append(event))
    watch.refresh()
    node.RemoveObserver(tag)
    assert state_of(volume) == "corrected"
    assert len(seen) == 1, "the views follow each event"
    accept(node, volume, watch.states)
    assert state_of(volume) == "accepted" and state_of(other) is None
    accept(node, volume, watch.states, False)
    assert state_of(volume) == "corrected"


def test_painting_ends_an_acceptance_and_taking_the_stroke_back_restores_it(watch, volume, result):
    accept(result, volume, watch.states)
    paint(result, volume)
    watch.refresh()
    assert state_of(volume) == "corrected"
    paint(result, volume)  # the same voxels, turned back
    watch.refresh()
    assert state_of(volume) == "accepted"


def test_another_run_and_its_undo_change_the_state_as_they_change_the_voxels(watch, volume, result):
    accept(result, volume, watch.states)
    writer = a_run(result, volume, 77)
    watch.refresh()
    assert state_of(volume) == "segmented"
    assert writer.undo()
    watch.refresh()
    assert state_of(volume) == "accepted"


def test_two_patients_that_share_a_segmentation_have_states_of_their_own(watch, volume, other, result):
    a_run(result, other, 2)
    paint(result, other)
    watch.refresh()
    assert state_of(volume) == "segmented" and state_of(other) == "corrected"
    accept(result, other, watch.states)
    assert state_of(volume) == "segmented" and state_of(other) == "accepted"


def test_states_are_saved_with_the_scene_and_read_without_voxels(watch, volume, result, tmp_path, monkeypatch):
    accept(result, volume, watch.states)
    folder = tmp_path / "saved"
    folder.mkdir()
    scene = slicer.mrmlScene
    scene.SetRootDirectory(str(folder))
    assert scene.WriteToMRB(str(tmp_path / "s.mrb"))
    scene.Clear(0)
    watch.forget()
    (tmp_path / "read").mkdir()
    assert scene.ReadFromMRB(str(tmp_path / "s.mrb"))
    loaded = slicer.util.getNode("MR")
    from ProxyPromptSegmentModule.scene import segment_state

    with monkeypatch.context() as patched:
        patched.setattr(segment_state, "_planes", None)
        assert state_of(loaded) == "accepted"
    watch.refresh()
    assert state_of(loaded) == "accepted"
    paint(slicer.util.getNode("result"), loaded)
    watch.refresh()
    assert state_of(loaded) == "corrected"


def test_a_case_whose_results_were_removed_is_new_again(watch, volume, result):
    accept(result, volume, watch.states)
    for segment_id in list(result_segments(result, volume)):
        result.GetSegmentation().RemoveSegment(segment_id)
    watch.refresh()
    assert state_of(volume) is None
    a_run(result, volume, 1)
    slicer.mrmlScene.RemoveNode(volume)
    watch.refresh()
    assert states_in(slicer.mrmlScene) == {}


def test_results_of_an_earlier_version_count_as_segmented(scene, volume):
    node = add_segmentation(volume, {"gland": random_masks(7)[0]}, "earlier")
    node.SetAttribute(MADE_FOR, volume.GetID())
    node.GetSegmentation().GetSegment("gland").SetTag(OBJECT_TAG, "gland")
    watch = ResultWatch(scene, lambda one: False, lambda called: None)
    assert state_of(volume) == "segmented"
    node.SetAttribute(STATE + key_of(node, volume), "of a later version")
    assert state_of(volume) == "segmented"
    watch.close()


def test_a_change_while_nobody_watched_ends_an_acceptance_once_the_module_is_there(volume, result):
    first = ResultWatch(slicer.mrmlScene, lambda node: False, lambda called: None)
    accept(result, volume, first.states)
    first.close()
    paint(result, volume)
    assert state_of(volume) == "accepted"
    later = ResultWatch(slicer.mrmlScene, lambda node: False, lambda called: None)
    later.refresh()
    assert state_of(volume) == "corrected"
    later.close()


class Rest:
    """A timer whose time is over when a test says so; it knows what was asked of it last."""

    def __init__(self, called):
        self._called, self.asked = called, ""

    def start(self):
        self.asked = "rest"

    def soon(self):
        self.asked = "soon"

    def after_rendering(self):
        self.asked = "after rendering"

    def close(self):
        pass

    def end(self):
        self.asked = ""
        self._called()


def test_results_that_wait_are_checked_one_after_the_other(volume, other, result, monkeypatch):
    second = create_segmentation(other, "second")
    a_run(second, other, 2)
    watch = ResultWatch(slicer.mrmlScene, lambda node: False, Rest)
    for node, image in ((result, volume), (second, other)):
        assert watch._is_read(node, time.perf_counter() + 60)
        assert state_of(image) == "segmented"
    monkeypatch.setattr(result_watch, "_MOMENT", 0.0)
    told = []
    watch.observe(lambda: told.append(watch._timer.asked))
    for turn in (1, 2):
        assert watch._timer.asked == "rest"
        watch._timer.end()
        assert watch._timer.asked == "after rendering" and len(told) == turn - 1, "the views render in between"
        watch._timer.end()
        assert len(told) == turn
    assert not watch._timer.asked
    watch.close()


def test_many_slices_of_a_result_are_read_in_turns_of_the_window_that_follow_each_other(volume, result, monkeypatch):
    busy = []
    watch = ResultWatch(slicer.mrmlScene, lambda node: False, Rest, lambda: bool(busy))
    watch._timer.end()
    paint(result, volume)
    busy.append("a study that is shown")
    watch._timer.end()
    assert watch._timer.asked == "rest" and state_of(volume) == "segmented"
    busy.clear()
    monkeypatch.setattr(result_watch, "_MOMENT", -1.0)  # one slice, then the window again
    turns = 0
    while watch._timer.asked and turns < 100:
        watch._timer.end()
        turns += 1
    assert turns > len(segment_array(result, next(iter(result_segments(result, volume))), volume)) / 2
    assert state_of(volume) == "corrected"
    watch.close()


def test_an_acceptance_is_that_of_one_segmentation(watch, volume, result):
    second = create_segmentation(volume, "second reading")
    a_run(second, volume, 5)
    accept(second, volume, watch.states)
    assert state_in(second, volume) == "accepted"
    assert state_in(result, volume) != "accepted"
