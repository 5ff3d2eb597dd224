"""Distances between borders: against a definition without distance maps, MONAI, and ITK on a real volume."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.evaluation.statistics.measuring import scores_of
from ProxyPromptSegmentLib.evaluation.statistics.surfaces import border_distances, surface_dice

SPACING = (3.0, 0.7, 1.1)


def blob(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return one or two boxes with a few holes and single voxels."""
    mask = np.zeros(shape, np.uint8)
    for _ in range(rng.integers(1, 3)):
        low = [int(rng.integers(0, max(1, size - 1))) for size in shape]
        high = [int(rng.integers(start + 1, size + 1)) for start, size in zip(low, shape, strict=True)]
        mask[tuple(slice(*pair) for pair in zip(low, high, strict=True))] = 1
    return mask ^ (rng.random(shape) < 0.03)


def by_definition(truth: np.ndarray, mask: np.ndarray, spacing: tuple[float, ...]) -> list[np.ndarray]:
    """Return both directed distances from the coordinates of all border pixels."""
    places = []
    for whole in (truth, mask):
        padded = np.pad(whole.astype(bool), 1)
        core = padded.copy()
        for axis in range(whole.ndim):
            core &= np.roll(padded, 1, axis) & np.roll(padded, -1, axis)
        inner = core[(slice(1, -1),) * whole.ndim]
        places.append(np.argwhere(whole.astype(bool) & ~inner) * np.array(spacing))
    between = np.sqrt(((places[0][:, None] - places[1][None]) ** 2).sum(axis=2))
    return [between.min(axis=1), between.min(axis=0)]


@pytest.mark.parametrize("seed", range(12))
def test_distances_are_those_between_the_border_voxels(seed: int):
    rng = np.random.default_rng(seed)
    shape = (1, 23, 19) if seed % 3 == 0 else (6, 13, 11)
    truth, mask = blob(rng, shape), blob(rng, shape)
    found = border_distances(truth, mask, SPACING)
    flat = shape[0] == 1
    wanted = by_definition(*((truth[0], mask[0], SPACING[1:]) if flat else (truth, mask, SPACING)))
    np.testing.assert_allclose(np.sort(found.truth), np.sort(wanted[0]))
    np.testing.assert_allclose(np.sort(found.mask), np.sort(wanted[1]))
    assert found.unit == "mm"
    assert found.hd95() == pytest.approx(max(np.percentile(one, 95) for one in wanted))
    near = np.mean(np.concatenate(wanted) <= 2)
    assert found.surface_dice(2) == surface_dice(truth, mask, 2, SPACING) == pytest.approx(near)


@pytest.mark.slow  # importing monai takes a quarter of a minute of processor time
@pytest.mark.parametrize("seed", range(20))
def test_hd95_and_surface_dice_are_those_of_monai(seed: int):
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("monai.metrics")
    rng = np.random.default_rng(100 + seed)
    shape = (1, 40, 32) if seed % 2 else (7, 20, 17)
    truth, mask = blob(rng, shape), blob(rng, shape)
    found = border_distances(truth, mask, SPACING)
    spacing = SPACING[1:] if shape[0] == 1 else SPACING
    pair = [torch.from_numpy((one[0] if shape[0] == 1 else one)[None, None].astype(bool)) for one in (mask, truth)]
    hd95 = metrics.compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=spacing)
    assert found.hd95() == pytest.approx(float(hd95), rel=1e-5)
    for tolerance in (0.5, 1.5, 4.0):
        share = metrics.compute_surface_dice(*pair, [tolerance], include_background=True, spacing=spacing)
        assert found.surface_dice(tolerance) == pytest.approx(float(share), rel=1e-5)


def test_without_a_spacing_each_slice_is_measured_alone_in_pixels():
    truth = np.zeros((2, 20, 20), np.uint8)
    truth[:, 5:12, 5:12] = 1
    mask = np.roll(truth, 2, axis=2)
    found = border_distances(truth, mask)
    assert (found.unit, found.hd95()) == ("px", 2.0)
    one = border_distances(truth[:1], mask[:1])
    assert len(found.truth) == 2 * len(one.truth) == 2 * 24 and found.surface_dice(1) == one.surface_dice(1)
    # In millimetres the first and last slices are borders as a whole: the volume ends there.
    assert len(border_distances(truth, mask, (1, 1, 1)).truth) == 2 * 49


def test_what_is_missed_has_no_distance_but_costs_surface_dice():
    truth = np.zeros((3, 20, 20), np.uint8)
    truth[:, 5:12, 5:12] = 1
    missed = truth.copy()
    missed[2] = 0
    found = border_distances(truth, missed)
    assert found.hd95() is None, "a third of the border is infinitely far"
    assert border_distances(missed, truth).hd95() is None, "whichever of both it is that lacks a border"
    assert found.surface_dice(5) == pytest.approx(4 / 5)
    nothing = border_distances(truth, truth * 0, SPACING)
    assert nothing.hd95() is None and nothing.surface_dice(100) == 0
    both = border_distances(truth * 0, truth * 0)
    assert both.hd95() is None and both.surface_dice(0) == 1
    assert border_distances(truth, truth, SPACING).hd95() == 0


def test_masks_of_other_shapes_and_impossible_spacings_are_refused():
    truth = np.ones((2, 4, 4), np.uint8)
    with pytest.raises(InputError, match=r"\(2, 4, 4\).*\(2, 4, 5\).*Resample"):
        border_distances(truth, np.ones((2, 4, 5), np.uint8))
    with pytest.raises(InputError, match="above 0"):
        border_distances(truth, truth, (0.0, 1.0, 1.0))


def test_millimetres_of_a_real_volume_are_those_of_itk(shared_data):
    sitk = pytest.importorskip("SimpleITK")
    from ProxyPromptSegmentLib.data.cases import load_dataset

    # The files say no spacing; slices are thick and pixels not square, as in MRI that was resampled.
    spacing = (3.6, 1.25, 1.4)
    case = replace(load_dataset(shared_data, "promise12")[0], spacing_mm=spacing)
    truth = case.masks[:, 0]
    moved = np.roll(truth, (1, 5, -2), axis=(0, 1, 2))
    moved[len(moved) // 2, : truth.shape[1] // 2] = 0
    (score,) = scores_of(moved[:, None], case, table="T", system="moved", tolerance=2.0)
    images = []
    for mask in (truth, moved):
        image = sitk.GetImageFromArray(np.pad(mask, 1))  # what touches the edge of the volume has a border there
        image.SetSpacing([float(mm) for mm in reversed(spacing)])
        images.append(image)
    borders = [sitk.GetArrayFromImage(sitk.LabelContour(image, fullyConnected=False)) > 0 for image in images]
    far = []
    for border, other in (borders, borders[::-1]):
        reached = sitk.GetImageFromArray(other.astype(np.uint8))
        reached.CopyInformation(images[0])
        distances = sitk.SignedMaurerDistanceMap(reached, squaredDistance=False, useImageSpacing=True)
        far.append(np.abs(sitk.GetArrayFromImage(distances))[border])
    assert score.unit == "mm" and score.hd95 == pytest.approx(max(np.percentile(one, 95) for one in far), abs=1e-3)
    assert score.surface == pytest.approx(np.mean(np.concatenate(far) <= 2.0), abs=1e-4)
