"""Many studies of a real scene, segmented alike: what fails, is cancelled, continued, removed or closed meanwhile."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed, which holds MRML without a Slicer application")
pytest.importorskip("torch")

from adapt_cases import register_small_model, use_folder
from lesson_cases import add_taught_case
from mrml_scene import segment_array
from ProxyPromptSegmentModule.runs.for_scripts import case_of
from ProxyPromptSegmentModule.runs.request import Request, Settings
from ProxyPromptSegmentModule.runs.studies import StudiesRequest
from ProxyPromptSegmentModule.scene.owners import results_of


@pytest.fixture
def ward(scene, logic, tmp_path, monkeypatch):
    """A logic with a small model, a support, and what makes a list of studies of volumes."""
    use_folder(monkeypatch, tmp_path)
    register_small_model(tmp_path)
    support = add_taught_case(0, "support")

    class Ward:
        def __init__(self):
            self.scene, self.logic, self.support = scene, logic, support
            self.case = case_of(support)

        def add(self, seed, name):
            node, annotation = add_taught_case(seed, name)
            scene.RemoveNode(annotation)
            return node

        def begin(self, *nodes, left_out=None, **settings):
            base = Request(
                target=nodes[0], cases=(self.case,), objects=("gland",),
                settings=Settings(model="small", device="cpu", threshold=0.0, register=False, **settings),
            )  # fmt: skip
            return logic.segment_all(StudiesRequest(targets=nodes, base=base, left_out=left_out or {}))

        def until(self, done):
            for _turn in range(100_000):
                if done():
                    return
                logic.pump.turn()
            raise AssertionError("it did not happen")

        def done(self, *nodes, **more):
            studies = self.begin(*nodes, **more)
            self.until(lambda: studies.ended)
            return studies

    return Ward()


def states(studies):
    return [str(study.state) for study in studies.studies]


def test_each_study_gets_its_own_result_and_is_not_done_twice_with_the_same_inputs(ward):
    one, two = ward.add(1, "one"), ward.add(2, "two")
    studies = ward.done(one, two)
    assert studies.state == "finished" and states(studies) == ["done", "done"], studies.error
    results = [results_of(ward.scene, node) for node in (one, two)]
    assert [len(found) for found in results] == [1, 1] and results[0] != results[1]
    for node, (result,) in zip((one, two), results, strict=True):
        assert segment_array(result, ward.logic.desk.studies.of(node.GetID()).run.segment_ids["gland"], node).any()
    again = ward.done(one, two)
    assert states(again) == ["before", "before"] and again.studies[0].reason == "was done before with the same inputs"
    assert [results_of(ward.scene, node) for node in (one, two)] == results
    other = ward.done(one, two, fill_gaps=False)
    assert states(other) == ["done", "done"], "other settings are other work"
    assert [results_of(ward.scene, node) for node in (one, two)] == results, "each writes into its own result"


def test_one_failing_study_does_not_stop_the_others_and_says_why(ward):
    import slicer

    one, bad, three = ward.add(1, "one"), ward.add(2, "bad"), ward.add(3, "three")
    slicer.util.updateVolumeFromArray(bad, np.zeros((5, 48, 48), np.float32))
    studies = ward.done(bad, one, three)
    assert studies.state == "finished" and states(studies) == ["failed", "done", "done"]
    assert "bad" in studies.studies[0].reason and not results_of(ward.scene, bad)


def test_what_would_fail_every_study_ends_all_and_none_counts_as_failed(ward, monkeypatch):
    from ProxyPromptSegmentLib.errors import CheckpointError
    from ProxyPromptSegmentLib.worker.model_store import ModelStore

    def broken(self, *args, **more):
        raise CheckpointError("the weights are damaged")

    monkeypatch.setattr(ModelStore, "open", broken)
    studies = ward.done(ward.add(1, "one"), ward.add(2, "two"))
    assert studies.state == "failed" and "damaged" in studies.error and states(studies) == ["waiting", "waiting"]


def test_a_support_and_the_same_image_twice_are_left_out_and_say_so(ward):
    import slicer

    copy, one = ward.add(0, "copy of the support"), ward.add(1, "one")
    again = ward.add(1, "one again")
    slicer.util.updateVolumeFromArray(again, slicer.util.arrayFromVolume(one).astype(np.int32))
    slicer.util.updateVolumeFromArray(one, slicer.util.arrayFromVolume(one).astype(np.int16))
    odd = ward.add(4, "of a sequence")
    studies = ward.done(copy, one, again, odd, left_out={odd.GetID(): "it is part of a sequence"})
    assert states(studies) == ["left out", "done", "left out", "left out"]
    assert studies.studies[0].reason == "it is the support “support”, which is not segmented"
    assert studies.studies[2].reason == "it is the same image as “one”"
    assert not results_of(ward.scene, copy) and not results_of(ward.scene, again) and not results_of(ward.scene, odd)


def test_cancel_keeps_what_is_done_and_the_same_request_continues_with_what_is_open(ward):
    nodes = [ward.add(seed, f"case {seed}") for seed in (1, 2, 3)]
    studies = ward.begin(*nodes)
    ward.until(lambda: studies.current is studies.studies[1] and studies.current.run.written)
    studies.cancel()
    ward.until(lambda: studies.ended)
    assert studies.state == "cancelled" and states(studies) in (
        ["done", "waiting", "waiting"], ["done", "done", "waiting"],
    )  # fmt: skip
    first = results_of(ward.scene, nodes[0])[0]
    before = segment_array(first, studies.studies[0].run.segment_ids["gland"], nodes[0])
    again = ward.done(*nodes)
    assert again.state == "finished" and states(again)[0] == "before" and states(again)[2] == "done"
    assert np.array_equal(segment_array(first, studies.studies[0].run.segment_ids["gland"], nodes[0]), before)
    assert all(len(results_of(ward.scene, node)) == 1 for node in nodes)


def test_what_the_user_painted_stays_also_when_the_study_is_segmented_with_other_settings(ward):
    import slicer

    one = ward.add(1, "one")
    run = ward.done(one).studies[0].run
    node, segment_id = run.segmentation, run.segment_ids["gland"]
    mask = segment_array(node, segment_id, one)
    mask[2] = 0
    mask[2, 5:9, 5:9] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, segment_id, one)
    assert states(ward.done(one)) == ["before"], "a corrected result is not computed again with the same inputs"
    assert states(ward.done(one, fill_gaps=False)) == ["done"]
    assert np.array_equal(segment_array(node, segment_id, one)[2], mask[2])


@pytest.mark.slow
def test_a_result_that_was_undone_is_open_again_and_an_undo_reaches_the_run_that_wrote_it(ward):
    one = ward.add(1, "one")
    run = ward.done(one).studies[0].run
    assert states(ward.done(one)) == ["before"]
    assert run.undo() and states(ward.done(one)) == ["done"]


def test_a_volume_that_is_renamed_or_removed_meanwhile_stops_nothing_else(ward):
    nodes = [ward.add(seed, f"case {seed}") for seed in (1, 2, 3)]
    studies = ward.begin(*nodes)
    ward.until(lambda: studies.current is studies.studies[0] and studies.current.run.written)
    nodes[2].SetName("renamed")
    ward.scene.RemoveNode(nodes[0])
    ward.scene.RemoveNode(nodes[1])
    ward.until(lambda: studies.ended)
    assert studies.state == "finished" and states(studies) == ["left out", "left out", "done"]
    assert "removed" in studies.studies[0].reason and "removed" in studies.studies[1].reason
    assert studies.studies[2].name == "renamed" and len(results_of(ward.scene, nodes[2])) == 1


def test_a_scene_that_is_closed_meanwhile_ends_them_and_nothing_is_written_into_the_next(ward):
    nodes = [ward.add(seed, f"case {seed}") for seed in (1, 2)]
    studies = ward.begin(*nodes)
    ward.until(lambda: studies.current is not None and studies.current.run.written)
    ward.scene.Clear(False)
    assert studies.state == "cancelled" and studies.abandoned and ward.logic.desk.studies is None
    ward.until(lambda: not ward.logic.worker.busy)
    assert not ward.scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")


@pytest.mark.slow
def test_a_run_of_a_script_between_two_studies_is_waited_for(ward):
    nodes = [ward.add(seed, f"case {seed}") for seed in (1, 2)]
    studies = ward.begin(*nodes)
    ward.until(lambda: studies.current is not None and studies.current.run.written)
    run = ward.logic.segment(nodes[1], [ward.case], settings=studies.request.base.settings, wait=False)
    ward.until(lambda: studies.ended)
    assert run.state == "finished" and states(studies) == ["done", "done"]
