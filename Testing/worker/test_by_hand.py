"""Prompts by hand through the engine: alone, as corrections of a support's result, live, and everything at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.inference.by_hand.found import EverythingChoice
from ProxyPromptSegmentLib.inference.by_hand.prompts import ByHand, VoxelBox, VoxelMask, VoxelPoint
from ProxyPromptSegmentLib.inference.job_by_hand import plan_by_hand, plan_everything, with_hand
from ProxyPromptSegmentLib.worker.events import LabelsReady, SliceReady
from ProxyPromptSegmentLib.worker.tasks import EverythingTask, LiveTask, SegmentTask
from worker_doubles import Machine, Talk, a_job, phantom

MIDDLE = 4  # slice


def organ(seed=12):
    """The prostate of the target, ``(K, J, I)``."""
    return phantom(seed)[1].segments[0].mask


def middle_of_organ(slice_index=MIDDLE):
    rows, columns = np.nonzero(organ()[slice_index])
    return float(round(columns.mean())), float(round(rows.mean())), float(slice_index)


def target():
    return phantom(12)[0]


def alone(*points, **more):
    return plan_by_hand(target(), ByHand(points, **more))


def test_a_click_alone_segments_what_lies_there_and_no_other_slice(engine):
    click = middle_of_organ()
    found = Talk().do(SegmentTask(alone(VoxelPoint(click))), engine)
    mask = found.segmentation.segments[0].mask
    i, j, k = map(int, click)
    assert mask[k, j, i] == 1
    assert not np.delete(mask, MIDDLE, axis=0).any()
    assert found.objects == ("object",) and found.segmentation.names == ["object"]
    assert found.result.done.tolist() == [index == MIDDLE for index in range(10)]
    assert found.result.presence[MIDDLE, 0] == 1 and 0 < found.confidence[MIDDLE, 0] <= 1
    assert found.pairs == 0 and not found.cancelled


def test_a_box_around_the_organ_is_better_than_nothing_and_runs_through_its_slices(engine):
    k, j, i = (np.flatnonzero(organ().any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    box = VoxelBox((float(i[0]), float(j[0]), float(k[0])), (float(i[-1]), float(j[-1]), float(k[-1])), "prostate")
    found = Talk().do(SegmentTask(alone(boxes=(box,))), engine)
    assert np.flatnonzero(found.result.done).tolist() == k.tolist()
    assert dice(organ(), found.segmentation.segments[0].mask) > 0.5


def test_a_rough_mask_alone_is_drawn_finer(engine):
    rough = np.zeros_like(organ())
    rough[MIDDLE] = organ()[MIDDLE]
    found = Talk().do(SegmentTask(alone(masks=(VoxelMask(rough, "prostate"),))), engine)
    assert dice(rough[MIDDLE], found.segmentation.segments[0].mask[MIDDLE]) > 0.5


def test_several_objects_are_kept_apart(engine):
    i, j, k = middle_of_organ()
    job = alone(VoxelPoint((i, j, k), object="inner"), VoxelPoint((2, 2, k), object="corner"))
    found = Talk().do(SegmentTask(job), engine)
    one = Talk().do(SegmentTask(alone(VoxelPoint((i, j, k), object="inner"))), engine)
    assert found.objects == ("inner", "corner")
    np.testing.assert_array_equal(found.segmentation.segments[0].mask, one.segmentation.segments[0].mask)
    assert (found.masks[:, 0] != found.masks[:, 1]).any()


def test_a_correction_changes_its_slice_and_object_alone_and_is_not_smoothed(engine):
    job = a_job(objects=("prostate", "front"))
    plain = Talk().do(SegmentTask(job), engine)
    drawn = np.argwhere(plain.segmentation.segments[1].mask[MIDDLE])
    row, column = drawn[len(drawn) // 2].tolist()
    said = ByHand((VoxelPoint((column, row, MIDDLE), False, "front"),))
    corrected = Talk().do(SegmentTask(with_hand(job, said)), engine)
    live = Talk().do(LiveTask(with_hand(job, said), MIDDLE), engine)
    rows = np.flatnonzero(corrected.result.by_hand)
    assert rows.tolist() == [MIDDLE * 2 + 1]
    # what was decoded is what is kept, whatever the neighbours show
    np.testing.assert_array_equal(corrected.masks[MIDDLE, 1], live.masks[1])
    assert (corrected.result.probability[MIDDLE, 1] != plain.result.probability[MIDDLE, 1]).any()
    np.testing.assert_array_equal(corrected.result.probability[:, 0], plain.result.probability[:, 0])
    others = [index for index in range(10) if index != MIDDLE]
    np.testing.assert_array_equal(corrected.result.probability[others, 1], plain.result.probability[others, 1])
    np.testing.assert_array_equal(corrected.masks[:, 0], plain.masks[:, 0])


def test_a_correcting_click_leaves_what_it_does_not_touch_as_fine_as_it_was(engine):
    job = a_job()
    plain = Talk().do(SegmentTask(job), engine)
    i, j, k = middle_of_organ()
    found = Talk().do(SegmentTask(with_hand(job, ByHand((VoxelPoint((i, j, k), False),)))), engine)
    before, after = plain.result.probability[MIDDLE, 0], found.result.probability[MIDDLE, 0]
    assert 0 < (after != before).mean() < 0.6
    assert (after > 0.5).sum() < (before > 0.5).sum() and not ((after > 0.5) & (before < 0.5)).any()


def test_a_click_inside_says_that_the_object_is_there_where_the_support_sees_nothing(engine):
    job = a_job()
    plain = Talk().do(SegmentTask(job), engine)
    empty = int(np.flatnonzero(~plain.masks[:, 0].any(axis=(1, 2)))[0])
    said = ByHand((VoxelPoint((20.0, 20.0, float(empty))),))
    found = Talk().do(SegmentTask(with_hand(job, said)), engine)
    assert found.result.presence[empty, 0] == 1
    assert found.masks[empty, 0].any()


@pytest.mark.slow
def test_the_order_of_slices_and_batches_changes_nothing(model):
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from worker_doubles import an_engine

    job = with_hand(a_job(), ByHand((VoxelPoint(middle_of_organ()), VoxelPoint((3.0, 3.0, 6.0), False))))
    one, other = (
        Talk().do(SegmentTask(job, first=first), an_engine(Segmenter(model, "cpu", batch)))
        for batch, first in ((1, None), (4, 7))
    )
    np.testing.assert_array_equal(one.masks, other.masks)


def test_a_further_click_needs_no_encoder_pass(engine, segmenter, monkeypatch):
    calls = []
    encode = segmenter.model.backbone.encode
    monkeypatch.setattr(segmenter.model.backbone, "encode", lambda *args: calls.append(1) or encode(*args))
    i, j, k = middle_of_organ()
    for asked in (alone(VoxelPoint((i, j, k))), alone(VoxelPoint((i, j, k)), VoxelPoint((1, 1, k), False))):
        talk = Talk()
        found = talk.do(LiveTask(asked, MIDDLE), engine)
        assert [event.index for event in talk.of(SliceReady)] == [MIDDLE]
        assert found.masks.shape == (1, 40, 40)
    assert len(calls) == 1
    with_support = with_hand(a_job(), ByHand((VoxelPoint((i, j, k)),)))
    Talk().do(LiveTask(with_support, MIDDLE), engine)
    before = len(calls)
    Talk().do(LiveTask(with_hand(a_job(), ByHand((VoxelPoint((i, j + 1, k)),))), MIDDLE), engine)
    assert len(calls) == before


def test_a_live_click_gives_what_the_whole_run_gives(engine):
    job = alone(VoxelPoint(middle_of_organ()))
    live, whole = Talk().do(LiveTask(job, MIDDLE), engine), Talk().do(SegmentTask(job), engine)
    np.testing.assert_array_equal(live.masks, whole.masks[MIDDLE])
    np.testing.assert_allclose(live.confidence, whole.confidence[MIDDLE], atol=1e-6)


def test_a_model_that_is_prompted_by_supports_answers_clicks_without_one(engine):
    with pytest.raises(UsageError, match="knows no classes by name"):
        job = alone(VoxelPoint(middle_of_organ()))
        Talk().do(SegmentTask(replace(job, support=replace(job.support, by_hand=False))), engine)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (ByHand(), "nothing is prompted by hand"),
        (ByHand((VoxelPoint((3, 3, 3), False, "liver"),)), "of 'liver' only points outside"),
        (ByHand((VoxelPoint((3, 3, 33)),)), "k is 33, the image has k from 0 to 9"),
    ],
)
def test_what_cannot_be_segmented_is_refused_before_a_network_is_loaded(said, message):
    with pytest.raises(UsageError, match=message):
        plan_by_hand(target(), said)


def test_a_click_on_a_slice_that_is_not_asked_for_is_refused():
    with pytest.raises(UsageError, match="prompted by hand on .* along k, which is not among the slices to segment"):
        plan_by_hand(target(), ByHand((VoxelPoint((3, 3, 3)),)), slices=[5, 6])
    with pytest.raises(UsageError, match="not among the slices"):
        with_hand(a_job(slices=[1, 2]), ByHand((VoxelPoint((3, 3, 3)),)))


@pytest.mark.slow
def test_an_object_in_tiles_is_not_corrected(engine):
    job = with_hand(a_job(), ByHand((VoxelPoint(middle_of_organ()),)))
    with pytest.raises(UsageError, match="'prostate' is segmented in tiles, which prompts by hand do not correct"):
        Talk().do(SegmentTask(job, tiles="on"), engine)


def test_corrections_survive_a_step_of_the_memory_ladder(model):
    job = with_hand(a_job(), ByHand((VoxelPoint(middle_of_organ()),)))
    rich, poor = (
        Talk().do(SegmentTask(job), Machine(model, {"cuda:0": limit, "cpu": 100}).engine()) for limit in (100, 5)
    )
    assert poor.rungs and not rich.rungs
    assert poor.result.by_hand[MIDDLE, 0] and poor.masks[MIDDLE, 0].any()


def test_a_cancelled_run_keeps_the_clicked_slices_that_are_done(engine):
    i, j, _ = middle_of_organ()
    job, talk = alone(VoxelPoint((i, j, 3)), VoxelPoint((i, j, 5)), VoxelPoint((i, j, 6))), None

    def stop(event):
        if isinstance(event, SliceReady):
            talk.cancel.cancel()

    talk = Talk(stop)
    found = talk.do(SegmentTask(job), engine)
    assert found.cancelled and np.flatnonzero(found.result.done).tolist() == [3]


# --- everything -----------------------------------------------------------------------------------------------------

LOOSE = EverythingChoice(points=6, quality=0.3, stability=0.5)


def test_everything_is_a_label_map_on_the_targets_grid(engine):
    talk = Talk()
    found = talk.do(EverythingTask(plan_everything(target(), slices=[4, 5]), choice=LOOSE), engine)
    assert found.labels.shape == target().array.shape and found.labels.dtype == np.uint16
    assert found.labels[4].any() and found.labels[5].any() and not found.labels[[0, 1, 2, 3, 6]].any()
    assert found.labels.max() == len(found.qualities) == len(found.names)
    assert [event.index for event in talk.of(LabelsReady)] == [4, 5]
    view = plan_everything(target()).view
    np.testing.assert_array_equal(talk.of(LabelsReady)[0].labels, view.take(found.labels)[4])


def test_everything_that_is_cancelled_keeps_the_finished_slices(engine):
    talk = Talk(lambda event: talk.cancel.cancel() if isinstance(event, LabelsReady) else None)
    found = talk.do(EverythingTask(plan_everything(target()), choice=LOOSE, first=3), engine)
    assert found.cancelled and found.done.sum() == 1 and found.labels[3].any()


def test_labels_that_are_left_out_and_nothing_at_all_are_said(engine):
    job = plan_everything(target(), slices=[4])
    few = Talk().do(EverythingTask(job, choice=replace(LOOSE, apart=False), most_labels=1), engine)
    assert any("masks were left out, because there are at most 1 labels" in note.text for note in few.notes)
    none = Talk().do(EverythingTask(job, choice=replace(LOOSE, quality=0.9999)), engine)
    assert not none.labels.any() and any("Nothing was found" in note.text for note in none.notes)


def test_the_limits_of_the_embedded_model_keep_what_it_finds(engine):
    found = Talk().do(EverythingTask(plan_everything(target(), slices=[4]), choice=EverythingChoice(points=6)), engine)
    assert (found.choice.quality, found.choice.stability) == (0.1, 0.5) and found.choice.apart and found.names
    assert found.qualities and max(found.qualities) < 0.7  # the limit for official weights keeps nothing


def test_official_weights_and_the_user_have_limits_of_their_own():
    official = EverythingChoice().of_model(compact=False)
    assert (official.quality, official.stability, official.apart) == (0.7, 0.9, False)
    assert EverythingChoice(quality=0.0, stability=0.3).of_model(compact=True).quality == 0.0
