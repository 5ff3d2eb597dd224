"""The checkpoint for tracking that comes with the program follows real sweeps, and the prompt decides what."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sam2")

from drawn_data import drawn_prostate_case
from ProxyPromptSegmentLib.data.cases import load_dataset
from ProxyPromptSegmentLib.data.splits import Split, split
from ProxyPromptSegmentLib.evaluation.conditions import prepare_emptied
from ProxyPromptSegmentLib.evaluation.in_context import draw_supports, pair_of
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.inference.loading import load
from ProxyPromptSegmentLib.support.pairs import SupportSet
from ProxyPromptSegmentLib.tracking.tracker import Tracker

FRAMES = 8


@pytest.fixture(scope="module")
def segmenter():
    return load("sam2-compact", "cpu").segmenter


def drawn() -> Split:
    """The slices of drawn pelves that show the prostate as frames: one to mark, two to follow."""
    cases = []
    for seed in range(3):
        case = drawn_prostate_case(seed, 24)
        shown = np.flatnonzero(case.masks.any(axis=(1, 2, 3)))[2 : 2 + FRAMES]
        cases.append(replace(case, images=case.images[shown], masks=case.masks[shown]))
    return Split(train=cases[:1], validation=[], test=cases[1:])


@pytest.fixture(scope="module", params=["drawn", "public"])
def sweeps(request):
    """Drawn frames, and the sweeps of the carotid where the public data are there.

    Beside them how well they are followed: by a proxy prompt, and by the memory of a given mask alone, which loses the
    carotid after some frames. (Weights that knew nothing but this vessel drew it wherever the mask was.)
    """
    if request.param == "drawn":
        return drawn(), 0.6, 0.6
    return split(load_dataset(request.getfixturevalue("shared_data"), "ccaus_video"), "ccaus_video"), 0.8, 0.4


def follow(tracker, case):
    masks = [tracker.step(image).masks() for image in case.images[:FRAMES]]
    return float(np.mean([dice(truth, mask[0]) for truth, mask in zip(case.masks[:FRAMES, 0], masks, strict=True)]))


def test_one_frame_of_another_sweep_prompts_a_sweep_and_the_same_frame_unmarked_does_not(segmenter, sweeps):
    sweeps, well, _ = sweeps
    first = sweeps.train[0]
    support = SupportSet((pair_of(first, min(10, len(first.images) - 1)),), first.objects)
    for case in sweeps.test:
        tracker = Tracker(segmenter)
        tracker.start(segmenter.prepare(support), intensity_window(case.images[:1]))
        assert follow(tracker, case) > well, case.name
        tracker.start(prepare_emptied(segmenter, support), intensity_window(case.images[:1]))
        assert follow(tracker, case) < 0.1, case.name


def test_a_given_mask_is_read_from_the_memory(segmenter, sweeps):
    """Without a proxy prompt a marked first frame is followed, and one on which nothing is marked is not."""
    sweeps, _, well = sweeps
    case = sweeps.test[0]
    scores = []
    for mask in (case.masks[0], np.zeros_like(case.masks[0])):
        tracker = Tracker(segmenter, "bank_only")
        tracker.start(None, intensity_window(case.images[:1]))
        tracker.anchor(case.images[0], mask)
        scores.append(follow(tracker, case))
    assert scores[0] > well
    assert scores[1] < 0.1


@pytest.mark.slow
def test_another_segment_of_the_support_is_another_object(segmenter, shared_data):
    """Pubic symphysis and fetal head of the same images, asked for one at a time and together."""
    parts = split(load_dataset(shared_data, "psfhs"), "psfhs")
    own, other = [], []
    for case in parts.test[:: len(parts.test) // 6][:6]:
        support, _ = draw_supports(parts.train, case, 3, seed=1)
        prepared = segmenter.prepare(support)
        together = segmenter.segment(case.images, prepared).masks()
        for number in range(2):
            alone = segmenter.segment(case.images, prepared.objects([number])).masks()
            # Keys near a border of any object are kept apart, so that the other object changes a few pixels.
            assert dice(alone[:, 0], together[:, number]) > 0.95
            own.append(dice(case.masks[:, number], alone[:, 0]))
            other.append(dice(case.masks[:, 1 - number], alone[:, 0]))
    assert np.mean(own) > 0.6
    assert np.mean(other) < 0.2
