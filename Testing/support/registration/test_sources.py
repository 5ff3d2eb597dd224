"""Volumes of any spacing, direction and order of slices, as the registration reads them."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("SimpleITK")

from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry, slice_view
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.support.matching import slice_depths
from ProxyPromptSegmentLib.support.registration.sources import SupportVolume, mask_prior, stack_of


def pelvis(seed: int, size=(16, 64, 64)) -> tuple[Volume, np.ndarray]:
    volume, segmentation = pelvis_phantom(seed, size)
    return volume, segmentation.segments[0].mask


def turned(volume: Volume, mask: np.ndarray) -> tuple[Volume, np.ndarray]:
    """The same case in a file that begins with the last slice and the last row."""
    grid = volume.geometry
    k, j, _ = grid.shape_kji
    corner = grid.index_to_lps((0, j - 1, k - 1))
    flipped = VolumeGeometry(grid.size_ijk, grid.spacing_mm, tuple(corner), grid.direction * (1, -1, -1))
    return Volume(volume.array[::-1, ::-1], flipped, volume.name), mask[::-1, ::-1]


def transposed(volume: Volume, mask: np.ndarray) -> tuple[Volume, np.ndarray]:
    """The same case in a file whose slices lie along its first axis."""
    i, j, k = volume.geometry.size_ijk
    x, y, z = volume.geometry.spacing_mm
    moved = VolumeGeometry((k, j, i), (z, y, x), volume.geometry.origin_lps, volume.geometry.direction[:, ::-1])
    return Volume(volume.array.transpose(2, 1, 0), moved, volume.name), mask.transpose(2, 1, 0)


@pytest.mark.parametrize("change", [turned, transposed])
def test_the_prior_lies_on_the_target_however_the_files_store_their_voxels(change):
    support, target = pelvis(11), pelvis(3)
    plain = mask_prior([SupportVolume(support[0], (support[1],), "k", "case")], target[0], "k").masks
    axis = "i" if change is transposed else "k"
    stored, mask = change(*target)
    changed = mask_prior([SupportVolume(support[0], (support[1],), "k", "case")], stored, axis).masks
    truth = slice_view(stored.geometry, axis).take(mask)
    assert changed.shape == (truth.shape[0], 1, *truth.shape[1:])
    assert dice(truth, changed[:, 0] > 0.5) == pytest.approx(dice(target[1], plain[:, 0] > 0.5), abs=0.02)
    other, own = change(*support)
    back = mask_prior([SupportVolume(other, (own,), axis, "case")], target[0], "k").masks
    assert dice(plain > 0.5, back > 0.5) > 0.97


def test_a_support_whose_slices_lie_in_another_plane_is_left_out():
    support, target = pelvis(11), pelvis(3)
    found = mask_prior([SupportVolume(support[0], (support[1],), "j", "case")], target[0], "k")
    assert found.masks is None
    assert "another plane" in found.notes[0].text


def test_colours_are_registered_as_grey():
    support = pelvis(11)
    colour = Volume(np.repeat(support[0].array[..., None], 3, axis=-1), support[0].geometry)
    one, other = stack_of(colour, "k"), stack_of(support[0], "k")
    np.testing.assert_allclose(one.array, other.array, atol=1e-3)


def test_a_spacing_of_one_in_every_direction_is_not_believed():
    volume, _ = pelvis(3)
    assert stack_of(volume, "k").measured
    assert not stack_of(Volume(volume.array, VolumeGeometry(volume.geometry.size_ijk)), "k").measured


def test_depths_grow_towards_the_head_whatever_the_order_of_the_slices():
    volume, mask = pelvis(3)
    depths = slice_depths(volume, "k")
    assert depths[0] == -1 and depths[-1] == 1 and depths.dtype == np.float32
    np.testing.assert_allclose(slice_depths(turned(volume, mask)[0], "k"), depths[::-1])
    single = Volume(volume.array[:1], VolumeGeometry((64, 64, 1)))
    assert slice_depths(single, "k") is None
