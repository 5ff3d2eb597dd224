"""An annotation and an image belong together, as far as references, names, grids and studies tell; else it is said."""

from __future__ import annotations

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")

from mrml_scene import add_segmentation, add_volume
from ProxyPromptSegmentModule.scene.pairing import doubts_about, image_for, image_of

pytestmark = pytest.mark.usefixtures("scene")
SHAPE = (4, 6, 8)
SHIFTED = np.array([[1.0, 0, 0, 40], [0, 1, 0, 3], [0, 0, 2, 5], [0, 0, 0, 1]])


def image(name, grid=None):
    return add_volume(np.zeros(SHAPE, np.int16), grid, name)


def annotation(volume, name, referring=False):
    """An annotation on the grid of a volume; without the reference, as a file gives it."""
    node = add_segmentation(volume, {"organ": np.ones(SHAPE, np.uint8)}, name)
    if not referring:
        node.RemoveNodeReferenceIDs(node.GetReferenceImageGeometryReferenceRole())
    return node


def test_a_reference_is_believed_before_names_and_grids():
    one, two = image("case A"), image("case B")
    node = annotation(one, "case B annotation", referring=True)
    assert image_for(node) is image_of(node) is one
    assert doubts_about(one, node) == []
    assert "refers to the image ‘case A’" in doubts_about(two, node)[0]


def test_a_file_without_a_reference_finds_its_image_by_name():
    one, two = image("p158_001_t2"), image("p158_020_t2", SHIFTED)
    for volume, name in ((one, "p158_001_t2 labels"), (two, "p158_020_t2.seg")):
        node = annotation(volume, name)
        assert image_for(node) is volume and doubts_about(volume, node) == []


def test_of_equal_grids_the_name_decides_and_the_other_image_is_doubted():
    one, two = image("case A"), image("case B")
    node = annotation(two, "case B annotation")
    assert image_for(node) is two
    (doubt,) = [line for line in doubts_about(one, node) if "name" in line]
    assert "‘case B’" in doubt


def test_an_annotation_whose_image_is_not_loaded_is_not_given_to_another_case():
    one = image("case A")
    node = annotation(one, "case B annotation")  # the same grid: all scans of a protocol may have it
    assert image_for(node) is None
    assert "named as different cases" in doubts_about(one, node)[0]


def test_another_grid_is_said():
    one, two = image("head"), image("unlike", SHIFTED)
    node = annotation(two, "structures")
    assert image_for(node) is two
    assert any("another grid" in line for line in doubts_about(one, node))


def test_of_several_equal_images_none_is_guessed():
    one = image("first")
    image("second")
    node = annotation(one, "structures")
    assert image_for(node) is None
    assert "Other images have the same grid: ‘second’." in doubts_about(one, node)


def test_different_studies_are_said_and_the_same_study_decides():
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    one, two = image("first"), image("second")
    node = annotation(one, "structures")
    studies = [hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), f"study {n}") for n in (1, 2)]
    for item, where in ((one, 0), (two, 1), (node, 1)):
        hierarchy.CreateItem(studies[where], item)
    assert image_for(node) is two
    assert any("different studies" in line for line in doubts_about(one, node))


def test_an_annotation_that_reaches_beyond_the_image_is_on_another_grid():
    one = image("head")
    larger = add_volume(np.zeros((9, 6, 8), np.int16), name="longer")
    node = add_segmentation(larger, {"organ": np.ones((9, 6, 8), np.uint8)}, "structures")
    node.RemoveNodeReferenceIDs(node.GetReferenceImageGeometryReferenceRole())
    assert image_for(node) is larger
    assert any("another grid" in line for line in doubts_about(one, node))


@pytest.mark.parametrize(
    ("name", "annotated"),
    [
        ("3: t2_tse_tra", "Segmentation_1"),
        ("Case3 T2", "Case3 segmentation v1"),
        ("ProstateX-0004 t2_tse_tra_320_p2", "ProstateX-0004 Segmentation 1"),
        ("pat12 ADC b800", "pat12 reader 2"),
        ("patient_007_t1", "patient_007_mask_2"),
        ("case 03", "case 3 labels"),
    ],
)
def test_numbers_of_sequences_versions_and_default_names_are_not_those_of_cases(name, annotated):
    one = image(name)
    node = annotation(one, annotated)
    assert image_for(node) is one and doubts_about(one, node) == []


@pytest.mark.parametrize(
    ("name", "annotated"),
    [
        ("case 3", "case 5 labels"),
        ("p158_001_t2", "p158_020_t2.seg"),
        ("Case3 T2", "Case5 segmentation v1"),
        ("patient_007_t1", "patient_008_t1"),
        ("scan 3", "scan 5 seg"),
        ("7", "case 8"),
        ("P5", "P7 labels"),
    ],
)
def test_different_numbers_are_different_cases(name, annotated):
    one = image(name)
    node = annotation(one, annotated)
    assert image_for(node) is None and "named as different cases" in doubts_about(one, node)[0]
