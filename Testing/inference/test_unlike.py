"""A sentence where an image resembles no support: whether something was drawn or not, and only if it is known."""

from __future__ import annotations

import numpy as np

from ProxyPromptSegmentLib.inference.calibration import EVIDENCE, PRESENCE, QUALITY, Calibration
from ProxyPromptSegmentLib.inference.results import SegmentResult
from ProxyPromptSegmentLib.inference.unlike import nearest_of, note_if_unlike
from ProxyPromptSegmentLib.inference.volume_result import notes_on
from ProxyPromptSegmentLib.remedies import RemedyKind

KNOWN = Calibration(presence=dict.fromkeys(PRESENCE, 1.0), quality=dict.fromkeys(QUALITY, 1.0), unlike=10.0)


def a_result(distances, presence=0.01, level=0.0):
    """A prediction of two objects on so many slices."""
    count = len(distances)
    evidence = np.full((count, 2, len(EVIDENCE)), 0.5, np.float32)
    evidence[..., EVIDENCE.index("distance")] = np.array(distances, np.float32)[:, None]
    return SegmentResult(
        objects=("gland", "stone"),
        probability=np.full((count, 2, 4, 4), level, np.float32),
        presence=np.full((count, 2), presence, np.float32),
        quality=np.full((count, 2), 0.5, np.float32),
        done=np.ones(count, bool),
        evidence=evidence,
    )


def said(result, calibration=KNOWN):
    return notes_on(result, result.masks(), 0.5, calibration=calibration)


def test_the_nearest_slice_counts_and_unfinished_ones_do_not():
    assert nearest_of(a_result([12.0, 11.0, np.nan]).evidence) == 11.0
    assert np.isnan(nearest_of(a_result([np.nan]).evidence)) and np.isnan(nearest_of(None))


def test_an_image_that_resembles_no_support_gets_one_sentence_for_all_objects_and_what_to_do():
    (note,) = said(a_result([14.0, 12.5]))
    assert note.text == (
        "Nothing in this image resembles the support: the nearest slice is at a distance of 12.5 to the support, where "
        "10.0 is usual at most."
    )
    assert note.remedy.kind == RemedyKind.CHOOSE_SUPPORT


def test_a_mask_that_was_drawn_all_the_same_is_doubted():
    (note,) = said(a_result([14.0, 12.5], presence=0.9, level=0.9))
    assert (
        note.text.startswith("The image hardly resembles the support (") and "although something was drawn" in note.text
    )


def test_an_image_that_resembles_the_support_is_told_by_object_as_before():
    notes = said(a_result([14.0, 9.5]))
    assert [note.text.split(" of the support")[0] for note in notes] == [
        "Nothing in the target resembles 'gland'", "Nothing in the target resembles 'stone'"
    ]  # fmt: skip
    assert len(said(a_result([14.0, 12.5]), None)) == 2, "without a calibration nobody knows how far is too far"
    assert note_if_unlike(float("nan"), KNOWN, False) is None
