"""The drawn pelvis: the same for a seed, different between seeds, with the contrasts of T2 weighting."""

from __future__ import annotations

import numpy as np
import pytest

from ProxyPromptSegmentLib.imaging.geometry import auto_axis
from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom
from ProxyPromptSegmentLib.imaging.volumes import check_intensities


def test_the_same_seed_draws_the_same_voxel_for_voxel() -> None:
    (one, mask_one), (two, mask_two) = (pelvis_phantom(5, (12, 64, 64)) for _ in range(2))
    np.testing.assert_array_equal(one.array, two.array)
    np.testing.assert_array_equal(mask_one.segments[0].mask, mask_two.segments[0].mask)
    assert one.geometry == two.geometry


def test_seeds_differ_in_anatomy_contrast_and_direction() -> None:
    cases = [pelvis_phantom(seed, (12, 64, 64)) for seed in range(6)]
    assert len({volume.geometry for volume, _ in cases}) == 6
    millilitres = [float(s.segments[0].mask.sum() * np.prod(v.geometry.spacing_mm) / 1000) for v, s in cases]
    assert 15 < min(millilitres) < max(millilitres) < 90
    assert max(millilitres) > 1.1 * min(millilitres)


@pytest.mark.parametrize("seed", range(8))
def test_the_prostate_lies_in_the_middle_of_the_slices_and_has_a_plausible_width(seed: int) -> None:
    volume, segmentation = pelvis_phantom(seed)
    mask = segmentation.segments[0].mask
    assert segmentation.names == ["prostate"]
    assert segmentation.geometry == volume.geometry
    slices = np.flatnonzero(mask.any(axis=(1, 2)))
    assert 0.38 <= len(slices) / len(mask) <= 0.62
    assert np.all(np.diff(slices) == 1)
    assert abs(slices.mean() - (len(mask) - 1) / 2) <= 1.5
    middle = mask[slices[len(slices) // 2]]
    width_of_128 = np.flatnonzero(middle.any(axis=0)).size * 128 / middle.shape[1]
    assert 25 <= width_of_128 <= 48
    assert auto_axis(volume.geometry) == "k"
    check_intensities(volume.array, "phantom")


@pytest.mark.parametrize("seed", range(4))
def test_tissues_have_the_order_of_brightness_of_t2(seed: int) -> None:
    volume, segmentation = pelvis_phantom(seed)
    mask = segmentation.segments[0].mask.astype(bool)
    slices = np.flatnonzero(mask.any(axis=(1, 2)))
    middle = volume.array[slices[len(slices) // 2]]
    rows, columns = np.nonzero(mask[slices[len(slices) // 2]])
    low, high = rows.min(), rows.max()
    centre = (columns.min() + columns.max()) // 2
    peripheral = np.median(middle[high - 6 : high - 2, centre - 8 : centre + 8])
    transition = np.median(
        middle[int(low + 0.3 * (high - low)) : int(low + 0.55 * (high - low)), centre - 6 : centre + 6]
    )
    urine = np.percentile(volume.array[-3:], 98)
    muscle = np.percentile(volume.array, 12)
    assert muscle < 0.6 * transition < 0.6 * peripheral
    assert transition < 0.85 * peripheral
    assert peripheral < 0.85 * urine


def test_slices_can_be_straight_and_sizes_and_distances_chosen() -> None:
    volume, segmentation = pelvis_phantom(1, (10, 48, 56), fov_mm=112, slice_mm=5, oblique=False)
    assert volume.array.shape == (10, 48, 56) == segmentation.segments[0].mask.shape
    assert volume.geometry.spacing_mm == (2.0, 2.0, 5.0)
    np.testing.assert_array_equal(volume.geometry.direction, np.eye(3))
    assert not np.array_equal(pelvis_phantom(1, (10, 48, 56))[0].geometry.direction, np.eye(3))
