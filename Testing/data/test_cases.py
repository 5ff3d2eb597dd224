"""Cases hold raw intensities with their truth; splits never divide a patient."""

from __future__ import annotations

import json

import numpy as np
import pytest

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


def test_promise12_cases_are_whole_volumes_as_they_were_stored(shared_data):
    for case in load_dataset(shared_data, "promise12"):
        assert case.images.shape == (32, 128, 128) and case.images.dtype == np.float32
        assert case.masks.shape == (32, 1, 128, 128) and case.masks.dtype == np.uint8
        assert case.spacing_mm is None and case.masks.any() and case.images.max() > 255


def test_the_optic_disc_contains_its_cup(shared_data):
    case = load_dataset(shared_data, "drishti_gs")[0]
    disc, cup = (case.masks[0, case.objects.index(name)] for name in ("optic disc", "optic cup"))
    assert case.images.shape == (*case.masks.shape[:1], *case.masks.shape[2:], 3)
    assert 0 < cup.sum() < disc.sum() and not np.any(cup & ~disc & 1)


def test_psfhs_blocks_are_forty_consecutive_names(shared_data):
    cases = load_dataset(shared_data, "psfhs")
    names = [case.name for case in cases]
    assert names == sorted(names) and len(cases) == 800
    assert [case.patient for case in cases[::40]] == [f"block{block:02d}" for block in range(20)]
    assert len({case.patient for case in cases[40:80]}) == 1
    parts = split(cases, "psfhs")
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (560, 80, 160)


def test_the_spacing_of_prostate158_is_slice_row_column(shared_data):
    case = load_dataset(shared_data, "prostate158")[0]
    assert case.spacing_mm[0] > 2.5 and case.spacing_mm[1] == pytest.approx(case.spacing_mm[2])
    gland, transition, peripheral = case.masks.transpose(1, 0, 2, 3)
    np.testing.assert_array_equal(gland, transition | peripheral)
