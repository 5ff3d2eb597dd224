"""Whatever the directions, spacings and transforms: what is marked in patient space comes back in its place."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")

import slicer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mrml_scene import add_segmentation, add_transform, add_volume, segment_array
from ProxyPromptSegmentLib.imaging.geometry import slice_view
from ProxyPromptSegmentModule.scene import lattices, nodes
from ProxyPromptSegmentModule.scene.masks import segmentation_of
from ProxyPromptSegmentModule.scene.segment_writer import SegmentNames, SegmentWriter, create_segmentation

pytestmark = pytest.mark.usefixtures("scene")
settings.register_profile(
    "mrml", max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
CASES = settings.get_profile("mrml")

number = st.floats(-1, 1, allow_subnormal=False)
quaternions = st.tuples(number, number, number, number).filter(lambda q: np.linalg.norm(q) > 0.1)
turns = st.tuples(st.permutations([0, 1, 2]), st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3))
sizes = st.tuples(*[st.integers(4, 9)] * 3)
millimetres = st.tuples(*[st.floats(0.3, 6.0)] * 3)
places = st.tuples(*[st.floats(-200, 200)] * 3)


def rotation(quaternion):
    w, x, y, z = np.array(quaternion) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


@st.composite
def rigid(draw):
    """A rotation, or a permutation of the axes with flips; and a shift. As a 4x4 matrix."""
    matrix = np.eye(4)
    if draw(st.booleans()):
        matrix[:3, :3] = rotation(draw(quaternions))
    order, signs = draw(turns)
    matrix[:3, :3] = matrix[:3, :3] @ (np.eye(3)[list(order)] * np.array(signs))
    matrix[:3, 3] = draw(places)
    return matrix


@st.composite
def lattice(draw):
    """An IJK to RAS matrix."""
    return draw(rigid()) @ np.diag([*draw(millimetres), 1.0])


@st.composite
def parents(draw):
    """Transforms, from the outermost inwards; rigid ones, sometimes scaled alike along all axes."""
    chain = draw(st.lists(st.tuples(rigid(), st.sampled_from([1.0, 1.0, 0.5, 2.0])), max_size=2))
    return [matrix @ np.diag([scale, scale, scale, 1.0]) for matrix, scale in chain]


def hang(chain):
    """Transform nodes of a chain; the innermost, or None."""
    node = None
    for matrix in chain:
        node = add_transform(matrix, parent=node)
    return node


def product(chain):
    result = np.eye(4)
    for matrix in chain:
        result = result @ matrix
    return result


def voxels_ras(matrix, shape):
    """World RAS of every voxel of a lattice, ``(K, J, I, 3)``."""
    kji = np.moveaxis(np.indices(shape), 0, -1)
    return kji[..., ::-1] @ matrix[:3, :3].T + matrix[:3, 3]


def new_scene_nodes():
    """Nodes of the example before are not those of this one."""
    slicer.mrmlScene.Clear(False)


@CASES
@given(lattice(), sizes, parents(), st.sampled_from("kji"), st.integers(0, 10**6))
def test_slices_written_anywhere_are_read_back_exactly(matrix, shape, chain, axis, seed):
    new_scene_nodes()
    rng = np.random.default_rng(seed)
    volume = add_volume(rng.normal(size=shape).astype(np.float32), matrix, parent=hang(chain))
    masks = (rng.random((2, *shape)) > 0.5).astype(np.uint8)
    view = slice_view(nodes.geometry_of(volume), axis)
    node = create_segmentation(volume, "seg")
    writer = SegmentWriter(node, volume, view, SegmentNames(objects=("a", "b")))
    turned = np.stack([view.take(mask) for mask in masks], axis=1)
    writer.write_many([(n, turned[n]) for n in rng.permutation(len(turned))])
    for segment_id, mask in zip(writer.segment_ids.values(), masks, strict=True):
        np.testing.assert_array_equal(segment_array(node, segment_id, volume), mask)
    found, notes = segmentation_of(node, volume)
    assert notes == ()
    np.testing.assert_array_equal(np.stack([one.mask for one in found.segments]), masks)


@CASES
@given(lattice(), sizes, rigid(), turns, st.tuples(*[st.integers(-2, 3)] * 3), st.integers(0, 10**6))
def test_voxels_that_coincide_in_the_world_are_moved_not_resampled(matrix, shape, parent, turn, offset, seed):
    """The segmentation is drawn on the same lattice with turned axes and another corner, under another transform."""
    new_scene_nodes()
    order, signs = turn
    relation = np.eye(4)  # from the voxels of the drawing to those of the volume
    relation[:3, :3] = np.eye(3)[list(order)] * np.array(signs)
    relation[:3, 3] = offset
    rng = np.random.default_rng(seed)
    volume = add_volume(rng.normal(size=shape).astype(np.float32), matrix)
    drawn_shape = (5, 6, 7)
    mask = (rng.random(drawn_shape) > 0.5).astype(np.uint8)
    transform = add_transform(parent)
    paper = add_volume(np.zeros(drawn_shape, np.int16), np.linalg.inv(parent) @ matrix @ relation, parent=transform)
    node = add_segmentation(paper, {"a": mask}, parent=transform)

    expected = np.zeros(shape, np.uint8)
    for kji in np.argwhere(mask):
        i, j, k = np.round(relation[:3, :3] @ kji[::-1] + relation[:3, 3]).astype(int)
        if 0 <= k < shape[0] and 0 <= j < shape[1] and 0 <= i < shape[2]:
            expected[k, j, i] = 1
    found, notes = segmentation_of(node, volume)
    assert notes == ()
    np.testing.assert_array_equal(found.segments[0].mask, expected)

    view = slice_view(nodes.geometry_of(volume), "k")
    writer = SegmentWriter(node, volume, view, SegmentNames(objects=("a",)), segment_ids={"a": "a"})
    new = (rng.random(shape) > 0.5).astype(np.uint8)
    index = int(rng.integers(shape[0]))
    writer.write(index, view.take(new)[index][None])
    expected[index] = new[index]
    found, _ = segmentation_of(node, volume)
    np.testing.assert_array_equal(found.segments[0].mask, expected)


@CASES
@given(lattice(), lattice(), parents(), parents(), st.integers(0, 10**6))
def test_an_ellipsoid_in_patient_space_comes_back_within_a_voxel(matrix, other, above, beside, seed):
    """Marked on one lattice under some transforms, read on another under others."""
    new_scene_nodes()
    rng = np.random.default_rng(seed)
    shape, drawn_shape = (8, 9, 10), (14, 13, 12)
    world, drawn_world = product(above) @ matrix, product(beside) @ other
    # the second lattice is laid over the first's middle, so that they overlap
    middle = (world @ [4.5, 4, 3.5, 1])[:3]
    own_middle = (drawn_world @ [5.5, 6, 6.5, 1])[:3]
    shift = np.eye(4)
    shift[:3, 3] = middle - own_middle
    drawn_world = shift @ drawn_world
    beside = [shift, *beside]

    spacing = np.linalg.norm(drawn_world[:3, :3], axis=0)
    axes, radii = rotation(rng.normal(size=4)), rng.uniform(1.2, 2.0, 3) * np.linalg.norm(spacing)

    def level(places):
        return np.linalg.norm((places - middle) @ axes / radii, axis=-1)

    drawn_places = voxels_ras(drawn_world, drawn_shape)
    mask = (level(drawn_places) <= 1).astype(np.uint8)
    volume = add_volume(rng.normal(size=shape).astype(np.float32), matrix, parent=hang(above))
    below = hang(beside)
    paper = add_volume(np.zeros(drawn_shape, np.int16), other, parent=below)
    node = add_segmentation(paper, {"a": mask}, parent=below)

    found = segmentation_of(node, volume)[0].segments[0].mask.astype(bool)
    places = voxels_ras(world, shape)
    # half a voxel of the drawing along each axis is the most that "nearest" may be off
    reach = 0.5 * np.linalg.norm(spacing) * 1.01 / radii.min()
    inside_drawing = np.linalg.inv(drawn_world) @ np.append(places.reshape(-1, 3), np.ones((places.size // 3, 1)), 1).T
    limits = np.array(drawn_shape[::-1]) - 1
    drawn_on = ((inside_drawing[:3].T >= 0) & (limits >= inside_drawing[:3].T)).all(axis=1).reshape(shape)
    assert found[drawn_on & (level(places) < 1 - reach)].all()
    assert not found[level(places) > 1 + reach].any()


@CASES
@given(lattice(), sizes, parents(), st.integers(0, 10**6))
def test_places_in_the_world_find_their_voxels(matrix, shape, chain, seed):
    new_scene_nodes()
    rng = np.random.default_rng(seed)
    volume = add_volume(rng.normal(size=shape).astype(np.float32), matrix, parent=hang(chain))
    world = product(chain) @ matrix
    np.testing.assert_allclose(nodes.geometry_of(volume).affine, np.diag([-1, -1, 1, 1]) @ world, atol=1e-6)
    ijk = np.array([rng.integers(n) for n in shape[::-1]])
    place = (world @ np.append(ijk + rng.uniform(-0.45, 0.45, 3), 1.0))[:3]
    assert nodes.ijk_at(volume, place) == tuple(ijk)
    for axis, index in zip("kji", ijk[::-1], strict=True):
        assert nodes.slice_index_at(volume, axis, place) == index
        centre = np.linalg.inv(world) @ np.append(nodes.slice_ras(volume, axis, int(index)), 1.0)
        expected = (np.array(shape[::-1]) - 1) / 2
        expected["ijk".index(axis)] = index
        np.testing.assert_allclose(centre[:3], expected, atol=1e-6)


def test_header_noise_of_float32_does_not_make_another_grid():
    matrix = np.diag([0.7, 0.7, 3.3, 1.0]) @ np.eye(4)
    matrix[:3, 3] = (-183.123456789, 91.987654321, -1234.5678901)
    volume = add_volume(np.arange(6 * 512 * 4.0).reshape(4, 6, 512), matrix)
    rounded = add_volume(np.zeros((4, 6, 512), np.int16), matrix.astype(np.float32))
    mask = (np.random.default_rng(0).random((4, 6, 512)) > 0.5).astype(np.uint8)
    found, notes = segmentation_of(add_segmentation(rounded, {"a": mask}), volume)
    assert notes == ()
    np.testing.assert_array_equal(found.segments[0].mask, mask)


def test_the_lattice_of_a_plane_of_voxels_is_related_too():
    flat = lattices.relate(np.eye(4), (0, 4, 0, 3, 0, 0), np.eye(4), (1, 4, 5))
    assert flat is not None and flat.start == (0, 0, 0)
