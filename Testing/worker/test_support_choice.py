"""The engine lets each slice read the supports most like it, says so, and explains a slice by what it has read."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engine_doubles import EVERYTHING, tiny_model
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.remedies import RemedyKind
from ProxyPromptSegmentLib.worker.tasks import LiveTask, SegmentTask, WhyTask
from worker_doubles import Talk, a_job, an_engine

MANY = (2, 3, 4, 5, 6, 7)
SLICE = 4


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter(tiny_model(**EVERYTHING), "cpu", batch=4)


def options(**more):
    return {"model": "any", "device": "cpu", "tiles": "off", **more}


def test_each_slice_reads_the_supports_most_like_it_and_the_user_is_told(segmenter):
    job = a_job(support_slices=MANY)
    found = Talk().do(SegmentTask(job, most_read=2, **options()), an_engine(segmenter))
    images = job.view.take(job.target.array)
    expected = segmenter.reading(2).segment(images, job.support, job.window, job.view.spacing_mm)
    np.testing.assert_allclose(found.result.probability, expected.probability, atol=1e-5)
    every = segmenter.segment(images, job.support, job.window, job.view.spacing_mm)
    assert np.abs(expected.probability - every.probability).max() > 1e-3
    (note,) = [note for note in found.notes if note.remedy and note.remedy.kind == RemedyKind.READ_ALL]
    assert note.text == "Each slice is prompted by those 2 of the 6 support slices that are most like it."


def test_few_supports_give_the_same_to_the_last_bit_and_all_supports_are_read_without_a_word(segmenter):
    few, engine = a_job(support_slices=(3, 4)), an_engine(segmenter)
    choosing, plain = (Talk().do(SegmentTask(few, most_read=most, **options()), engine) for most in (2, None))
    np.testing.assert_array_equal(choosing.result.probability, plain.result.probability)
    job = a_job(support_slices=MANY)
    every = Talk().do(SegmentTask(job, most_read=None, **options()), engine)
    images = job.view.take(job.target.array)
    expected = segmenter.segment(images, job.support, job.window, job.view.spacing_mm)
    np.testing.assert_allclose(every.result.probability, expected.probability, atol=1e-5)
    for found in (choosing, plain, every):
        assert not any(note.remedy and note.remedy.kind == RemedyKind.READ_ALL for note in found.notes)


def test_a_preview_shows_what_the_run_will_give(segmenter):
    job = a_job(support_slices=MANY)
    engine = an_engine(segmenter)
    preview = Talk().do(LiveTask(job, SLICE, most_read=2, threshold=0.3, **options()), engine)
    run = Talk().do(SegmentTask(job, most_read=2, threshold=0.3, across_slices=False, **options()), engine)
    assert preview.masks.any()
    np.testing.assert_array_equal(preview.masks, run.masks[SLICE])


def test_the_view_of_what_was_read_shows_only_supports_that_the_slice_has_read(segmenter):
    job = a_job(support_slices=MANY)
    why = Talk().do(WhyTask(job, SLICE, 20.0, 20.0, most_read=2, **options()), an_engine(segmenter))
    images = job.view.take(job.target.array)
    encoded = segmenter.encode(images[SLICE : SLICE + 1], job.window, job.view.spacing_mm)
    read = segmenter.reading(2).read_by(encoded, segmenter.prepare(job.support))
    assert len(read) == 2 and np.flatnonzero(why.shares).tolist() == read
    assert sum(why.shares) == pytest.approx(1, abs=1e-4) and {patch.pair for patch in why.patches} <= set(read)
    assert [bool(one.any()) for one in why.maps] == [number in read for number in range(len(MANY))]
    every = Talk().do(WhyTask(job, SLICE, 20.0, 20.0, most_read=None, **options()), an_engine(segmenter))
    assert np.count_nonzero(every.shares) == len(MANY)
