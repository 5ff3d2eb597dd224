"""Registration of annotated volumes to a target: what it finds, and when a support is left out."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("SimpleITK")

from ProxyPromptSegmentLib.imaging.intensity import intensity_window, window_to_unit
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom
from ProxyPromptSegmentLib.progress import CancelToken, Progress
from ProxyPromptSegmentLib.support.registration import deformation, placement, prior
from ProxyPromptSegmentLib.support.registration.filling import fill_between
from ProxyPromptSegmentLib.support.registration.placement import Placement
from ProxyPromptSegmentLib.support.registration.prior import MarkedStack, register
from ProxyPromptSegmentLib.support.registration.stack import Stack, box_of


def pelvis(seed: int, size=(18, 72, 72), **how) -> MarkedStack:
    """A drawn pelvis with the prostate marked, in the orientation in which it was drawn."""
    volume, segmentation = pelvis_phantom(seed, size, **how)
    i, j, k = volume.geometry.spacing_mm
    unit = window_to_unit(volume.array, intensity_window(volume.array))
    return MarkedStack(volume.name, Stack(unit, (k, j, i)), segmentation.segments[0].mask[:, None])


@pytest.fixture(scope="module")
def target() -> MarkedStack:
    return pelvis(3)


def overlap(found, truth: MarkedStack) -> float:
    assert found.masks is not None
    return dice(truth.masks[:, 0], found.masks[:, 0] > 0.5)


def test_the_correlation_is_the_sum_of_products_at_every_place_where_the_template_fits():
    draw = np.random.default_rng(4)
    seen, template = (draw.normal(size=size).astype(np.float32) for size in ((2, 6, 11, 10), (2, 3, 4, 5)))
    windows = np.lib.stride_tricks.sliding_window_view(seen, (3, 4, 5), axis=(1, 2, 3))
    products = np.einsum("cxyzijk,cijk->xyz", windows, template)
    strength = np.square(windows).sum(axis=(0, 4, 5, 6)) * np.square(template).sum()
    found = placement._correlation(seen, template)
    assert found.shape == (4, 8, 6)
    np.testing.assert_allclose(found, products / np.sqrt(strength), atol=1e-5)


def test_the_mask_of_another_patient_lies_on_the_organ_of_the_target(target):
    support = pelvis(11)
    copied = dice(target.masks[:, 0], support.masks[:, 0])
    found = register([support], target.stack)
    assert found.masks.shape == target.masks.shape
    assert found.masks.dtype == np.float32
    assert found.masks.min() >= 0.0
    assert found.masks.max() <= 1.0
    assert overlap(found, target) > max(0.75, copied)
    assert not found.notes


def test_size_spacing_and_field_of_view_of_support_and_target_may_differ(target):
    support = pelvis(11, (30, 120, 100), fov_mm=140.0, slice_mm=2.5)
    assert overlap(register([support], target.stack), target) > 0.7


def test_a_support_that_is_the_target_gives_the_mask_itself(target):
    assert overlap(register([target], target.stack), target) > 0.95


def test_a_target_that_was_cut_out_of_the_support_is_found_in_it(target):
    cut = (slice(3, 17), slice(10, 60), slice(14, 70))
    part = Stack(target.stack.array[cut], target.stack.spacing)
    found = register([target], part)
    assert dice(target.masks[:, 0][cut], found.masks[:, 0] > 0.5) > 0.9


def test_the_same_input_gives_the_same_prior(target):
    first, second = (register([pelvis(12)], target.stack).masks for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_the_prior_is_the_mean_over_the_supports(target):
    supports = [pelvis(11), pelvis(12)]
    alone = [register([one], target.stack).masks for one in supports]
    together = register(supports, target.stack)
    np.testing.assert_allclose(together.masks, np.mean(alone, axis=0), atol=1e-6)
    assert [one.name for one in together.supports] == ["phantom-11", "phantom-12"]


def test_every_object_is_registered_with_the_same_deformation(target):
    support = pelvis(11)
    left = support.masks.copy()
    left[..., 36:] = 0
    both = MarkedStack("case", support.stack, np.concatenate([support.masks, left], axis=1))
    found = register([both], target.stack).masks
    assert (found[:, 1] <= found[:, 0] + 1e-5).all()
    assert 0.2 < found[:, 1].sum() / found[:, 0].sum() < 0.8


def test_a_support_that_does_not_look_like_the_target_is_left_out_with_a_note(target):
    noise = np.random.default_rng(0).random(target.stack.array.shape, np.float32)
    strange = MarkedStack("noise", target.stack.with_array(noise), target.masks)
    alone = register([strange], target.stack)
    assert alone.masks is None
    assert "noise" in alone.notes[0].text and "look alike" in alone.notes[0].text
    mixed = register([strange, pelvis(11)], target.stack)
    assert mixed.masks.max() > 0.9  # the mean is over those that were registered
    assert [bool(one.problem) for one in mixed.supports] == [True, False]


def test_a_volume_of_which_one_slice_is_annotated_is_left_out(target):
    masks = np.zeros_like(target.masks)
    masks[9] = target.masks[9]
    found = register([MarkedStack("case", target.stack, masks)], target.stack)
    assert found.masks is None
    assert "only one of its slices is annotated" in found.notes[0].text


def test_a_picture_is_no_volume(target):
    flat = MarkedStack("case", Stack(target.stack.array[9:11], target.stack.spacing), target.masks[9:11])
    assert "too few slices" in register([flat], target.stack).notes[0].text
    assert "too few slices" in register([target], flat.stack).notes[0].text


def test_a_few_annotated_slices_of_a_volume_suffice(target):
    support = pelvis(11)
    few = np.zeros_like(support.masks)
    shown = np.flatnonzero(support.masks.any(axis=(1, 2, 3)))
    few[shown[::3]] = support.masks[shown[::3]]
    found = register([MarkedStack("case", support.stack, few)], target.stack)
    assert overlap(found, target) > 0.7


def test_gaps_between_single_annotated_slices_are_filled_and_others_are_not():
    discs = np.zeros((9, 20, 20), np.uint8)
    discs[1, 5:15, 5:15] = 1
    discs[5, 8:12, 8:12] = 1
    filled = fill_between(discs)
    sizes = filled.sum(axis=(1, 2)).tolist()
    assert sizes[0] == 0 and sizes[6:] == [0, 0, 0]
    assert sizes[1] >= sizes[2] >= sizes[3] >= sizes[4] >= sizes[5] > 0
    two = np.zeros((9, 20, 20), np.uint8)
    two[1:4, 5:15, 5:15] = two[6:9, 5:15, 5:15] = 1
    np.testing.assert_array_equal(fill_between(two), two)


def test_a_folded_deformation_is_not_used(target, monkeypatch):
    support = pelvis(11)
    assert register([support], target.stack).supports[0].deformed
    monkeypatch.setattr(prior, "MOST_FOLDED", -1.0)
    assert not register([support], target.stack).supports[0].deformed


def test_folding_is_measured_in_voxels_that_turn_over():
    grid = Stack(np.zeros((4, 10, 10), np.float32), (2.0, 1.0, 1.0))
    still = np.zeros((4, 10, 10, 3))
    assert deformation._jacobian(still, grid) == pytest.approx(1.0)
    turned = still.copy()
    turned[..., 0] = -2.0 * np.arange(10)  # each column lands left of the one before
    assert (deformation._jacobian(turned, grid) < 0).all()
    stretched = still.copy()
    stretched[..., 2] = (np.arange(4) * 2.0)[:, None, None]
    assert deformation._jacobian(stretched, grid) == pytest.approx(2.0)


def test_a_cancelled_registration_has_no_prior(target):
    class CancelAfterOne(Progress):
        def step(self, n=1, note=""):
            cancel.cancel()

    cancel = CancelToken()
    found = register([pelvis(11), pelvis(12)], target.stack, CancelAfterOne(), cancel)
    assert found.cancelled and found.masks is None
    assert len(found.supports) == 1


def test_progress_counts_supports(target):
    class Counter(Progress):
        def __init__(self):
            self.total, self.done, self.closed = 0, 0, False

        def start(self, total, what):
            self.total = total

        def step(self, n=1, note=""):
            self.done += n

        def close(self):
            self.closed = True

    counter = Counter()
    register([target, target], target.stack, counter)
    assert (counter.total, counter.done, counter.closed) == (2, 2, True)


def test_a_placement_and_its_inverse_are_the_same_mapping():
    placement = Placement((3.0, 20.0, 30.0), (5.0, 24.0, 28.0), 1.3, 0.8, 0.4)
    points = np.random.default_rng(0).uniform(0, 50, (3, 7))
    inverse = placement.from_target()
    for before, after in zip(points.T, placement.apply(points).T, strict=True):
        np.testing.assert_allclose(inverse.TransformPoint(after[::-1])[::-1], before, atol=1e-6)


def test_smaller_voxels_keep_their_place():
    ramp = np.broadcast_to(np.arange(12, dtype=np.float32), (4, 12, 12)).copy()
    stack = Stack(ramp, (3.0, 1.0, 1.0), (0.0, 0.0, 5.0))
    small = stack.shrink(2.0)
    assert small.array.shape == (4, 6, 6)
    assert small.spacing == (3.0, 2.0, 2.0)
    assert small.origin == (0.0, 0.5, 5.5)
    np.testing.assert_allclose(small.array[0, 0], small.index(np.zeros((3, 1)))[2, 0] * 0 + np.arange(0.5, 12, 2))


def test_a_box_is_wider_than_the_object_and_inside_of_the_volume():
    marked = np.zeros((10, 40, 40), bool)
    marked[4:8, 0:10, 20:30] = True
    assert box_of(marked, 0.5) == ((2, 10), (0, 15), (15, 35))
