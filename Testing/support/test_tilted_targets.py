"""A tilted target is shown to the network as the untilted one: the same turn, the same order, the same voxels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.inference.job import plan
from ProxyPromptSegmentLib.support.case import SupportCase

SIZE = (10, 40, 44)
ANGLES = (0, 30, 44, 46, 60, 80)
ACROSS = {"left": 0, "posterior": 1}
"""World axes that a rotation about tilts the slices of an axial volume."""


def turned(volume, degrees, about):
    """The same voxels under a header that is rotated about a world axis."""
    a, one, two = np.deg2rad(degrees), (about + 1) % 3, (about + 2) % 3
    rotation = np.eye(3)
    rotation[[one, one, two, two], [one, two, one, two]] = np.cos(a), -np.sin(a), np.sin(a), np.cos(a)
    geometry = volume.geometry
    place = rotation @ np.asarray(geometry.origin_lps)
    return replace(
        volume,
        geometry=VolumeGeometry(geometry.size_ijk, geometry.spacing_mm, tuple(place), rotation @ geometry.direction),
    )


def stored_otherwise(volume):
    """The same anatomy with reversed rows and slices, as another program stores it."""
    geometry, array = volume.geometry, volume.array[::-1, ::-1]
    i, j, k = geometry.size_ijk
    flipped = geometry.direction * np.array([1.0, -1.0, -1.0])
    return Volume(
        np.ascontiguousarray(array),
        VolumeGeometry((i, j, k), geometry.spacing_mm, tuple(geometry.index_to_lps((0, j - 1, k - 1))), flipped),
        volume.name,
    )


@pytest.fixture(scope="module")
def cases():
    volume, segmentation = pelvis_phantom(1, SIZE)
    target, _truth = pelvis_phantom(2, SIZE)
    return SupportCase(volume, segmentation), target


def seen(job):
    """What the network gets of a target: its slices, and their positions along the volume, in the support's order."""
    slices, depths = job.view.take(job.target.array), job.depths
    order = np.argsort(depths)
    return slices[order], depths[order]


@pytest.mark.parametrize("degrees", [sign * angle for angle in ANGLES for sign in (1, -1)])
@pytest.mark.parametrize("about", ACROSS.values(), ids=ACROSS.keys())
@pytest.mark.parametrize("store", [lambda volume: volume, stored_otherwise], ids=["as made", "stored otherwise"])
def test_header_and_voxels_turned_together_are_seen_as_the_untilted_volume(cases, degrees, about, store):
    support, target = cases
    images, depths = seen(plan([support], target))
    tilted = plan([support], turned(store(target), degrees, about))
    assert tilted.view.axis == "k"
    for one, two in zip(seen(tilted), (images, depths), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("degrees", (0, 30, 40, -40))
def test_a_turn_within_the_slices_is_that_of_the_header(cases, degrees):
    support, target = cases
    turned_job = plan([support], turned(target, degrees, 2))
    for one, two in zip(seen(turned_job), seen(plan([support], target)), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_quarter_turn_in_storage_is_turned_back(cases):
    support, target = cases
    array = np.ascontiguousarray(np.swapaxes(target.array, 1, 2))  # the same anatomy, columns first
    geometry = target.geometry
    i, j, k = geometry.size_ijk
    swapped = VolumeGeometry(
        (j, i, k),
        (geometry.spacing_mm[1], geometry.spacing_mm[0], geometry.spacing_mm[2]),
        geometry.origin_lps,
        geometry.direction[:, [1, 0, 2]],
    )
    job = plan([support], Volume(array, swapped, target.name))
    for one, two in zip(seen(job), seen(plan([support], target)), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("degrees", "said"),
    [(20, ""), (46, "tilted by 46 degrees"), (60, "turned as in the support"), (90, "cannot be known which way up")],
)
def test_a_notable_tilt_is_said(cases, degrees, said):
    support, _target = cases
    target = replace(support.volume, name="target")  # exactly parallel without the tilt
    notes = " ".join(str(note) for note in plan([support], turned(target, degrees, 0)).notes)
    assert said in notes if said else "tilted" not in notes
    assert ".." not in notes
