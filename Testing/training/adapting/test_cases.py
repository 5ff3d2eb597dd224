"""What cannot be learned from is named before any training."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from adapt_cases import SIDE, checked, picture, write_case, write_cases
from ProxyPromptSegmentLib.errors import SupportError
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation, write_segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume, write_volume
from ProxyPromptSegmentLib.remedies import RemedyKind
from ProxyPromptSegmentLib.support.case_files import CaseFiles
from ProxyPromptSegmentLib.training.adapting.cases import AnnotatedCase, check_cases, read_cases


def reasons(folder, objects=None):
    return {one.name: one.reason for one in checked(folder, objects).unusable}


def test_geometry_that_does_not_match_is_named(tmp_path):
    write_cases(tmp_path, 3)
    volume, segmentation = picture(0)
    moved = VolumeGeometry(volume.geometry.size_ijk, (1.0, 1.0, 2.0), (0.0, 0.0, 0.0))
    write_segmentation(tmp_path / "patient2.seg.nrrd", Segmentation(segmentation.segments, moved))
    assert "patient2" in reasons(tmp_path) and len(checked(tmp_path).cases) == 2


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    write_cases(tmp_path, 3)
    (tmp_path / "patient1.nrrd").write_bytes(b"not an image")
    (tmp_path / "patient0.seg.nrrd").write_bytes(b"")
    with pytest.raises(SupportError, match=r"Not usable: patient0 .*; patient1 \(") as caught:
        checked(tmp_path)
    assert caught.value.remedy.kind == RemedyKind.ALLOW_SINGLE


def test_empty_masks_are_named(tmp_path):
    write_cases(tmp_path, 3)
    _, segmentation = picture(0)
    empty = [Segment("gland", np.zeros_like(segmentation.segments[0].mask))]
    write_segmentation(tmp_path / "patient2.seg.nrrd", Segmentation(empty, segmentation.geometry))
    assert "patient2" in reasons(tmp_path, ["gland"])
    for name in ("patient0", "patient1"):
        shutil.copy(tmp_path / "patient2.seg.nrrd", tmp_path / f"{name}.seg.nrrd")
    with pytest.raises(SupportError, match="no case has the object 'gland'"):
        checked(tmp_path, ["gland"])


def test_a_missing_object_is_named_and_one_in_a_single_case_is_refused(tmp_path):
    write_cases(tmp_path, 2, ("gland", "stone"))
    write_case(tmp_path, "patient2", 2, ("gland",))
    assert "no object named 'stone'" in reasons(tmp_path, ["gland", "stone"])["patient2"]
    assert checked(tmp_path).objects == ("gland",)  # what all have
    write_case(tmp_path, "patient1", 1, ("gland",))
    with pytest.raises(SupportError, match="'stone' is annotated in one case only, patient0"):
        checked(tmp_path, ["gland", "stone"])
    with pytest.raises(SupportError, match="no case has the object 'cyst'"):
        checked(tmp_path, ["cyst"])


@pytest.mark.parametrize("names", [["gland", "GLAND"], ["both=gland", "both=gland"]])
def test_an_object_that_is_given_twice_is_refused(tmp_path, names):
    with pytest.raises(SupportError, match="the object '(gland|both)' is given twice; give each object once"):
        checked(write_cases(tmp_path, 2), names)


def test_without_a_name_the_cases_are_named_that_have_other_objects_or_none(tmp_path):
    write_cases(tmp_path, 8)
    write_case(tmp_path, "other", 20, ("stone",))
    with pytest.raises(SupportError, match="no object is annotated in every case") as caught:
        checked(tmp_path)
    assert "('stone': other; 'gland': patient0, patient1, patient2, patient3, patient4, patient5 and 2 more)" in str(
        caught.value
    )
    _, segmentation = picture(0)
    empty = [Segment("gland", np.zeros_like(segmentation.segments[0].mask))]
    write_segmentation(tmp_path / "other.seg.nrrd", Segmentation(empty, segmentation.geometry))
    with pytest.raises(SupportError, match="nothing: other; 'gland': patient0"):
        checked(tmp_path)


def test_the_same_image_under_two_names_is_named(tmp_path):
    write_cases(tmp_path, 3)
    shutil.copy(tmp_path / "patient0.nrrd", tmp_path / "another.nrrd")
    shutil.copy(tmp_path / "patient1.seg.nrrd", tmp_path / "another.seg.nrrd")
    assert reasons(tmp_path) == {"patient0": "it has the same image as another: one patient, two names"}


def test_an_image_that_differs_in_the_sign_of_zero_alone_is_the_same_image(tmp_path):
    write_cases(tmp_path, 2)
    files = [CaseFiles(tmp_path / f"patient{n}.nrrd", tmp_path / f"patient{n}.seg.nrrd") for n in (0, 1, 0)]
    cases, _ = read_cases(files)
    voxels = cases[0].case.volume.array
    voxels[0, 0, :2] = 0.0
    cases[2].case.volume.array[:] = voxels
    cases[2].case.volume.array[0, 0, 0] = -0.0  # in the scene; the library stores whole numbers, without the sign
    found = check_cases(cases)
    assert len(found.cases) == 2 and "same image" in found.unusable[0].reason


def test_a_single_patient_is_refused_unless_allowed(tmp_path):
    write_cases(tmp_path, 1)
    with pytest.raises(SupportError, match="1 patient is left, .* at least two") as caught:
        checked(tmp_path)
    assert caught.value.remedy.kind == RemedyKind.ALLOW_SINGLE
    assert checked(tmp_path, allow_single=True).patients == 1


def test_cases_of_one_patient_stay_together(tmp_path):
    write_cases(tmp_path, 3)
    files = [
        CaseFiles(tmp_path / f"patient{n}.nrrd", tmp_path / f"patient{n}.seg.nrrd", p) for n, p in enumerate("aab")
    ]
    cases, _ = read_cases(files)
    found = check_cases(cases)
    assert [case.patient for case in found.cases] == [0, 0, 1] and found.patients == 2
    with pytest.raises(SupportError, match="1 patient is left, .* cases of one folder, .* are of one patient"):
        check_cases([AnnotatedCase(one.name, one.case, "a") for one in cases])


def test_a_case_in_another_plane_is_named(tmp_path):
    write_cases(tmp_path, 2)
    volume, segmentation = picture(7)
    turned = VolumeGeometry(
        volume.geometry.size_ijk, (1.0, 1.0, 3.0), (0.0, 0.0, 0.0), np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], float)
    )
    write_volume(tmp_path / "turned.nrrd", Volume(volume.array, turned))
    write_segmentation(tmp_path / "turned.seg.nrrd", Segmentation(segmentation.segments, turned))
    assert reasons(tmp_path) == {"turned": "its slices are coronal, those of most cases axial"}


def test_the_digest_follows_images_and_masks_and_not_names(tmp_path):
    one = checked(write_cases(tmp_path / "one", 2)).digest()
    other = tmp_path / "other"
    other.mkdir()
    for number in range(2):
        for ending in ("nrrd", "seg.nrrd"):
            shutil.copy(tmp_path / "one" / f"patient{number}.{ending}", other / f"x{number}.{ending}")
    assert checked(other).digest() == one
    read, _ = read_cases([CaseFiles(other / f"x{n}.nrrd", other / f"x{n}.seg.nrrd") for n in range(2)])
    assert check_cases(read).digest() == one
    read[0] = replace(read[0], case=replace(read[0].case, slices=(2,)))  # as a case of the library may say
    assert check_cases(read).digest() != one
    volume, segmentation = picture(1)
    coarse = replace(volume.geometry, spacing_mm=tuple(2 * mm for mm in volume.geometry.spacing_mm))
    write_volume(other / "x1.nrrd", replace(volume, geometry=coarse))
    write_segmentation(other / "x1.seg.nrrd", replace(segmentation, geometry=coarse))
    assert checked(other).digest() != one, "distances in mm would be those of the other spacing"
    write_volume(other / "x1.nrrd", volume)
    segmentation.segments[0].mask[2, SIDE // 2, SIDE // 2] ^= 1
    write_segmentation(other / "x1.seg.nrrd", segmentation)
    assert checked(other).digest() != one


def test_what_two_names_of_one_patient_have_is_of_one_patient(tmp_path):
    """An image under two names says that the other images of both are of the same patient, too."""
    write_cases(tmp_path, 4)
    places, people = (0, 1, 1, 2, 3), ("anna", "anna", "p7", "p7", "")
    files = [
        CaseFiles(tmp_path / f"patient{n}.nrrd", tmp_path / f"patient{n}.seg.nrrd", who)
        for n, who in zip(places, people, strict=True)
    ]
    found = check_cases(read_cases(files)[0])
    assert [(case.name, case.patient) for case in found.cases] == [
        ("patient0", 0),
        ("patient1", 0),
        ("patient2", 0),
        ("patient3", 1),
    ]
    # Also where the first of the two has no other image.
    alone = [replace(files[2], patient=""), replace(files[2], patient="p7"), files[3], files[4]]
    assert [case.patient for case in check_cases(read_cases(alone)[0]).cases] == [0, 0, 1]


def test_cases_of_two_folders_with_one_name_are_told_apart(tmp_path):
    cases = [one for where, seed in (("a", 0), ("b", 1)) for one in read_cases(_only(tmp_path / where, seed))[0]]
    again = AnnotatedCase("case (2)", cases[0].case)
    cases.append(AnnotatedCase("case (2)", read_cases(_only(tmp_path / "c", 2))[0][0].case))
    found = check_cases([*cases, again])
    assert [case.name for case in found.cases] == ["case", "case (3)", "case (2)"] and found.patients == 3
    assert found.unusable[0].name == "case (2) (2)"


def _only(folder, seed):
    write_case(folder, "case", seed)
    return [CaseFiles(folder / "case.nrrd", folder / "case.seg.nrrd")]
