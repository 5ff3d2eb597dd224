"""The small sets: objects as the manifest names them, parts that divide no subject."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from broad_cases import BroadFolder, spots
from ProxyPromptSegmentLib.data.small_sets import load_small_set, parse_labels, small_set_names
from ProxyPromptSegmentLib.data.splits import small_set_part
from ProxyPromptSegmentLib.errors import InputError


def held_back(dataset: str, patient: str) -> bool:
    return int(hashlib.sha256(f"{dataset}/{patient}".encode()).hexdigest(), 16) % 5 == 0


def test_a_fifth_of_the_training_subjects_is_for_validation_and_nobody_else():
    patients = [f"p{n}" for n in range(500)]
    held = [patient for patient in patients if small_set_part("toy", patient, "train") == "validation"]
    assert held == [patient for patient in patients if held_back("toy", patient)] and 75 < len(held) < 125
    assert held != [patient for patient in patients if small_set_part("other", patient, "train") == "validation"]
    assert {small_set_part("toy", patient, "test") for patient in patients} == {"test"}
    assert {small_set_part("toy", patient, "unseen") for patient in patients} == {"unseen"}
    with pytest.raises(InputError, match="'traine'; a small set has train, test and unseen"):
        small_set_part("toy", "p1", "traine")


def test_labels_are_read_as_ids_and_names():
    labels = parse_labels("2 kidney tumour; 1 kidney")
    assert list(labels.items()) == [(1, "kidney"), (2, "kidney tumour")], "in the order of the ids"
    assert parse_labels("1 right lung (image left)") == {1: "right lung (image left)"}
    for wrong in ("kidney", "1 kidney; 1 liver", "1 kidney; 2 kidney", "1"):
        with pytest.raises(InputError, match="are not understood"):
            parse_labels(wrong)


@pytest.fixture
def folder(tmp_path) -> BroadFolder:
    """A set in colour of two objects with a subject of two images, and a grey one that nobody may train on."""
    made = BroadFolder(tmp_path / "data")
    for n in range(6):
        patient = "twice" if n < 2 else f"p{n}"
        made.add_picture("toy", f"i{n}", spots((200, 120), n, colour=True), "1 cell; 2 core", "train", patient)
    made.add_picture("toy", "i6", spots((0, 120), 6, colour=True), "1 cell; 2 core", "test")
    made.add_picture("kept", "k0", spots((200,)), "1 spleen", "unseen")
    made.add_picture("psfhs", "first", spots((200, 120)))
    return made


def test_a_set_is_read_with_its_objects_colour_and_parts(folder):
    assert small_set_names(folder.path) == ["kept", "toy"], "the first sets have neither labels nor a split"
    toy = load_small_set(folder.path, "toy")
    assert toy.objects == ("cell", "core") and [case.name for case in toy.parts["test"]] == ["i6"]
    everyone = [case for cases in toy.parts.values() for case in cases]
    assert sorted(case.name for case in everyone) == [f"i{n}" for n in range(7)]
    assert all((case in toy.parts["validation"]) == held_back("toy", case.patient) for case in everyone[:-1])
    assert [case.patient for case in sorted(everyone, key=lambda case: case.name)[:3]] == ["twice", "twice", "p2"]
    case = everyone[0]
    assert case.images.shape == (1, 64, 64, 3) and case.masks.shape == (1, 2, 64, 64)
    assert case.images[0, 25, 10].tolist() == [200] * 3 and case.masks[0, :, 25, 10].tolist() == [1, 0]
    assert case.masks[0, :, 25, 30].tolist() == [0, 1] and case.masks.sum() == 2 * 16 * 16
    kept = load_small_set(folder.path, "kept").parts
    assert [len(kept[part]) for part in ("train", "validation", "test", "unseen")] == [0, 0, 0, 1]
    assert kept["unseen"][0].images.shape == (1, 64, 64)


def test_an_unknown_set_and_a_missing_file_are_named(folder):
    with pytest.raises(InputError, match="no small set 'psfhs'.*there are: kept, toy"):
        load_small_set(folder.path, "psfhs")
    (folder.path / "kept" / "images" / "k0.png").unlink()
    with pytest.raises(InputError, match="k0.* is listed in the manifest but missing"):
        load_small_set(folder.path, "kept")
    with pytest.raises(InputError, match="manifest.csv is missing"):
        small_set_names(folder.path / "toy")


def test_the_public_small_sets_are_divided_by_subject(shared_data):
    names = small_set_names(shared_data)
    if not names:
        pytest.skip("the folder of the public data sets has no small sets")
    for name in [*names[::12], *(n for n in names if n == "msd_spleen_ct")]:
        small = load_small_set(shared_data, name)
        held = {part: {case.patient for case in cases} for part, cases in small.parts.items()}
        assert sum(map(len, held.values())) == len(set.union(*held.values())), name
        assert all(np.isfinite(case.images).all() for cases in small.parts.values() for case in cases)
        assert any(case.masks.any() for cases in small.parts.values() for case in cases)
    if "msd_spleen_ct" in names:
        assert [part for part, patients in held.items() if patients] == ["unseen"]
