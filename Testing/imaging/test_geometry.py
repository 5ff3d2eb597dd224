"""The lattice: round trips, slices, and one grid brought onto another."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from geometry_cases import geometries, turned, turned_array
from ProxyPromptSegmentLib.errors import GeometryError
from ProxyPromptSegmentLib.imaging.geometry import (
    AXES,
    SliceView,
    VolumeGeometry,
    auto_axis,
    match_lattice,
    slice_spacing_mm,
    slice_view,
    take_slices,
)


@given(geometries(), hnp.arrays(np.float64, (4, 3), elements=st.floats(-50, 50)))
def test_indices_survive_the_way_to_lps_and_back(geometry: VolumeGeometry, indices: np.ndarray) -> None:
    back = geometry.lps_to_index(geometry.index_to_lps(indices))
    np.testing.assert_allclose(back, indices, atol=1e-6)


@given(geometries())
def test_the_affine_and_the_geometry_are_the_same(geometry: VolumeGeometry) -> None:
    again = VolumeGeometry.from_affine(geometry.affine, geometry.size_ijk)
    np.testing.assert_allclose(again.affine, geometry.affine, atol=1e-9)
    assert again.is_close(geometry)


def test_one_step_along_i_moves_by_the_spacing_along_the_first_column() -> None:
    geometry = VolumeGeometry((4, 5, 6), (0.5, 2.0, 3.0), (10, 20, 30), [[0, 1, 0], [1, 0, 0], [0, 0, -1]])
    np.testing.assert_allclose(geometry.index_to_lps([1, 0, 0]), [10, 20.5, 30])
    np.testing.assert_allclose(geometry.index_to_lps([0, 0, 2]), [10, 20, 24])
    assert geometry.shape_kji == (6, 5, 4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"spacing_mm": (1, 0, 1)}, "spacing"),
        ({"spacing_mm": (1, float("nan"), 1)}, "spacing"),
        ({"size_ijk": (0, 2, 2)}, "at least one"),
        ({"origin_lps": (float("inf"), 0, 0)}, "NaN or infinite"),
        ({"direction": [[1, 0.2, 0], [0, 1, 0], [0, 0, 1]]}, "right angles"),
        ({"direction": np.eye(2)}, "3x3"),
    ],
)
def test_an_impossible_grid_is_refused_with_a_sentence(change: dict, words: str) -> None:
    with pytest.raises(GeometryError, match=words):
        VolumeGeometry(**{"size_ijk": (2, 2, 2), **change})


def test_a_geometry_cannot_be_changed_from_outside() -> None:
    direction = np.eye(3)
    geometry = VolumeGeometry((2, 2, 2), direction=direction)
    direction[0, 0] = 5
    assert geometry.direction[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        geometry.direction[0, 0] = 5


def test_equal_geometries_have_equal_hashes_and_others_differ() -> None:
    one, same = (VolumeGeometry((2, 3, 4), (1, 1, 2), (0.0, 0, 0)) for _ in range(2))
    minus_zero = VolumeGeometry((2, 3, 4), (1, 1, 2), (-0.0, 0, 0))
    assert one == same == minus_zero
    assert len({one, same, minus_zero}) == 1
    assert one != VolumeGeometry((2, 3, 4), (1, 1, 2.5))


@given(geometries(), st.sampled_from(AXES))
def test_slices_are_views_and_writing_one_changes_only_that(geometry: VolumeGeometry, axis: str) -> None:
    array = np.zeros(geometry.shape_kji, np.uint8)
    slices = take_slices(array, axis)
    last = len(slices) - 1
    slices[last] = 1
    assert np.shares_memory(slices, array)
    assert array.sum() == slices[last].size


def test_each_axis_gives_the_plane_that_the_convention_names() -> None:
    array = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    assert np.array_equal(take_slices(array, "k")[1], array[1])
    assert np.array_equal(take_slices(array, "j")[2], array[:, 2])
    assert np.array_equal(take_slices(array, "i")[3], array[:, :, 3])
    colour = np.zeros((2, 3, 4, 3))
    assert take_slices(colour, "i").shape == (4, 2, 3, 3)
    geometry = VolumeGeometry((4, 3, 2), (0.1, 0.2, 0.3))
    assert [slice_spacing_mm(geometry, a) for a in AXES] == [(0.2, 0.1), (0.3, 0.1), (0.3, 0.2)]


def test_an_axis_that_does_not_exist_is_refused() -> None:
    with pytest.raises(GeometryError, match="'k', 'j', 'i'"):
        take_slices(np.zeros((2, 3, 4)), "z")


@pytest.mark.parametrize(
    ("size", "spacing", "axis"),
    [
        ((200, 200, 24), (0.5, 0.5, 3.0), "k"),
        ((200, 24, 200), (0.5, 3.0, 0.5), "j"),
        ((24, 200, 200), (3.0, 0.5, 0.5), "i"),
        ((64, 100, 100), (1.0, 1.0, 1.0), "i"),
        ((100, 100, 100), (1.0, 1.0, 1.0), "k"),
        ((300, 300, 1), (1.4, 1.4, 1.0), "k"),  # a picture, whatever its pixel size
        ((64, 200, 200), (0.99999999, 1.0, 1.0), "i"),  # float32 headers do not break the tie
    ],
)
def test_the_automatic_axis_is_the_one_of_the_coarsest_spacing(size: tuple, spacing: tuple, axis: str) -> None:
    assert auto_axis(VolumeGeometry(size, spacing)) == axis


def test_grids_are_close_within_a_fraction_of_a_voxel_and_not_beyond() -> None:
    geometry = VolumeGeometry((200, 200, 30), (0.4, 0.4, 3.0), (-40, -40, -50))
    as_float32 = VolumeGeometry((200, 200, 30), tuple(np.float32((0.4, 0.4, 3.0))), (-40, -40, -50))
    assert geometry.is_close(as_float32)
    assert not geometry.is_close(VolumeGeometry((200, 200, 30), (0.4, 0.4, 3.0), (-39.9, -40, -50)))
    assert not geometry.is_close(VolumeGeometry((200, 200, 30), (0.401, 0.4, 3.0), (-40, -40, -50)))
    assert not geometry.is_close(VolumeGeometry((200, 200, 29), (0.4, 0.4, 3.0), (-40, -40, -50)))


@settings(deadline=None)
@given(
    geometries(),
    st.permutations(range(3)),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
    st.randoms(use_true_random=False),
)
def test_a_flipped_or_permuted_array_comes_back_exactly(geometry: VolumeGeometry, order, flips, random) -> None:
    array = np.random.default_rng(random.randrange(2**32)).integers(0, 2, geometry.shape_kji, np.uint8)
    other = turned(geometry, tuple(order), flips)
    moved = turned_array(array, tuple(order), flips)
    assert moved.shape == other.shape_kji
    back = match_lattice(other, geometry).apply(moved)
    np.testing.assert_array_equal(back, array)


@settings(deadline=None)
@given(geometries(), st.data())
def test_a_cropped_array_comes_back_where_it_was_cut_out(geometry: VolumeGeometry, data: st.DataObject) -> None:
    array = np.ones(geometry.shape_kji, np.uint8)
    start = tuple(data.draw(st.integers(0, n - 1)) for n in geometry.size_ijk)
    size = tuple(data.draw(st.integers(1, n - s)) for n, s in zip(geometry.size_ijk, start, strict=True))
    part = VolumeGeometry(size, geometry.spacing_mm, tuple(geometry.index_to_lps(start)), geometry.direction)
    back = match_lattice(part, geometry).apply(np.ones(part.shape_kji, np.uint8))
    (i, j, k), (di, dj, dk) = start, size
    inside = np.zeros_like(array)
    inside[k : k + dk, j : j + dj, i : i + di] = 1
    np.testing.assert_array_equal(back, inside)
    # and an array that reaches beyond the reference is cut to it
    whole = match_lattice(geometry, part).apply(array * 2)
    assert whole.shape == part.shape_kji
    assert (whole == 2).all()


def test_all_48_turns_of_a_grid_are_recognized() -> None:
    geometry = VolumeGeometry((3, 4, 5), (0.5, 1.0, 2.0), (1, 2, 3))
    array = np.arange(60).reshape(5, 4, 3)
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((False, True), repeat=3):
            back = match_lattice(turned(geometry, order, flips), geometry).apply(turned_array(array, order, flips))
            np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize(
    "other",
    [
        VolumeGeometry((8, 8, 8), (1.0, 1.0, 1.0), (0.5, 0, 0)),  # shifted by half a voxel
        VolumeGeometry((8, 8, 8), (1.0, 1.0, 1.1)),  # other spacing
        VolumeGeometry((4, 4, 4), (2.0, 2.0, 2.0)),  # coarser
        VolumeGeometry((8, 8, 8), direction=[[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]),  # turned
    ],
)
def test_another_lattice_is_refused(other: VolumeGeometry) -> None:
    with pytest.raises(GeometryError, match=r"another grid.*resample"):
        match_lattice(other, VolumeGeometry((8, 8, 8)))


def test_oriented_views_show_every_storage_order_of_a_body_alike() -> None:
    canonical = VolumeGeometry((3, 4, 5), (0.5, 1.0, 2.0), (1, 2, 3))
    array = np.arange(60).reshape(5, 4, 3)
    expected = {"k": array, "j": np.moveaxis(array, 1, 0)[:, ::-1], "i": np.moveaxis(array, 2, 0)[:, ::-1]}
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((False, True), repeat=3):
            geometry, stored = turned(canonical, order, flips), turned_array(array, order, flips)
            for anatomical, axis_ijk in (("k", 2), ("j", 1), ("i", 0)):
                axis = "ijk"[order.index(axis_ijk)]
                view = slice_view(geometry, axis)
                shown = view.take(stored)
                if flips[order.index(axis_ijk)]:
                    shown = shown[::-1]
                np.testing.assert_array_equal(shown, expected[anatomical])
                assert view.spacing_mm == slice_spacing_mm(canonical, anatomical)


def test_an_unturned_view_is_what_take_slices_gives_and_writes_through() -> None:
    geometry = VolumeGeometry((3, 4, 5), direction=[[-1, 0, 0], [0, -1, 0], [0, 0, 1]])
    array = np.arange(60).reshape(5, 4, 3)
    np.testing.assert_array_equal(slice_view(geometry, "k", oriented=False).take(array), array)
    turned_view = slice_view(geometry, "k").take(array)
    np.testing.assert_array_equal(turned_view, array[:, ::-1, ::-1])
    turned_view[0, 0, 0] = -7
    assert array[0, -1, -1] == -7


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("flips", [(False, False), (True, False), (False, True), (True, True)])
def test_a_voxels_position_in_a_view_is_where_the_view_shows_it(axis, transpose, flips):
    array = np.arange(3 * 4 * 5).reshape(3, 4, 5)
    view = SliceView(axis, transpose, *flips, (1.0, 1.0))
    for kji in ((0, 0, 0), (2, 1, 3), (1, 3, 4)):
        assert view.take(array)[view.position(kji, array.shape)] == array[kji]
