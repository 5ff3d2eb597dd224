"""Tiles in the engine: the same as on arrays, with caches, fallbacks, progress, cancel and notes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.frames import FrameArray
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.inference.calibration import EVIDENCE, PRESENCE, QUALITY, Calibration
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.inference.tiling.choice import TileChoice
from ProxyPromptSegmentLib.inference.tiling.stack import segment_stack
from ProxyPromptSegmentLib.progress import CancelToken, Progress
from ProxyPromptSegmentLib.remedies import RemedyKind
from ProxyPromptSegmentLib.worker.context import Context
from ProxyPromptSegmentLib.worker.events import Progressed, SliceReady, StageStarted
from ProxyPromptSegmentLib.worker.tasks import FramesTask, LiveTask, SegmentTask, WhyTask
from tile_cases import SMALL, PerfectModel, vessel_case, vessel_job
from worker_doubles import Machine, Talk, an_engine, embedded, loaded

COUNT = 3
TRUTH = vessel_case((11, 12, 13))[1].segments[0].mask


@pytest.fixture
def segmenter():
    return Segmenter(PerfectModel(), "cpu", batch=4)


@pytest.fixture
def engine(segmenter):
    return an_engine(segmenter)


def plain(segmenter, job, choice="auto"):
    images, view = job.view.take(job.target.array), job.view
    return segment_stack(segmenter, images, job.support, job.window, view.spacing_mm, TileChoice.of(choice), job.slices)


def images_seen(segmenter):
    count = sum(segmenter.model.backbone.seen)
    segmenter.model.backbone.seen.clear()
    return count


def test_the_engine_segments_thin_structures_in_tiles_as_arrays_are_segmented(segmenter, engine):
    job = vessel_job()
    talk = Talk()
    found = talk.do(SegmentTask(job), engine)
    expected = plain(segmenter, job)
    np.testing.assert_array_equal(found.result.probability, expected.probability)
    np.testing.assert_array_equal(found.masks, expected.masks())
    np.testing.assert_array_equal(talk.masks(found.masks.shape), found.masks)
    assert dice(TRUTH, Talk().do(SegmentTask(job), engine).masks[:, 0]) >= 0.85
    assert dice(TRUTH, Talk().do(SegmentTask(job, across_slices=False, tiles="off"), engine).masks[:, 0]) < 0.5
    (note,) = found.notes
    assert "'vessel' is too thin" in note.text
    assert (found.tiles.plan.in_tiles, found.tiles.read, found.tiles.supports) == ((0,), 4, 32)


def test_without_tiles_nothing_is_said_and_the_masks_are_those_of_before(segmenter, engine):
    job = vessel_job(("organ",))
    found = Talk().do(SegmentTask(job), engine)
    images = job.view.take(job.target.array)
    before = segmenter.segment(images, segmenter.prepare(job.support), job.window, job.view.spacing_mm)
    np.testing.assert_array_equal(found.result.probability, before.probability)
    np.testing.assert_array_equal(found.masks, before.masks())
    assert (found.notes, found.tiles) == ([], None)


def test_the_users_choice_is_kept_to(engine):
    job = vessel_job(("organ",))
    on, twice, off = (Talk().do(SegmentTask(job, tiles=tiles), engine).tiles for tiles in ("on", 3, "off"))
    assert (on.plan.magnification, twice.plan.magnification, off) == (2.0, 3.0, None)


def test_a_second_run_embeds_no_tile_and_another_support_only_its_own(segmenter, engine):
    job, other = vessel_job(), vessel_job(supports=((5, 6),))
    first = Talk().do(SegmentTask(job), engine)
    tiles = COUNT * first.tiles.plan.tiles
    assert images_seen(segmenter) == tiles + first.tiles.supports
    assert first.tiles.embedded == tiles
    again = Talk().do(SegmentTask(job, threshold=0.4), engine)
    assert images_seen(segmenter) == 0
    assert again.tiles.embedded == 0
    Talk().do(SegmentTask(other), engine)
    assert images_seen(segmenter) == 32


def test_a_run_that_keeps_nothing_counts_the_tiles_it_embedded(engine):
    found = Talk().do(SegmentTask(vessel_job(), keep=False), engine)
    assert found.tiles.embedded == COUNT * found.tiles.plan.tiles


def test_progress_counts_tiles(engine):
    talk = Talk()
    found = talk.do(SegmentTask(vessel_job()), engine)
    assert [event.what for event in talk.of(StageStarted)] == [
        "loading the model", "preparing tiles of the support", "segmenting in tiles"
    ]  # fmt: skip
    last = talk.of(Progressed)[-1]
    assert last.done == last.total == COUNT * found.tiles.plan.tiles


def test_slices_are_sent_as_they_are_finished_beginning_with_the_one_on_screen(engine):
    talk = Talk()
    talk.do(SegmentTask(vessel_job(), first=2, across_slices=False), engine)
    assert [event.index for event in talk.of(SliceReady)] == [2, 1, 0]


def test_cancelling_between_tiles_keeps_the_slices_that_are_finished(segmenter, engine, monkeypatch):
    talk, model, seen = Talk(), segmenter.model, []
    predict, tiles = model.predict, 9

    def cancelling(features, support, chosen=None):
        seen.append(len(features.top))
        if sum(seen) > tiles:  # in the second slice
            talk.cancel.cancel()
        return predict(features, support, chosen)

    monkeypatch.setattr(model, "predict", cancelling)
    found = talk.do(SegmentTask(vessel_job(), across_slices=False, tiles=2), engine)
    assert found.cancelled
    assert found.tiles.plan.tiles == tiles
    assert found.result.done.tolist() == [True, False, False]
    assert found.masks[0].any()
    assert not found.masks[1:].any()
    assert [event.index for event in talk.of(SliceReady)] == [0]


def test_cancelling_while_tiles_of_the_support_are_prepared_gives_an_empty_outcome(engine):
    def on_event(event):
        if isinstance(event, StageStarted) and event.what == "preparing tiles of the support":
            talk.cancel.cancel()

    talk = Talk(on_event)
    found = talk.do(SegmentTask(vessel_job()), engine)
    assert found.cancelled
    assert found.slices == 0


def test_thin_objects_in_tiles_and_others_in_whole_slices_are_segmented_together(segmenter, engine):
    both = Talk().do(SegmentTask(vessel_job(("organ", "vessel"))), engine)
    organ, vessel = (Talk().do(SegmentTask(vessel_job((name,))), engine) for name in ("organ", "vessel"))
    assert both.objects == ("organ", "vessel")
    np.testing.assert_allclose(both.result.probability[:, 0], organ.result.probability[:, 0], atol=1e-6)
    np.testing.assert_allclose(both.result.probability[:, 1], vessel.result.probability[:, 0], atol=1e-6)
    assert both.tiles.plan.in_tiles == (1,)
    assert (both.result.one_piece[0], both.result.thin) == (True, (False, True))


def test_the_live_preview_of_a_slice_is_what_the_run_gives(engine):
    job = vessel_job()
    run = Talk().do(SegmentTask(job, across_slices=False), engine)
    for index in range(COUNT):
        live = Talk().do(LiveTask(job, index), engine)
        np.testing.assert_array_equal(live.masks, run.masks[index])
        np.testing.assert_allclose(live.confidence, run.result.quality[index], atol=1e-6)
    whole = Talk().do(LiveTask(job, 0, tiles="off"), engine)
    assert (whole.masks != run.masks[0]).any()


def test_the_why_of_a_point_in_a_tile_comes_from_the_support_tiles_that_this_tile_read(engine):
    job = vessel_job()
    run = Talk().do(SegmentTask(job, across_slices=False), engine)
    row, column = (int(n[len(n) // 2]) for n in np.nonzero(TRUTH[1]))
    why = Talk().do(WhyTask(job, 1, row, column), engine)
    plan = run.tiles.plan
    corner = plan.grid.corner(plan.grid.nearest(row, column))
    asked = why.asked
    assert asked[0] <= row < asked[2] and asked[1] <= column < asked[3]
    assert why.probability > 0.9
    whole = Talk().do(WhyTask(job, 1, row, column, tiles="off"), engine)
    assert max(why.patch_mm) < 0.6 * max(whole.patch_mm)
    assert [one.shape for one in why.maps] == [SMALL, SMALL]
    assert why.shares.sum() == pytest.approx(1, abs=1e-5)
    assert sum(one.sum() for one in why.maps) == pytest.approx(1, abs=1e-4)
    read = np.array([one > 0 for one in why.maps])
    assert 0 < read.sum() <= 4 * np.prod(plan.grid.tile)
    centers = np.argwhere(read)[:, 1:].mean(axis=0)
    assert np.abs(centers - np.array(corner) - np.array(plan.grid.tile) / 2).max() < max(plan.grid.tile)
    for patch in why.patches:
        top, left, bottom, right = patch.box
        assert read[patch.pair, top:bottom, left:right].all()
        masks = job.support.pairs[patch.pair].masks[0, top:bottom, left:right]
        assert abs(patch.inside - masks.mean()) < 0.35  # a patch has fractions of pixels
        assert patch.slice_index == patch.pair
        assert top - 0.5 <= patch.center_ijk[1] <= bottom and left - 0.5 <= patch.center_ijk[0] <= right


def test_the_why_of_a_compact_object_beside_a_thin_one_is_that_of_whole_slices(engine):
    both, alone = vessel_job(("organ", "vessel")), vessel_job(("organ",))
    first, second = (Talk().do(WhyTask(job, 1, 150, 150), engine) for job in (both, alone))
    assert (first.asked, first.patch_mm, first.shares.tolist()) == (
        second.asked,
        second.patch_mm,
        second.shares.tolist(),
    )
    with pytest.raises(UsageError, match="object 2 does not exist"):
        Talk().do(WhyTask(both, 1, 150, 150, object_index=2), engine)
    with pytest.raises(UsageError, match="outside of the slice"):
        Talk().do(WhyTask(both, 1, 400, 150, object_index=1), engine)


def test_where_nothing_resembles_the_support_it_is_said_of_tiles_too():
    job, texts = vessel_job(slices=(0,)), {}
    for unlike in (1e-4, 1e4):
        fitted = Calibration(presence=dict.fromkeys(PRESENCE, 1.0), quality=dict.fromkeys(QUALITY, 1.0), unlike=unlike)
        engine = an_engine(Segmenter(PerfectModel(), "cpu", calibration=fitted))
        found = Talk().do(SegmentTask(job, tiles=2), engine)
        texts[unlike] = " ".join(note.text for note in found.notes)
        distance = found.result.evidence[0, 0, EVIDENCE.index("distance")]
        assert distance > 0
        assert np.isnan(found.result.evidence[0, 0]).sum() == len(EVIDENCE) - 1
        whole = Talk().do(SegmentTask(job, tiles="off"), engine)
        assert whole.result.evidence[0, 0, EVIDENCE.index("distance")] == pytest.approx(distance, rel=1e-4)
    assert "hardly resembles the support" in texts[1e-4]
    assert "resembles" not in texts[1e4]


class SmallMachine(Machine):
    """A machine whose limit counts the support tiles that are read, times the tiles that read them."""

    def _load(self, name, device):
        self.opened.append(device)
        model = PerfectModel()
        predict = model.predict

        def small_predict(features, support, chosen=None):
            wanted = len(features.top) * (len(support.features) if chosen is None else chosen.shape[1])
            self.asked.append((device, len(features.top), len(support.features), wanted))
            if wanted > self.limits[device]:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return predict(features, support, chosen)

        model.predict = small_predict
        return loaded(Segmenter(model, "cpu", self.batch), name)


@pytest.mark.parametrize(
    "limit", [8, pytest.param(4, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow), 1]
)
def test_where_memory_runs_out_fewer_tiles_are_computed_and_read_and_every_slice_is_finished(segmenter, limit):
    job = vessel_job(supports=((1, 2, 3, 4),))
    machine = SmallMachine(None, {"small": limit, "cpu": 1000}, batch=4)
    talk = Talk()
    found = talk.do(SegmentTask(job, across_slices=False), machine.engine())
    assert found.device == "small"
    assert found.result.done.all()
    assert dice(TRUTH, found.masks[:, 0]) >= 0.85
    assert max(wanted for *_, wanted in machine.asked[-5:]) <= limit
    assert found.tiles.read == min(4, limit)
    if limit < 4:
        assert found.pairs == limit
        assert machine.asked[-1][2] == 32 * limit // 4
    last = talk.of(Progressed)[-1]
    assert last.done == last.total == COUNT * found.tiles.plan.tiles


def test_tiles_that_are_computed_again_are_counted_once(segmenter, engine, monkeypatch):
    model, seen, steps = segmenter.model, [], []
    predict = model.predict

    def full_once(features, support, chosen=None):
        seen.append(len(features.top))
        if len(seen) == 6:  # in the middle of the second slice
            raise RuntimeError("MPS backend out of memory")
        return predict(features, support, chosen)

    class Steps(Progress):
        def start(self, total, what):
            steps.append((what, total))

        def step(self, n=1, note=""):
            steps.append(n)

    monkeypatch.setattr(model, "predict", full_once)
    segmenter.batch = 1
    task = SegmentTask(vessel_job(slices=(0, 1)), tiles=1.3, across_slices=False)
    found = task(engine, Context(1, CancelToken(), lambda event: None, progress=Steps()))
    tiles = found.tiles.plan.tiles
    assert tiles == 4 and found.rungs and found.result.done[:2].all()
    last = max(place for place, one in enumerate(steps) if one == ("segmenting in tiles", 2 * tiles))
    counted = steps[last + 1 :]
    assert sum(counted) == 2 * tiles
    assert min(counted) > 0


def test_where_no_tile_fits_the_processor_goes_on(segmenter):
    job = vessel_job()
    machine = SmallMachine(None, {"small": 0, "cpu": 1000}, batch=2)
    found = Talk().do(SegmentTask(job), machine.engine())
    assert found.device == "cpu"
    np.testing.assert_array_equal(found.masks, plain(segmenter, job).masks())


def test_tracking_says_that_thin_structures_need_tiles():
    engine = an_engine(Segmenter(embedded("sam2-compact"), "cpu", batch=1))
    job = vessel_job(slices=(0,))
    volume = Talk().do(SegmentTask(job, follow=True), engine)
    frames = FrameArray(job.target.array[:1], (0.5, 0.5))
    clip = Talk().do(FramesTask(frames, job.support), engine)
    for found in (volume, clip):
        note = next(note for note in found.notes if "too thin" in note.text)
        assert note.text.endswith("Tracking does not use tiles.")
        assert note.remedy.kind == RemedyKind.SEGMENT_IN_TILES
    assert volume.tiles is None
    organ = vessel_job(("organ",), slices=(0,))
    for task in (SegmentTask(organ, follow=True), FramesTask(frames, organ.support)):
        assert not any("too thin" in note.text for note in Talk().do(task, engine).notes)


def test_no_array_of_the_job_is_changed_by_tiles(engine):
    job = vessel_job()
    before = [job.target.array.copy(), *(pair.masks.copy() for pair in job.support.pairs)]
    Talk().do(SegmentTask(replace(job)), engine)
    for old, new in zip(before, [job.target.array, *(pair.masks for pair in job.support.pairs)], strict=True):
        np.testing.assert_array_equal(old, new)
