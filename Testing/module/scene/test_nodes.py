"""Volumes and segmentations of a real MRML scene as the engine reads them; nothing of them may change."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")

import slicer
import slicer.util
import vtk
from hypothesis import given, settings
from hypothesis import strategies as st

from mrml_scene import add_bend, add_segmentation, add_transform, add_volume, segment_array
from ProxyPromptSegmentLib.errors import GeometryError, InputError, SupportError
from ProxyPromptSegmentLib.imaging.segmentations import read_segmentation
from ProxyPromptSegmentModule.scene import nodes
from ProxyPromptSegmentModule.scene.masks import annotated_slices, segmentation_of
from ProxyPromptSegmentModule.scene.terminology import TISSUE, terminology_from_text, terminology_to_text

SHAPE = (5, 6, 7)
TURNED = np.array([[0.0, -1, 0, 3], [1, 0, 0, -4], [0, 0, 1, 5], [0, 0, 0, 1]])
SHEARED = np.array([[1.0, 0.4, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
pytestmark = pytest.mark.usefixtures("scene")


def ramp(dtype=np.int16, shape=SHAPE):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def box():
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:3, 2:5, 1:4] = 1
    return mask


def test_no_two_nodes_get_one_name_also_where_an_ampersand_is_replaced():
    kind, scene = slicer.vtkMRMLTableNode, slicer.mrmlScene
    names = [nodes.add_node(scene, kind, name).GetName() for name in ("A & B", "A + B", "A & B", "plain")]
    assert names == ["A + B", "A + B_1", "A + B_2", "plain"]
    scene.RemoveNode(scene.GetFirstNodeByName("plain"))
    assert nodes.add_node(scene, kind, "plain").GetName() == "plain", "a name that is free again is used"


# --- volumes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_a_volume_of_any_scalar_type_is_copied_as_float32(dtype):
    node = add_volume(ramp(dtype), np.diag([2.0, 3, 4, 1]), "CT")
    volume, notes = nodes.volume_of(node)
    assert volume.array.dtype == np.float32 and volume.name == "CT" and notes == ()
    np.testing.assert_array_equal(volume.array, ramp(dtype))
    volume.array[:] = -1
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(node), ramp(dtype))


def test_ras_becomes_lps_and_the_axes_keep_their_order():
    node = add_volume(ramp(), [[2, 0, 0, 10], [0, 3, 0, 20], [0, 0, 4, 30], [0, 0, 0, 1]])
    geometry = nodes.geometry_of(node)
    assert geometry.size_ijk == (7, 6, 5) and geometry.spacing_mm == (2, 3, 4)
    assert geometry.origin_lps == (-10, -20, 30)
    np.testing.assert_allclose(geometry.index_to_lps([1, 1, 1]), [-12, -23, 34])


def test_color_volumes_lose_their_transparency_only():
    colors = np.random.default_rng(0).integers(0, 255, (*SHAPE, 4)).astype(np.uint8)
    volume, notes = nodes.volume_of(add_volume(colors))
    np.testing.assert_array_equal(volume.array, colors[..., :3])
    assert "transparency" in notes[0]
    volume, notes = nodes.volume_of(add_volume(colors[..., :3]))
    assert volume.is_rgb and notes == ()


def test_several_values_per_voxel_are_refused_with_the_way_out():
    with pytest.raises(InputError, match="5 values per voxel.*Sequences"):
        nodes.volume_of(add_volume(np.zeros((*SHAPE, 5), np.float32)))
    field = add_volume(np.random.default_rng(0).normal(size=(*SHAPE, 3)).astype(np.float32))
    if hasattr(field, "SetVoxelVectorType"):
        field.SetVoxelVectorType(field.VoxelVectorTypeSpatial)
        with pytest.raises(InputError, match="3 values per voxel"):
            nodes.volume_of(field)


@pytest.mark.parametrize(
    ("values", "told"), [(np.full(SHAPE, 7.0), "same intensity"), (np.full(SHAPE, np.nan), "NaN or infinite")]
)
def test_intensities_without_a_window_are_refused(values, told):
    with pytest.raises(InputError, match=told):
        nodes.volume_of(add_volume(values))


def test_a_node_without_voxels_is_refused_in_a_sentence():
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "nothing")
    for wrong in (None, empty, slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")):
        with pytest.raises(InputError, match="no image data|no volume"):
            nodes.volume_of(wrong)


def test_parent_transforms_are_composed_while_they_keep_right_angles():
    outer = add_transform(np.diag([2.0, 1, -1, 1]), "scaled and flipped")
    inner = add_transform(TURNED, "turned", outer)
    node = add_volume(ramp(), np.diag([1.0, 2, 3, 1]), parent=inner)
    geometry, notes = nodes.placed_geometry(node)
    assert notes == ()
    world = np.diag([2.0, 1, -1, 1]) @ TURNED @ np.diag([1.0, 2, 3, 1])
    np.testing.assert_allclose(geometry.affine, np.diag([-1, -1, 1, 1]) @ world, atol=1e-12)
    assert geometry.spacing_mm == pytest.approx((1, 4, 3))


def test_a_transform_that_shears_or_bends_leaves_the_own_geometry_and_a_note():
    for parent, word in ((add_transform(SHEARED), "shears"), (add_bend(), "bends")):
        node = add_volume(ramp(), np.diag([1.0, 2, 3, 1]), "MR", parent)
        geometry, notes = nodes.placed_geometry(node)
        assert geometry.spacing_mm == (1, 2, 3) and word in notes[0] and "'MR'" in notes[0]


def test_a_volume_that_is_sheared_itself_is_refused():
    with pytest.raises(GeometryError, match="right angles"):
        nodes.volume_of(add_volume(ramp(), SHEARED))


# --- places -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["none", "turned", "bent"])
def test_a_place_on_a_slice_finds_that_slice_again(kind):
    parent = {"none": lambda: None, "turned": lambda: add_transform(TURNED), "bent": add_bend}[kind]()
    node = add_volume(ramp(), np.diag([2.0, -3, 4, 1]), parent=parent)
    for axis, count in zip("kji", SHAPE, strict=True):
        for index in range(count):
            assert nodes.slice_index_at(node, axis, nodes.slice_ras(node, axis, index)) == index
    to_world = vtk.vtkGeneralTransform()
    if parent is not None:
        parent.GetTransformToWorld(to_world)
    place = to_world.TransformPoint((2.0 * 1.4, -3.0 * 2.0, 4.0 * 3.4))
    assert nodes.ijk_at(node, place) == (1, 2, 3)


def test_outside_of_the_volume_there_is_no_voxel():
    node = add_volume(ramp())
    assert nodes.ijk_at(node, (-0.6, 0, 0)) is None and nodes.slice_index_at(node, "k", (0, 0, 4.6)) is None
    assert nodes.ijk_at(node, (-0.4, 0, 4.4)) == (0, 0, 4)


# --- segmentations ------------------------------------------------------------------------------------------


def test_segments_come_with_name_color_terminology_and_id():
    volume = add_volume(ramp())
    node = add_segmentation(volume, {"liver": box()})
    segment = node.GetSegmentation().GetSegment("liver")
    segment.SetColor(0.25, 0.5, 0.75)
    found, notes = segmentation_of(node, volume)
    assert notes == () and found.geometry == nodes.geometry_of(volume)
    (one,) = found.segments
    np.testing.assert_array_equal(one.mask, box())
    assert (one.name, one.color_rgb, one.metadata["id"]) == ("liver", (0.25, 0.5, 0.75), "liver")
    assert one.terminology == terminology_from_text(TISSUE)


def test_a_node_and_its_saved_file_are_read_alike(tmp_path):
    volume = add_volume(ramp(), TURNED @ np.diag([1.0, 2, 3, 1]))
    node = add_segmentation(volume, {"one": box(), "two": np.roll(box(), 1, 2)})
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(tmp_path / "x.seg.nrrd"))
    assert storage.WriteData(node)
    file = read_segmentation(tmp_path / "x.seg.nrrd", nodes.geometry_of(volume))
    for here, there in zip(segmentation_of(node, volume)[0].segments, file.segments, strict=True):
        np.testing.assert_array_equal(here.mask, there.mask)
        assert (here.name, here.terminology) == (there.name, there.terminology)


def test_equal_transforms_cancel_out_even_if_they_bend_or_shear():
    for parent in (add_bend(30.0), add_transform(SHEARED)):
        volume = add_volume(ramp(), np.diag([1.0, 2, 3, 1]), parent=parent)
        node = add_segmentation(volume, {"one": box()}, parent=parent)
        found, notes = segmentation_of(node, volume)
        assert notes == ()
        np.testing.assert_array_equal(found.segments[0].mask, box())


@pytest.mark.parametrize("kind", ["shifted", "sheared", "bent"])
def test_another_grid_is_resampled_as_slicer_does_and_a_note_tells_it(kind):
    shifted = add_transform([[1, 0, 0, 0.4], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    parent = {"shifted": lambda: shifted, "sheared": lambda: add_transform(SHEARED), "bent": add_bend}[kind]()
    volume = add_volume(ramp(), np.diag([2.0, 2, 3, 1]))
    node = add_segmentation(volume, {"one": box()})
    node.SetAndObserveTransformNodeID(parent.GetID())
    found, notes = segmentation_of(node, volume)
    assert "another grid" in notes[0]
    np.testing.assert_array_equal(found.segments[0].mask, segment_array(node, "one", volume))
    assert found.segments[0].mask.any()


def test_a_whole_voxel_of_shift_is_copied_not_resampled():
    volume = add_volume(ramp(), np.diag([2.0, 2, 3, 1]))
    node = add_segmentation(volume, {"one": box()})
    node.SetAndObserveTransformNodeID(add_transform([[1, 0, 0, 2], [0, 1, 0, 0], [0, 0, 1, -3], [0, 0, 0, 1]]).GetID())
    found, notes = segmentation_of(node, volume)
    expected = np.zeros(SHAPE, np.uint8)
    expected[0:2, 2:5, 2:5] = 1
    np.testing.assert_array_equal(found.segments[0].mask, expected)
    assert notes == ()


def test_surfaces_are_converted_on_a_copy():
    shape = (14, 16, 18)
    k, j, i = np.indices(shape)
    ball = ((k - 7) ** 2 + (j - 8) ** 2 + (i - 9) ** 2 <= 25).astype(np.uint8)
    volume = add_volume(ramp(shape=shape))
    node = add_segmentation(volume, {"ball": ball})
    assert node.CreateClosedSurfaceRepresentation() and node.SetSourceRepresentationToClosedSurface()
    node.RemoveBinaryLabelmapRepresentation()
    found, _ = segmentation_of(node, volume)
    mask = found.segments[0].mask
    assert 2 * (mask & ball).sum() / (mask.sum() + ball.sum()) > 0.85  # Slicer smoothes surfaces
    assert not node.GetSegmentation().ContainsRepresentation("Binary labelmap")


def test_chosen_segments_come_in_the_chosen_order_and_unknown_ones_are_refused():
    volume = add_volume(ramp())
    node = add_segmentation(volume, {"a": box(), "b": np.roll(box(), 1, 0), "none": np.zeros(SHAPE)})
    assert segmentation_of(node, volume, ["b", "a"])[0].names == ["b", "a"]
    assert annotated_slices(node, volume, "k") == {"a": (1, 2), "b": (2, 3), "none": ()}
    assert annotated_slices(node, volume, "i", ["a"]) == {"a": (1, 2, 3)}
    with pytest.raises(SupportError, match="no segment with the id 'c'"):
        segmentation_of(node, volume, ["c"])
    with pytest.raises(SupportError, match="has no segments"):
        segmentation_of(add_segmentation(volume), volume)
    with pytest.raises(InputError, match="no segmentation"):
        segmentation_of(None, volume)


def test_a_segment_that_nothing_was_drawn_in_is_empty():
    volume = add_volume(ramp())
    node = add_segmentation(volume)
    node.GetSegmentation().AddEmptySegment("new", "new")
    assert not segmentation_of(node, volume)[0].segments[0].mask.any()


def test_reading_changes_nothing_and_tells_nobody():
    parent = add_transform(TURNED)
    volume = add_volume(ramp(), parent=parent)
    node = add_segmentation(volume, {"a": box()})
    surfaces = add_segmentation(volume, {"a": box()})
    surfaces.CreateClosedSurfaceRepresentation()
    surfaces.SetSourceRepresentationToClosedSurface()
    parent.GetTransformToWorld(vtk.vtkGeneralTransform())
    watched = [volume, volume.GetImageData(), parent]
    for one in (node, surfaces):
        watched += [one, one.GetSegmentation(), one.GetSegmentation().GetSegment("a")]
    watched.append(node.GetSegmentation().GetSegment("a").GetRepresentation("Binary labelmap"))
    events, before = [], [one.GetMTime() for one in watched]
    for one in [*watched, slicer.mrmlScene]:
        one.AddObserver("AnyEvent", lambda caller, event: events.append((caller.GetClassName(), event)))
    nodes.volume_of(volume)
    segmentation_of(node, volume)
    segmentation_of(surfaces, volume)
    annotated_slices(node, volume, "j")
    nodes.slice_index_at(volume, "k", nodes.slice_ras(volume, "k", 1))
    assert events == [] and [one.GetMTime() for one in watched] == before


# --- terminology --------------------------------------------------------------------------------------------

word = st.text(alphabet=st.characters(blacklist_characters="~^|", blacklist_categories=("Cs",)), max_size=8)
code = st.tuples(word, word, word).map("^".join)


@settings(max_examples=60, deadline=None)
@given(st.tuples(word, code, code, code, word, code, code).map("~".join))
def test_terminology_survives_both_ways(text):
    entry = terminology_from_text(text)
    assert terminology_to_text(entry) == text
    assert terminology_from_text(terminology_to_text(entry)) == entry


def test_the_terminology_dictionary_is_that_of_slicerio():
    from slicerio.segmentation import terminology_entry_from_string, terminology_entry_to_string

    mass = "list~SCT^1^Altered~SCT^2^Mass~SCT^3^Left~Anatomic~SCT^4^Adrenal~SCT^5^Right"
    for text in (TISSUE, mass):
        assert terminology_from_text(text) == terminology_entry_from_string(text)
        assert terminology_entry_to_string(terminology_from_text(text)) == text


def test_no_terminology_stays_none():
    assert terminology_from_text("") is None and terminology_from_text("damaged") is None
    assert terminology_to_text(None) == ""


def test_values_that_are_no_numbers_are_replaced_outside_the_body_and_said(scene):
    array = np.zeros(SHAPE, np.float32)
    array[1:-1, 1:-1, 1:-1] = 100.0
    array[0, 0, 0] = np.nan
    volume, notes = nodes.volume_of(add_volume(array, name="ADC"))
    assert np.isfinite(volume.array).all() and "'ADC' has NaN or infinite intensity in 1 voxels outside" in notes[-1]
    array[2, 3, 3] = np.nan
    with pytest.raises(InputError, match="inside the body"):
        nodes.volume_of(add_volume(array, name="ADC"))
