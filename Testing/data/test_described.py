"""Data sets that a file describes: anybody's folders are read, and what is wrong with them is a sentence."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("SimpleITK")

from PIL import Image

from ProxyPromptSegmentLib.data.described import FILE, described_names, load_described
from ProxyPromptSegmentLib.data.parts import load_parts
from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation, write_segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume, write_volume

GRID = VolumeGeometry((12, 10, 4), (0.5, 0.5, 3.0), (0.0, 0.0, 0.0), np.eye(3))


def picture(folder, name, seed=0, marked=True, colour=True, values=(1, 2)):
    """A photograph, and its mask with two label values."""
    rng = np.random.default_rng(seed)
    for sub in ("images", "masks"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 255, (20, 24, 3) if colour else (20, 24), np.uint8)).save(
        folder / "images" / f"{name}.jpg"
    )
    mask = np.zeros((20, 24), np.uint8)
    if marked:
        mask[4:12, 4:12], mask[6:9, 6:9] = values
    Image.fromarray(mask).save(folder / "masks" / f"{name}.png")


def volume(folder, name, seed=0, geometry=GRID):
    """A volume that grows brighter from slice to slice, with a named segment and another."""
    (folder / "scans").mkdir(parents=True, exist_ok=True)
    shape = geometry.shape_kji
    array = np.random.default_rng(seed).normal(0, 1, shape) + 100 * np.arange(shape[0])[:, None, None]
    write_volume(folder / "scans" / f"{name}.nrrd", Volume(array.astype(np.float32), geometry, name))
    masks = np.zeros((2, *shape), np.uint8)
    masks[0, 1:3, 2:6, 2:6], masks[1, 1, 7:9, 7:9] = 1, 1
    segments = [Segment("Prostate", masks[0]), Segment("stone", masks[1])]
    write_segmentation(folder / "scans" / f"{name}_seg.seg.nrrd", Segmentation(segments, geometry))


def describe(folder, **said):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text(json.dumps(said), encoding="utf-8")


@pytest.fixture
def photographs(tmp_path):
    for number, name in enumerate(("P1_a", "P1_b", "P2_a", "P3_a", "P4_a")):
        picture(tmp_path / "eyes", name, number)
    describe(
        tmp_path / "eyes", objects={"disc": [1, 2], "cup": 2}, patient="(P[0-9]+)_", validation=["P3"], test=["P4"]
    )
    return tmp_path


def test_folders_label_values_patients_and_parts_are_read_as_described(photographs):
    assert described_names(photographs) == ["eyes"]
    parts = load_parts(photographs, "eyes")
    assert [case.patient for case in parts.train] == ["P1", "P1", "P2"]
    assert [[case.name for case in getattr(parts, part)] for part in ("validation", "test")] == [["P3_a"], ["P4_a"]]
    case = parts.train[0]
    assert case.objects == ("disc", "cup") and case.images.shape == (1, 20, 24, 3)
    assert case.masks.sum(axis=(0, 2, 3)).tolist() == [64, 9] and case.spacing_mm is None


def test_the_data_folder_itself_may_be_a_set_and_several_sets_may_lie_in_it(photographs):
    picture(photographs, "x", 9, colour=False)
    picture(photographs, "y", 10, colour=False)
    describe(photographs, name="mine", objects={"disc": 1})
    assert described_names(photographs) == ["eyes", "mine"]
    assert [case.images.shape for case in load_described(photographs, "mine").train] == [(1, 20, 24)] * 2


def test_volumes_are_cut_as_in_use_with_their_spacing_and_segments_by_name(tmp_path):
    flipped = VolumeGeometry(GRID.size_ijk, GRID.spacing_mm, (0.0, 0.0, 9.0), np.diag([1.0, 1.0, -1.0]))
    for number, (name, geometry) in enumerate((("a", GRID), ("b", flipped))):
        volume(tmp_path / "mr", name, number, geometry)
    describe(tmp_path / "mr", images="scans", masks="scans", mask_suffix="_seg", objects={"gland": "prostate"})
    one, other = load_parts(tmp_path, "mr").train
    assert one.images.shape == (4, 10, 12) and one.spacing_mm == (3.0, 0.5, 0.5)
    assert one.masks.any((1, 2, 3)).tolist() == [False, True, True, False] and one.objects == ("gland",)
    assert one.masks.sum() == 2 * 16
    # Slices lead the same way through the body, however the file stores them.
    assert one.images[0].mean() < one.images[-1].mean() and other.images[0].mean() > other.images[-1].mean()


def test_segments_keep_their_names_if_no_objects_are_described(tmp_path):
    volume(tmp_path, "a")
    volume(tmp_path, "b", 1)
    describe(tmp_path, images="scans", masks="scans", mask_suffix="_seg", name="mr")
    assert load_parts(tmp_path, "mr").train[1].objects == ("Prostate", "stone")


def test_cases_may_be_listed_and_an_image_without_the_object_has_an_empty_mask(tmp_path):
    picture(tmp_path, "one")
    picture(tmp_path, "two", 1, marked=False)
    listed = [
        {"image": "images/one.jpg", "mask": "masks/one.png", "patient": "A"},
        {"image": "images/two.jpg", "mask": "masks/two.png", "patient": "B", "part": "validation"},
    ]
    describe(tmp_path, name="listed", objects={"disc": 1}, cases=listed)
    parts = load_described(tmp_path, "listed")
    assert [case.patient for case in parts.train] == ["A"]
    assert not parts.validation[0].masks.any()


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"colour": 1}, "dataset.json is invalid: unknown keys: colour; known are axis"),
        ({"objects": {"disc": []}}, "objects.disc is empty; it must have a label value"),
        ({"objects": {"disc": [1, "cup"]}}, r'objects.disc\[1\] is "cup"; it must be a whole number'),
        ({"objects": {"disc": 1.5}}, r"objects.disc\[0\] is 1.5; it must be a whole number"),
        ({"objects": {"disc": 7}}, r"shows none of the objects disc; it has label 1, label 2. Correct 'objects'"),
        ({"images": "pictures"}, "the folder .*pictures of the images does not exist; correct 'images'"),
        ({"validation": ["P9"]}, "validation names P9, but the patients are P1_a, P1_b, P2_a"),
        ({"validation": ["P1_a"], "test": ["P1_a"]}, "P1_a is in validation and in test"),
        ({"patient": "P[0-9]+"}, "it must have a group in brackets"),
        ({"patient": "("}, "is invalid"),
        ({"patient": "(X)_"}, "the name P1_a does not fit the expression 'patient' .*; correct one of them"),
        ({"cases": [{"image": "images/P1_a.jpg", "mask": "gone.png"}]}, "gone.png does not exist"),
        ({"cases": [{"image": "images/P1_a.jpg"}]}, r"cases\[0\].mask is missing"),
    ],
)
def test_a_bad_description_is_a_sentence(photographs, said, sentence):
    describe(photographs / "eyes", **{"objects": {"disc": [1, 2]}, **said})
    with pytest.raises(InputError, match=sentence):
        load_described(photographs, "eyes")


def test_files_that_contradict_the_description_are_named(photographs, tmp_path):
    folder = photographs / "eyes"
    (folder / FILE).write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"dataset.json is not valid JSON"):
        load_parts(photographs, "eyes")
    describe(folder, objects={"disc": [1, 2]})
    picture(folder, "P5_a", 0)  # the same photograph as P1_a
    with pytest.raises(InputError, match="P1_a.jpg and .*P5_a.jpg are the same image, of the patients P1_a and P5_a"):
        load_described(photographs, "eyes")
    (folder / "masks" / "P5_a.png").unlink()
    with pytest.raises(InputError, match="1 of 6 images have no mask of their name in masks .first P5_a."):
        load_described(photographs, "eyes")
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(folder / "masks" / "P5_a.png")
    picture(folder, "P5_a", 5)
    Image.fromarray(np.ones((5, 5), np.uint8)).save(folder / "masks" / "P5_a.png")
    with pytest.raises(InputError, match="P5_a.png does not fit its image images/P5_a.jpg: .* 5x5 pixels"):
        load_described(photographs, "eyes")
    listed = [
        {"image": f"images/P1_{x}.jpg", "mask": f"masks/P1_{x}.png", "patient": "P1", "part": part}
        for x, part in (("a", "train"), ("b", "test"))
    ]
    describe(folder, objects={"disc": [1, 2]}, cases=listed)
    with pytest.raises(InputError, match="the patient P1 is in train and in test"):
        load_described(photographs, "eyes")
    describe(photographs / "again", name="eyes")
    with pytest.raises(InputError, match="describe data sets of the same name 'eyes'; rename one"):
        load_parts(photographs, "eyes")


DECATHLON = {"name": "PROSTATE", "modality": {"0": "T2"}, "labels": {"0": "background"}, "numTraining": 1, "test": []}
NNUNET = {"channel_names": {"0": "T2"}, "labels": {"background": 0}, "numTraining": 1, "file_ending": ".nii.gz"}


def test_files_of_the_same_name_by_other_programs_are_no_descriptions(photographs):
    for name, said in (("decathlon", DECATHLON), ("nnunet", NNUNET), ("strange", {"version": 3})):
        describe(photographs / name, **said)
    (photographs / "eyes" / "nnunet").mkdir()
    (photographs / "list").mkdir()
    (photographs / "list" / FILE).write_text("[1]", encoding="utf-8")
    assert described_names(photographs) == ["eyes"]
    assert len(load_parts(photographs, "eyes").train) == 3
    with pytest.raises(InputError, match="no data set 'nnunet' .* Other programs wrote decathlon/dataset.json"):
        load_parts(photographs, "nnunet")


def test_an_unusable_description_is_an_error_for_its_own_set_alone(photographs):
    describe(photographs / "skin", objects={"mole": []})
    (photographs / "ears").mkdir()
    (photographs / "ears" / FILE).write_text("{", encoding="utf-8")
    describe(photographs / "again", name="skin")
    assert described_names(photographs) == ["ears", "eyes", "skin"]  # a training on all of them ends with the error
    assert len(load_parts(photographs, "eyes").train) == 3
    for name, said in (("ears", "is not valid JSON"), ("skin", "describe data sets of the same name 'skin'")):
        with pytest.raises(InputError, match=said):
            load_parts(photographs, name)


def test_a_set_that_is_not_there_is_named_with_those_that_are(photographs):
    with pytest.raises(InputError, match="there is no data set 'skin' in .*; there are: eyes. Name one of these, or"):
        load_parts(photographs, "skin")
