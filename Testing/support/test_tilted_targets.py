"""A tilted target is shown to the network as the untilted one: the same turn, the same order, the same voxels."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.itk_images import array_to_image
from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.inference.job import plan
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.support import orientation, reslicing
from ProxyPromptSegmentLib.support.case import SupportCase
from ProxyPromptSegmentLib.support.matching import choose_axes
from ProxyPromptSegmentLib.support.registration import sources
from ProxyPromptSegmentLib.support.registration.sources import SupportVolume, mask_prior

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


@pytest.mark.parametrize(("degrees", "about"), [(46, 0), (90, 0), (-60, 1), (60, 2), (90, 2), (180, 2)])
def test_header_and_voxels_turned_together_are_seen_alike_where_the_header_tells_otherwise(cases, degrees, about):
    """Also within the slices by more than 45 degrees, and at right angles: there only looking tells."""
    support, target = cases
    job = plan([support], turned(target, degrees, about))
    assert job.reslicing is None
    for one, two in zip(seen(job), seen(plan([support], target)), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_target_stored_as_its_supports_is_not_looked_at(cases, monkeypatch):
    support, target = cases
    monkeypatch.setattr(orientation, "Likeness", lambda *_: pytest.fail("it was compared"))
    assert not [note for note in plan([support], turned(target, 12, 0)).notes if "degrees" in note.text]


def test_a_true_header_is_believed_though_the_voxels_are_stored_otherwise(cases):
    support, target = cases
    job = plan([support], stored_otherwise(target))
    assert not [note for note in job.notes if "header" in note.text]
    for one, two in zip(seen(job), seen(plan([support], target)), strict=True):
        np.testing.assert_array_equal(one, two)


def resampled(volume, degrees, about, spacing_mm=3.0):
    """The same anatomy on a turned grid of cubic voxels that covers all of it."""
    sitk = pytest.importorskip("SimpleITK")
    own = volume.geometry
    direction = turned(volume, degrees, about).geometry.direction
    last = np.array(own.size_ijk) - 1
    corners = own.index_to_lps(np.array(list(product((0, 1), repeat=3))) * last) @ direction
    size = np.floor(np.ptp(corners, axis=0) / spacing_mm).astype(int) + 1
    origin = direction @ ((corners.max(axis=0) + corners.min(axis=0)) / 2 - (size - 1) / 2 * spacing_mm)
    image = array_to_image(volume.array, own)
    found = sitk.Resample(
        image, [int(n) for n in size], sitk.Transform(), sitk.sitkLinear, origin.tolist(), [spacing_mm] * 3,
        direction.ravel().tolist(), 0.0,
    )  # fmt: skip
    geometry = VolumeGeometry(tuple(size), (spacing_mm,) * 3, tuple(origin), direction)
    return Volume(sitk.GetArrayFromImage(found), geometry, volume.name)


@pytest.mark.parametrize(
    ("degrees", "about"),
    [pytest.param(30, 0, marks=pytest.mark.slow), (44, 1), pytest.param(60, 2, marks=pytest.mark.slow)],
)
def test_anatomy_on_a_turned_grid_is_segmented_in_the_plane_of_the_support(cases, degrees, about):
    support, _target = cases
    target = resampled(support.volume, degrees, about)
    job = plan([support], target)
    assert job.reslicing is not None
    grid = job.reslicing.geometry
    np.testing.assert_allclose(np.abs(grid.direction), np.abs(support.volume.geometry.direction), atol=1e-6)
    back = job.reslicing.volume(target)
    middle = np.array(grid.size_ijk) / 2
    there = support.volume.geometry.lps_to_index(grid.index_to_lps(middle))
    assert np.abs(there - np.array(support.volume.geometry.size_ijk) / 2).max() < 3
    own = resampled(support.volume, 0, 0).array
    assert abs(back.array[back.array > 0].mean() - own[own > 0].mean()) < 30
    assert "segmented in the support's plane" in " ".join(note.text for note in job.notes)


def test_a_chosen_axis_and_tracking_keep_the_slices_as_they_are_stored(cases):
    support, _target = cases
    target = resampled(support.volume, 30, 0)
    assert plan([support], target, axis="k").reslicing is None
    assert plan([support], target, reslice=False).reslicing is None


@pytest.mark.parametrize(
    ("degrees", "said"),
    [(12, ""), (30, "tilted by 30 degrees"), (60, "resemble them as they are stored"), (90, "read so")],
)
def test_a_notable_tilt_is_said(cases, degrees, said):
    support, _target = cases
    target = replace(support.volume, name="target")  # exactly parallel without the tilt
    notes = " ".join(str(note) for note in plan([support], turned(target, degrees, 0)).notes)
    assert said in notes if said else "tilted" not in notes
    assert ".." not in notes


@pytest.mark.parametrize(
    ("degrees", "about", "said"), [(60, 0, "the patient is turned likewise"), (90, 0, "which way up")]
)
def test_what_cannot_be_known_is_said(cases, degrees, about, said):
    """Two slices are no volume: nothing can be compared."""
    support, target = cases
    flat = replace(target, array=target.array[4:6], geometry=target.geometry.__class__(
        (target.geometry.size_ijk[0], target.geometry.size_ijk[1], 2), target.geometry.spacing_mm,
        target.geometry.origin_lps, target.geometry.direction,
    ))  # fmt: skip
    notes = " ".join(str(note) for note in plan([support], turned(flat, degrees, about)).notes)
    assert f"It cannot be known whether {said}" in notes or f"It cannot be known {said}" in notes


def test_slices_that_were_chosen_are_those_of_the_header(cases):
    """They are counted along an axis that the user saw; another one would segment other slices."""
    support, target = cases
    tilted = turned(resampled(target, 0, 0), 90, 0)
    whole, some = plan([support], tilted), plan([support], tilted, slices=[3, 4])
    assert whole.view.axis != choose_axes([(support.volume, support.segmentation)], tilted)[0]
    assert some.view.axis == choose_axes([(support.volume, support.segmentation)], tilted)[0]
    assert some.slices == (3, 4)


def test_a_left_handed_header_is_never_read_mirrored(cases, monkeypatch):
    support, target = cases
    geometry, (i, j, k) = target.geometry, target.geometry.size_ijk
    left = VolumeGeometry(
        (i, j, k),
        geometry.spacing_mm,
        tuple(geometry.index_to_lps((i - 1, 0, 0))),
        geometry.direction * np.array([-1.0, 1.0, 1.0]),
    )
    flipped = Volume(np.ascontiguousarray(target.array[:, :, ::-1]), left, target.name)
    monkeypatch.setattr(orientation, "Likeness", lambda *_: pytest.fail("it was compared"))
    for one, two in zip(seen(plan([support], flipped)), seen(plan([support], target)), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_header_that_turns_nothing_is_overruled_only_clearly(cases, monkeypatch):
    support, target = cases

    class Alike:
        def __init__(self, *_):
            self.values = iter((0.2, 0.29))

        def of(self, *_):
            return next(self.values)

    monkeypatch.setattr(orientation, "Likeness", Alike)
    for one, two in zip(seen(plan([support], stored_otherwise(target))), seen(plan([support], target)), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("steps", [0, 1, 7])
def test_comparing_a_tilted_target_can_be_cancelled(cases, monkeypatch, steps):
    """The plan of a cancelled run ends after the step that was under way, and says nothing of what it has not seen."""
    support, _target = cases
    cancel, compared, aligned = CancelToken(), [], sources.align

    def align(*args, **more):
        compared.append(1)
        if len(compared) > steps:
            cancel.cancel()
        return aligned(*args, **more)

    monkeypatch.setattr(sources, "align", align)
    job = plan([support], resampled(support.volume, 30, 0), cancel=cancel)
    assert len(compared) == steps + 1
    assert job.reslicing is None and not job.compared


def test_a_comparison_itself_stops_when_it_is_cancelled(cases):
    support, target = cases
    volume = SupportVolume(support.volume, tuple(one.mask for one in support.segmentation.segments), "k", "support")
    cancel = CancelToken()
    cancel.cancel()
    assert sources.Likeness(volume).of(target, plan([support], target).view, False, cancel) == -1.0


def test_the_resampled_grid_holds_slices_that_are_not_looked_at(monkeypatch):
    monkeypatch.setattr(reslicing, "_MOST_VOXELS", 40)
    array = np.zeros((8, 8, 8), np.float32)
    array[1:, 1:, 1:] = 1
    volume = Volume(array, VolumeGeometry((8, 8, 8), (1.0, 1.0, 5.0), (0.0, 0.0, 0.0), np.eye(3)), "target")
    grid = reslicing.Reslicing.parallel(volume, np.eye(3), volume.geometry, "k").geometry
    ends = grid.lps_to_index(np.array([(1.0, 1.0, 5.0), (7.0, 7.0, 35.0)]))
    assert (ends >= -0.5).all()
    assert (ends <= np.array(grid.size_ijk) - 0.5).all()


def test_supports_in_another_plane_are_not_registered_to_an_ordinary_target(cases):
    support, target = cases
    assert not plan([support], turned(target, 12, 0)).compared
    assert plan([support], turned(target, 60, 0)).compared
    across = support.volume.geometry.direction[:, [0, 2, 1]] * np.array([1.0, 1.0, -1.0])
    laid = replace(support.volume, geometry=replace(support.volume.geometry, direction=across))
    volume = SupportVolume(laid, tuple(one.mask for one in support.segmentation.segments), "k", "another")
    job = plan([support], target)
    found = mask_prior([volume], target, "k", view=job.view, backwards=job.backwards)
    assert "another plane" in found.supports[0].problem


def test_coarse_copies_are_about_as_alike_as_the_volumes(cases, monkeypatch):
    """What makes comparing large volumes quick changes no choice."""
    support, target = cases
    volume = SupportVolume(support.volume, tuple(one.mask for one in support.segmentation.segments), "k", "support")
    view = plan([support], target).view
    over = replace(view, flip_rows=not view.flip_rows, flip_columns=not view.flip_columns)
    exact = [sources.Likeness(volume).of(target, way, False) for way in (view, over)]
    assert sources._blocks(target, sources._compared_pixel(volume)) == (1, 1, 1)
    monkeypatch.setattr(sources, "_compared_pixel", lambda _: 2.05 * target.geometry.spacing_mm[0])
    assert sources._blocks(target, sources._compared_pixel(volume)) == (1, 2, 2)
    coarse = [sources.Likeness(volume).of(target, way, False) for way in (view, over)]
    assert coarse == pytest.approx(exact, abs=0.15)
    assert min(exact[0] - exact[1], coarse[0] - coarse[1]) > 0.1


def test_voxels_are_joined_where_they_are_finer_than_what_is_compared(cases):
    support, _target = cases
    own = support.volume.geometry
    i, j, k = own.size_ijk
    fine = VolumeGeometry((8 * i, 8 * j, k), tuple(mm / f for mm, f in zip(own.spacing_mm, (8, 8, 1), strict=True)))
    array = np.repeat(np.repeat(support.volume.array, 8, axis=1), 8, axis=2)
    masks = tuple(np.repeat(np.repeat(one.mask, 8, axis=1), 8, axis=2) for one in support.segmentation.segments)
    volume = SupportVolume(Volume(array, fine, "fine"), masks, "k", "fine")
    (a, b, c) = sources._blocks(volume.volume, sources._compared_pixel(volume))
    assert a == 1 and b == c > 1
    coarse = sources._coarse(volume.volume, sources._compared_pixel(volume))
    assert coarse.array.shape == (k, 8 * j // b, 8 * i // c)
    first = np.asarray(coarse.geometry.index_to_lps((0, 0, 0)))
    np.testing.assert_allclose(first[:2], [(c - 1) / 2 * fine.spacing_mm[0], (b - 1) / 2 * fine.spacing_mm[1]])
    unknown = replace(volume.volume, geometry=VolumeGeometry(fine.size_ijk))
    assert sources._blocks(unknown, 9.0) == (1, 1, 1), "pixels without a size cannot be compared in mm"
