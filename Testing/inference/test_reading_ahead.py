"""Reading ahead: the next batch is read while one is computed, no more than that, and errors and cancels end it."""

from __future__ import annotations

import threading

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engine_doubles import tiny_model
from ProxyPromptSegmentLib.inference import slice_encoder
from ProxyPromptSegmentLib.inference.reading_ahead import MOST, ReadingAhead
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.worker.events import SliceReady
from worker_doubles import Talk, a_job, an_engine, whole_slices

READER, SECONDS = "ProxyPromptReader", 20


def readers():
    return [one for one in threading.enumerate() if one.name.startswith(READER)]


@pytest.fixture
def ahead():
    made = ReadingAhead()
    yield made
    made.close()
    assert not readers()


def test_a_batch_is_read_while_its_owner_does_something_else(ahead):
    reading, computed = threading.Event(), threading.Event()

    def read():
        reading.set()
        assert computed.wait(SECONDS)
        return torch.ones(1)

    ahead.begin("next", read)
    assert reading.wait(SECONDS), "it waits for nobody"
    computed.set()
    assert ahead.take("next").item() == 1 and ahead.take("next") is None
    assert ahead.take("another") is None


def test_no_more_is_read_than_what_is_computed_next_and_one_batch_ahead(ahead):
    for number in range(5):
        ahead.begin(number, lambda number=number: torch.tensor(number))
    assert [ahead.take(number) is not None for number in range(5)] == [True] * MOST + [False] * 3


def test_an_error_of_reading_reaches_its_owner_once(ahead):
    def broken():
        raise MemoryError("no more")

    ahead.begin("next", broken)
    with pytest.raises(MemoryError, match="no more"):
        ahead.take("next")
    assert ahead.take("next") is None, "it is read again by whoever wants it"


@pytest.fixture
def read_by(monkeypatch):
    """The threads that made pixels of slices, with the number of slices."""
    found, plain = [], slice_encoder.images_to_tensor

    def noted(images, window, box):
        found.append((threading.current_thread().name.startswith(READER), len(images)))
        return plain(images, window, box)

    monkeypatch.setattr(slice_encoder, "images_to_tensor", noted)
    return found


def a_segmenter(reads_ahead):
    made = Segmenter(tiny_model(), "cpu", 2)
    made.ahead = ReadingAhead() if reads_ahead else None
    return made


@pytest.mark.parametrize("keep", [True, False])
def test_a_run_reads_all_but_its_first_batch_ahead_and_its_result_is_the_same(read_by, keep):
    job = a_job(slices=range(8))
    plain = Talk().do(whole_slices(job, keep=keep), an_engine(a_segmenter(False)))
    assert not any(ahead for ahead, _ in read_by)
    read_by.clear()
    found = Talk().do(whole_slices(job, keep=keep), an_engine(a_segmenter(True)))
    assert sum(count for ahead, count in read_by if ahead) == 6, "eight slices, two at a time"
    np.testing.assert_array_equal(found.result.probability, plain.result.probability)
    assert not readers()


def test_slices_that_are_embedded_are_not_read_again(read_by):
    job, engine = a_job(slices=range(8)), an_engine(a_segmenter(True))
    Talk().do(whole_slices(job), engine)
    read_by.clear()
    Talk().do(whole_slices(job), engine)
    assert not read_by and not readers()


def test_a_cancelled_run_leaves_no_reader(read_by):
    talk = Talk(lambda event: talk.cancel.cancel() if isinstance(event, SliceReady) else None)
    engine = an_engine(a_segmenter(True))
    found = talk.do(whole_slices(a_job(slices=range(8)), keep=False), engine)
    assert found.cancelled and found.result.done.sum() == 2 and not readers()
    assert sum(count for _, count in read_by) <= 4 + len(a_job().support)


def test_where_nothing_is_gained_nothing_is_read_ahead():
    assert Segmenter(tiny_model(), "cpu").ahead is None
