"""A volume as frames: begun where the object is best seen, followed both ways, stopped without loss."""

from __future__ import annotations

import gc

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sam2")

from ProxyPromptSegmentLib.errors import InputError, UsageError
from ProxyPromptSegmentLib.inference.slice_encoder import EncodedSlices
from ProxyPromptSegmentLib.progress import CancelToken, Progress
from ProxyPromptSegmentLib.remedies import Note
from ProxyPromptSegmentLib.tracking.tracker import Tracker
from ProxyPromptSegmentLib.tracking.volume import track_volume
from tracking_doubles import (
    WINDOW,
    follow,
    spots,
    started,
    sticky,
    sticky_support,
    support,
    sweep,
)


class Steps(Progress):
    def __init__(self):
        self.events = []

    def start(self, total, what):
        self.events.append((what, total))

    def step(self, n=1, note=""):
        self.events.append(n)

    def close(self):
        self.events.append("closed")


def ball(count=30, middle=17):
    """A red spot that is largest in one slice and is in no slice far from it."""
    images = np.zeros((count, 64, 64, 3), np.float32)
    for s in range(count):
        side = max(0, 16 - 2 * abs(s - middle))
        images[s, 20 : 20 + side, 20 : 20 + side, 0] = 1
    return images


def test_a_volume_is_followed_both_ways_from_the_slice_most_like_the_support():
    seen = []
    result = track_volume(sticky(names=("red",)), ball(), sticky_support(("red",)), (0, 1), on_frame=seen.append)
    assert [answer.index for answer in seen] == [*range(17, 30), *range(16, -1, -1)]
    assert result.done.all()
    assert not result.cancelled
    assert result.objects == ("red",)
    assert result.probability.shape == (30, 1, 64, 64)
    np.testing.assert_array_equal(result.presence[17], seen[0].presence)
    assert result.masks().shape == (30, 1, 64, 64)
    assert result.confidence().shape == (30, 1)


@pytest.mark.parametrize(("count", "middle"), [(5, 0), (12, 11), (13, 3), (100, 61), (100, 99), (1, 0)])
def test_the_beginning_is_found_with_few_embeddings(count, middle, monkeypatch):
    images = np.zeros((count, 64, 64, 3), np.float32)
    for s in range(count):
        side = max(0, 16 - abs(s - middle) // 3 * 2)
        images[s, 20 : 20 + side, 20 : 20 + side, 0] = 1
    tracker, calls, seen = sticky(names=("red",)), [], []
    original = tracker.segmenter.model.backbone.encode

    def counting(batch, valid=None):
        calls.append(len(batch))
        return original(batch, valid)

    monkeypatch.setattr(tracker.segmenter.model.backbone, "encode", counting)
    track_volume(
        tracker, images, sticky_support(("red",)), (0, 1), on_frame=lambda a: seen.append((a.index, sum(calls)))
    )
    assert abs(seen[0][0] - middle) <= 2
    assert seen[0][1] <= 12 + 8
    assert sum(calls) == count


def test_the_way_back_begins_with_the_first_slice_and_not_with_the_last():
    """Going up, the memory of the sticky network is corrected; going down must not know of it."""
    images = spots(*[((8, 8), (40, 40))] * 6)
    tracker = sticky(reanchor=False)

    def correct(answer):
        if answer.index == 4:
            tracker.correct(np.zeros((2, 64, 64), np.uint8))

    result = track_volume(tracker, images, sticky_support(), (0, 1), start=3, on_frame=correct)
    shown = result.presence[:, 0] > 0.5
    assert shown.tolist() == [True, True, True, True, True, False]


def test_frames_count_in_the_direction_of_tracking(segmenter, prepared, memories_read):
    images = sweep(9)
    tracker = Tracker(segmenter, check_agreement=False)
    result = track_volume(tracker, images, prepared, WINDOW, slices=[7, 1, 4, 5, 4], start=4)
    assert result.done.tolist() == [False, True, False, False, True, True, False, True, False]
    assert memories_read == [(0, []), (1, [0]), (3, [0, 1]), (3, [0])]


def test_both_ways_are_each_way_alone(segmenter, prepared):
    images = sweep(7)
    result = track_volume(Tracker(segmenter, check_agreement=False), images, prepared, WINDOW, start=3)
    for some in ([3, 4, 5, 6], [3, 2, 1, 0]):
        for s, answer in zip(some, follow(started(segmenter, prepared), images[some]), strict=True):
            np.testing.assert_array_equal(result.probability[s], answer.probability)


def test_every_slice_is_embedded_once_and_kept_embeddings_are_used_again(segmenter, prepared, encode_calls):
    images, kept, tracker = sweep(14), {}, Tracker(segmenter)
    first = track_volume(tracker, images, prepared, WINDOW, encoded=kept)
    assert sum(encode_calls) == 14
    assert sorted(kept) == list(range(14))
    encode_calls.clear()
    second = track_volume(tracker, images, prepared, WINDOW, encoded=kept)
    assert encode_calls == []
    np.testing.assert_array_equal(first.probability, second.probability)


def test_kept_embeddings_of_another_stack_are_not_used(segmenter, prepared):
    images, kept, tracker = sweep(3), {}, Tracker(segmenter)
    track_volume(tracker, images, prepared, WINDOW, start=0, encoded=kept)
    other = track_volume(tracker, images[::-1], prepared, WINDOW, start=0, encoded=kept)
    alone = track_volume(tracker, images[::-1], prepared, WINDOW, start=0)
    np.testing.assert_array_equal(other.probability, alone.probability)


def test_cancelling_keeps_what_is_done():
    cancel, steps = CancelToken(), Steps()
    result = track_volume(
        sticky(names=("red",)),
        ball(),
        sticky_support(("red",)),
        (0, 1),
        start=17,
        progress=steps,
        cancel=cancel,
        on_frame=lambda answer: cancel.cancel() if answer.index == 15 else None,
    )
    assert result.cancelled
    assert np.flatnonzero(result.done).tolist() == list(range(15, 30))
    assert result.masks()[17].any()
    assert steps.events == [("tracking", 30), *[1] * 15, "closed"]


def test_cancelling_while_the_beginning_is_sought_gives_an_empty_result():
    cancel = CancelToken()
    cancel.cancel()
    steps = Steps()
    given = sticky_support(("red",))
    result = track_volume(sticky(names=("red",)), ball(), given, (0, 1), progress=steps, cancel=cancel)
    assert result.cancelled
    assert not result.done.any()
    assert steps.events[-1] == "closed"


def test_progress_counts_the_search_and_the_slices():
    steps = Steps()
    track_volume(sticky(names=("red",)), ball(), sticky_support(("red",)), (0, 1), progress=steps)
    begun = [event for event in steps.events if isinstance(event, tuple)]
    assert [what for what, _ in begun] == ["searching for the slice most like the support", "tracking"]
    search, tracking = (steps.events[: steps.events.index(begun[1])], steps.events[steps.events.index(begun[1]) :])
    assert sum(e for e in search if isinstance(e, int)) <= begun[0][1] <= 20
    assert sum(e for e in tracking if isinstance(e, int)) == begun[1][1] == 30


def test_where_support_and_memory_disagree_a_note_names_the_slices():
    images = spots(*[((8, 8), (40, 40))] * 3, *[((40, 8), (40, 40))] * 3)
    result = track_volume(sticky(reanchor=False), images, sticky_support(), (0, 1), start=0)
    said = (
        "On 3 slices (3-5) the proxy prompt alone and the memory of earlier slices disagree about 'red'; review them."
    )
    assert result.notes == [Note(said)]


def test_a_slice_that_cannot_be_used_is_noted_and_the_rest_is_kept(segmenter, prepared, memories_read):
    images = sweep(5)
    images[2, 3, 3] = np.nan
    tracker = Tracker(segmenter, check_agreement=False)
    result = track_volume(tracker, images, prepared, WINDOW, start=0)
    assert result.done.tolist() == [True, True, False, True, True]
    assert np.isfinite(result.probability).all()
    assert "Slice 2 was skipped" in result.notes[0].text
    assert memories_read == [(0, []), (1, [0]), (3, [0, 1]), (4, [0, 1, 3])]


def test_embeddings_that_nobody_keeps_are_released():
    def alive():
        gc.collect()  # what other tests left in circles
        return sum(type(thing) is EncodedSlices for thing in gc.get_objects())

    left, before = {}, alive()

    def count(answer):
        if answer.index in (17, 0):
            left[answer.index] = alive() - before

    track_volume(sticky(names=("red",)), ball(), sticky_support(("red",)), (0, 1), on_frame=count)
    assert left[17] > 10  # those of the search
    assert left[0] <= 3  # the last slice, and the one where tracking turned round


def test_a_support_in_one_piece_says_so_in_the_result(segmenter):
    result = track_volume(Tracker(segmenter), sweep(2), support(), WINDOW, start=0)
    assert result.one_piece == (True, True)
    assert result.across_slices


def test_sam_2_alone_follows_a_volume_too(segmenter):
    result = track_volume(Tracker(segmenter, "bank_only"), sweep(4), support(), WINDOW)
    assert result.done.all()


def test_slices_that_are_not_there_are_refused(segmenter, prepared):
    tracker = Tracker(segmenter)
    with pytest.raises(UsageError, match="slices \\[5\\] do not exist"):
        track_volume(tracker, sweep(5), prepared, WINDOW, slices=[1, 5])
    with pytest.raises(UsageError, match="slice 3 is not among"):
        track_volume(tracker, sweep(5), prepared, WINDOW, slices=[1], start=3)
    with pytest.raises(InputError, match="every voxel"):
        track_volume(tracker, np.ones((3, 40, 56), np.float32), prepared)
    nothing = track_volume(tracker, sweep(5), prepared, WINDOW, slices=[])
    assert not nothing.done.any()
    assert not nothing.cancelled
