"""Cases hold raw intensities with their truth; splits never divide a patient."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from drawn_data import DataFolder, carotid_sweep, fundus, heart, prostate
from ProxyPromptSegmentLib.data.cases import Case, load_dataset
from ProxyPromptSegmentLib.data.splits import COUNTS, FIXED, PARTS, read_split, split, split_patients, write_split
from ProxyPromptSegmentLib.errors import InputError

WITH_TRAINING = {"promise12": (14, 3, 8), "psfhs": (14, 2, 4), "ccaus_video": (3, 1, 3), "acdc": (15, 3, 7)}


def tiny_case(patient: str, dataset: str = "promise12") -> Case:
    images, masks = np.zeros((2, 4, 4), np.float32), np.zeros((2, 1, 4, 4), np.uint8)
    return Case(dataset=dataset, patient=patient, images=images, masks=masks, objects=("prostate",), spacing_mm=None)


@pytest.mark.parametrize("name", sorted([*COUNTS, *FIXED]))
def test_the_written_split_is_disjoint_and_equals_the_computed_one(name):
    written = read_split(name)
    everyone = [patient for part in PARTS for patient in written[part]]
    assert len(everyone) == len(set(everyone)) > 0
    assert split_patients(everyone, name) == written


@pytest.mark.parametrize("name", sorted(WITH_TRAINING))
def test_the_written_split_has_the_agreed_numbers_of_patients(name):
    assert tuple(len(read_split(name)[part]) for part in PARTS) == WITH_TRAINING[name]


def test_the_split_depends_neither_on_the_order_nor_on_repeats_of_patients():
    patients = [patient for part in PARTS for patient in read_split("acdc")[part]]
    assert split_patients(reversed(patients + patients), "acdc") == split_patients(patients, "acdc")


def test_both_volumes_of_a_patient_fall_into_one_part():
    patients = [patient for part in PARTS for patient in read_split("acdc")[part]]
    parts = split([tiny_case(patient, "acdc") for patient in patients * 2], "acdc")
    held = [{case.patient for case in getattr(parts, part)} for part in PARTS]
    assert not (held[0] & held[1] or held[0] & held[2] or held[1] & held[2])
    assert len(parts.train) == 30


def test_a_split_survives_being_written_and_read(tmp_path):
    patients = {"train": ["a"], "validation": ["b"], "test": ["c"]}
    path = write_split(patients, "toy", tmp_path)
    assert json.loads(path.read_text(encoding="utf-8"))["dataset"] == "toy"
    assert read_split("toy", tmp_path) == patients


def test_a_data_set_without_a_split_or_a_file_is_named():
    with pytest.raises(InputError, match="'toy'"):
        split_patients(["a"], "toy")
    with pytest.raises(InputError, match="toy.json is missing"):
        read_split("toy")


def test_a_case_whose_masks_are_of_another_size_is_refused():
    with pytest.raises(InputError, match=r"\(2, 1, 4, 4\)"):
        Case(
            dataset="promise12",
            patient="a",
            images=np.zeros((2, 4, 4)),
            masks=np.zeros((2, 1, 4, 5)),
            objects=("prostate",),
            spacing_mm=None,
        )
    with pytest.raises(InputError, match="Check"):
        Case(
            dataset="promise12",
            patient="a",
            images=np.zeros((2, 4, 4)),
            masks=np.zeros((2, 2, 4, 4)),
            objects=("prostate",),
            spacing_mm=None,
        )


def test_an_unknown_data_set_and_a_folder_without_a_manifest_are_named(tmp_path):
    with pytest.raises(InputError, match="promise12"):
        load_dataset(tmp_path, "promise13")
    with pytest.raises(InputError, match="manifest.csv is missing"):
        load_dataset(tmp_path, "promise12")


def test_the_written_split_of_promise12_is_that_of_the_cases(shared_data):
    cases = load_dataset(shared_data, "promise12")
    parts = split(cases, "promise12")
    for part in PARTS:
        assert sorted(case.patient for case in getattr(parts, part)) == read_split("promise12")[part]
    assert sum(len(getattr(parts, part)) for part in PARTS) == len(cases) == 25


# --- drawn items in the files of the public ones ---------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path) -> DataFolder:
    return DataFolder(tmp_path / "data")


def test_promise12_cases_are_whole_volumes_as_they_were_stored(folder):
    drawings = {f"case{n:02d}": prostate(n, 6, 48) for n in (4, 0)}
    for name, drawing in drawings.items():
        folder.add_volume("promise12", name, drawing)
    folder.add_volume("acdc", "other", heart(0, 2, 32), spacing=(8, 1.5, 1.25))
    cases = load_dataset(folder.path, "promise12")
    assert [(case.name, case.patient, case.objects) for case in cases] == [
        ("case00", "case00", ("prostate",)),
        ("case04", "case04", ("prostate",)),
    ]
    for case in cases:
        images, labels = drawings[case.name]
        assert case.images.dtype == np.float32 and case.masks.dtype == np.uint8 and case.spacing_mm is None
        np.testing.assert_array_equal(case.images, images.astype(np.int16))
        np.testing.assert_array_equal(case.masks[:, 0], labels)
    assert load_dataset(folder.path, "acdc")[0].spacing_mm == (8, 1.5, 1.25)


def test_every_label_is_a_mask_of_its_own(folder):
    drawing = heart(1, 3, 40)
    folder.add_volume("acdc", "patient001_frame01", drawing, patient="patient001")
    (case,) = load_dataset(folder.path, "acdc")
    assert case.patient == "patient001" and case.objects == ("right ventricle", "myocardium", "left ventricle")
    for n, mask in enumerate(case.masks.transpose(1, 0, 2, 3)):
        assert mask.any()
        np.testing.assert_array_equal(mask, drawing[1] == n + 1)


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_the_optic_disc_contains_its_cup_and_pictures_keep_their_colours(folder, ending):
    picture, labels, _ = fundus(0, 64)
    folder.add_picture("drishti_gs", "drishti_001", (picture, labels), ending=ending)
    (case,) = load_dataset(folder.path, "drishti_gs")
    disc, cup = (case.masks[0, case.objects.index(name)] for name in ("optic disc", "optic cup"))
    assert 0 < cup.sum() < disc.sum() and not np.any(cup & ~disc & 1)
    assert case.images.shape == (1, 64, 64, 3) and case.spacing_mm is None
    apart = np.abs(case.images[0] - picture)
    assert apart.max() == 0 if ending == "png" else apart.mean() < 12


def test_the_frames_of_a_sweep_are_one_case_in_the_order_of_their_names(folder):
    frames = carotid_sweep(0, 5, 24)
    for n in (3, 0, 4, 1, 2):
        folder.add_picture("ccaus_video", f"seq1_{15 * n:05d}", frames[n], patient="seq1")
    folder.add_picture("ccaus_video", "seq0_00000", frames[2], patient="seq0")
    first, second = load_dataset(folder.path, "ccaus_video")
    assert (first.name, second.name, second.patient) == ("seq0", "seq1", "seq1")
    np.testing.assert_array_equal(second.images, np.stack([image for image, _ in frames]))
    np.testing.assert_array_equal(second.masks[:, 0], np.stack([mask for _, mask in frames]))


def test_psfhs_blocks_are_forty_consecutive_names(folder):
    nothing = (np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.uint8))
    folder.add_picture("psfhs", "00000", nothing)
    folder.list_items("psfhs", [f"{n:05d}" for n in range(1, 800)])
    for kind in ("images", "masks"):
        first = folder.path / "psfhs" / kind / "00000.png"
        for n in range(1, 800):
            shutil.copyfile(first, first.with_name(f"{n:05d}.png"))
    cases = load_dataset(folder.path, "psfhs")
    names = [case.name for case in cases]
    assert names == sorted(names) and len(cases) == 800
    assert [case.patient for case in cases[::40]] == [f"block{block:02d}" for block in range(20)]
    assert len({case.patient for case in cases[40:80]}) == 1
    parts = split(cases, "psfhs")
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (560, 80, 160)


def test_the_spacing_of_prostate158_is_slice_row_column(folder):
    folder.add_prostate158("p158_001", 1, (10, 48, 64))
    folder.add_prostate158("p158_020", 2, (8, 48, 64))
    case, other = load_dataset(folder.path, "prostate158")
    assert (case.name, other.name) == ("p158_001", "p158_020")
    assert case.images.shape == (10, 48, 64) and case.masks.shape == (10, 3, 48, 64)
    assert case.spacing_mm[0] > 5 > case.spacing_mm[1] and case.spacing_mm[1] == pytest.approx(case.spacing_mm[2])
    gland, transition, peripheral = case.masks.transpose(1, 0, 2, 3)
    assert transition.any() and peripheral.any() and not (transition & peripheral).any()
    np.testing.assert_array_equal(gland, transition | peripheral)


def test_an_item_of_the_manifest_that_is_gone_is_named(folder):
    folder.add_volume("promise12", "case00", prostate(0, 2, 32))
    folder.list_items("promise12", ["case01"])
    with pytest.raises(InputError, match=r"case01.npz is listed in the manifest but missing"):
        load_dataset(folder.path, "promise12")
