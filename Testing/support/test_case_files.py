"""Annotated cases are found as users lay them out, and what has no partner is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.support.case_files import CaseFiles, find_cases
from ProxyPromptSegmentLib.support.case_lists import read_case_list


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


def found(folder: Path) -> set[tuple[str, str]]:
    cases, _ = find_cases(folder)
    return {(str(one.image.relative_to(folder)), str(one.annotation.relative_to(folder))) for one in cases}


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (("a.nrrd", "a.seg.nrrd", "b.nii.gz", "b.seg.nrrd"), {("a.nrrd", "a.seg.nrrd"), ("b.nii.gz", "b.seg.nrrd")}),
        (("a.png", "a_mask.png", "b.png", "b_mask.png"), {("a.png", "a_mask.png"), ("b.png", "b_mask.png")}),
        (("mask_a.png", "a.png"), {("a.png", "mask_a.png")}),
        (("img_01.nii.gz", "label_01.nii.gz"), {("img_01.nii.gz", "label_01.nii.gz")}),
        (("Case 1.mha", "Case 1-segmentation.mha"), {("Case 1.mha", "Case 1-segmentation.mha")}),
        (("p1/t2.nii.gz", "p1/gland.seg.nrrd"), {("p1/t2.nii.gz", "p1/gland.seg.nrrd")}),
        (("p1/image.nrrd", "p1/masks.seg.nrrd", "p1/case.json"), {("p1/image.nrrd", "p1/masks.seg.nrrd")}),
        (("p1/scan/1.dcm", "p1/scan/2.dcm", "p1/label.nii.gz"), {("p1/scan", "p1/label.nii.gz")}),
        (("images/a.jpg", "masks/a.png"), {("images/a.jpg", "masks/a.png")}),
        (
            ("imagesTr/x_001_0000.nii.gz", "imagesTr/x_001_0001.nii.gz", "labelsTr/x_001.nii.gz", "dataset.json"),
            {("imagesTr/x_001_0000.nii.gz", "labelsTr/x_001.nii.gz")},
        ),
    ],
)
def test_every_usual_layout_is_understood(tmp_path, names, pairs):
    assert found(touch(tmp_path, *names)) == pairs


def reasons(folder: Path) -> dict[str, str]:
    return {one.name: one.reason for one in find_cases(folder)[1]}


def numbered(*names: str, among: range) -> list[str]:
    return [name.format(n) for n in among for name in names]


@pytest.mark.parametrize(
    ("names", "count"),
    [
        (numbered("images/case_{:04}.nrrd", "masks/case_{:04}.nrrd", among=range(3)), 3),
        (numbered("images/case_{:04}.nrrd", "masks/case_{:04}.nrrd", among=range(1, 4)), 3),
        (numbered("images/roi_{}.png", "masks/roi_{}.png", among=range(3)), 3),
        (numbered("case_{:04}.nrrd", "case_{:04}.seg.nrrd", among=range(1, 2)), 1),
        (numbered("img_{:04}.png", "img_{:04}_mask.png", among=range(1, 4)), 3),
    ],
)
def test_four_digits_at_the_end_may_be_the_number_of_a_case(tmp_path, names, count):
    pairs = found(touch(tmp_path, *names))
    assert len(pairs) == count and not reasons(tmp_path)
    assert all(image[-8:-5] == mask.replace("_mask", "").replace(".seg", "")[-8:-5] for image, mask in pairs)


def test_an_annotation_is_never_given_to_the_images_beside_its_own(tmp_path):
    touch(tmp_path, "case_0001.nrrd", "case_0002.nrrd", "case_0003.nrrd", "case_0002.seg.nrrd")
    assert found(tmp_path) == {("case_0002.nrrd", "case_0002.seg.nrrd")}
    assert reasons(tmp_path) == dict.fromkeys(("case_0001.nrrd", "case_0003.nrrd"), "no annotation has its name")


def test_an_annotation_belongs_to_one_image(tmp_path):
    touch(tmp_path, "a.png", "a_image.png", "a_mask.png", "b_image.png", "b_scan.png", "b_mask.png")
    assert found(tmp_path) == {("a.png", "a_mask.png")}
    said = reasons(tmp_path)
    assert said["a_image.png"] == "its annotation a_mask.png is that of a.png"
    assert said["b_scan.png"] == said["b_image.png"]
    assert "b_mask.png fits b_image.png and b_scan.png alike" in said["b_scan.png"] and len(said) == 3


def test_channels_are_left_out_only_beside_an_annotation_of_their_name(tmp_path):
    touch(tmp_path, "x_0000.nrrd", "x_0001.nrrd", "x.seg.nrrd", "y_0000.nrrd", "y_0001.nrrd", "y_0001.seg.nrrd")
    touch(tmp_path, "z_0001.nrrd", "z_0002.nrrd", "z.seg.nrrd")
    assert found(tmp_path) == {("x_0000.nrrd", "x.seg.nrrd"), ("y_0001.nrrd", "y_0001.seg.nrrd")}
    said = reasons(tmp_path)
    assert said.keys() == {"y_0000.nrrd", "z_0001.nrrd", "z_0002.nrrd"}
    assert "z.seg.nrrd fits z_0001.nrrd and z_0002.nrrd alike" in said["z_0001.nrrd"]


def test_an_image_or_annotation_without_the_other_is_named(tmp_path):
    touch(tmp_path, "a.nrrd", "a.seg.nrrd", "b.nrrd", "c_mask.nrrd", "p/only.nrrd", ".hidden.nrrd")
    cases, left = find_cases(tmp_path)
    assert [one.image.name for one in cases] == ["a.nrrd"]
    assert {one.name: one.reason for one in left} == {
        "b.nrrd": "no annotation has its name",
        "c_mask.nrrd": "no image has its name",
        "p": "it holds no annotation: no .seg.nrrd file, and no file with mask, label or seg in its name",
    }


def test_what_belongs_together_is_not_guessed(tmp_path):
    touch(tmp_path, "a.nrrd", "a.seg.nrrd", "a_mask.nrrd", "p/t1.nrrd", "p/t2.nrrd", "p/gland.seg.nrrd")
    touch(tmp_path, "q.nrrd", "q.seg.nrrd")
    cases, left = find_cases(tmp_path)
    assert [one.image.name for one in cases] == ["q.nrrd"]
    assert "several annotations, a.seg.nrrd and a_mask.nrrd" in left[0].reason
    assert left[1].name == "p" and "t1.nrrd, t2.nrrd, gland.seg.nrrd" in left[1].reason


def test_a_folder_without_cases_is_refused_with_the_layouts(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        find_cases(tmp_path / "nowhere")
    touch(tmp_path, "notes.txt", "a.nrrd")
    with pytest.raises(InputError, match=r"a\.nrrd: no annotation has its name.*folder for each case"):
        find_cases(tmp_path)


def test_several_cases_of_one_folder_are_of_one_patient(tmp_path):
    names = [
        f"{who}/{who}_frame{n:02}{ending}"
        for who in ("pat1", "Pat2")
        for n in (1, 12)
        for ending in (".png", "_mask.png")
    ]
    touch(tmp_path, *names, "pat3/scan.nrrd", "pat3/gland.seg.nrrd", "one.nrrd", "one.seg.nrrd")
    cases, left = find_cases(tmp_path)
    assert not left
    assert {one.image.name: one.patient for one in cases} == {
        "one.nrrd": "", "Pat2_frame01.png": "pat2", "Pat2_frame12.png": "pat2", "pat1_frame01.png": "pat1",
        "pat1_frame12.png": "pat1", "scan.nrrd": "",
    }  # fmt: skip


def test_a_patient_of_a_list_may_be_a_number(tmp_path):
    rows = [{"image": "c.nrrd", "mask": "d.nrrd", "patient": who} for who in (0, 1, "0", None, "")]
    (tmp_path / "list.json").write_text(json.dumps(rows), encoding="utf-8")
    assert [one.patient for one in read_case_list(tmp_path / "list.json")] == ["0", "1", "0", "", ""]


def test_a_name_that_says_little_is_preceded_by_its_folder():
    assert CaseFiles(Path("x/patient7/image.nrrd"), Path("m")).name == "patient7/image"
    assert CaseFiles(Path("x/patient7.nrrd"), Path("m")).name == "patient7"


def test_lists_are_read_relative_to_their_folder(tmp_path):
    text = "Image;Segmentation;Patient\na.nrrd;m/a.nrrd;P1\nb.nrrd;m/b.nrrd;\n"
    (tmp_path / "list.csv").write_text(text, encoding="utf-8")
    first, second = read_case_list(tmp_path / "list.csv")
    assert first == CaseFiles(tmp_path / "a.nrrd", tmp_path / "m" / "a.nrrd", "p1")
    assert second.patient == ""
    rows = [["a.nrrd", "b.nrrd"], {"image": "c.nrrd", "mask": "d.nrrd", "patient": "P2"}]
    (tmp_path / "list.json").write_text(json.dumps(rows), encoding="utf-8")
    first, second = read_case_list(tmp_path / "list.json")
    assert first.annotation == tmp_path / "b.nrrd" and second.patient == "p2"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "image,annotation\nx.nrrd,\n", "row 1 of .* has no annotation"),
        ("a.csv", "picture\nx.nrrd\n", "row 1 of .* has no image"),
        ("a.csv", "", "is empty"),
        ("a.json", "[1]", "item 1 is neither an object nor a pair"),
        ("a.json", "{", "is not understood"),
        ("a.json", '{"a": 1}', "is not a list"),
        ("a.json", '[["x", 3]]', "row 1 of .* has no annotation"),
    ],
)
def test_a_list_that_is_not_understood_is_refused(tmp_path, name, text, said):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        read_case_list(tmp_path / name)
    with pytest.raises(InputError, match="cannot be read"):
        read_case_list(tmp_path / "nowhere.csv")


@pytest.mark.parametrize(
    "text",
    [
        'image;annotation\n"a ""b"".nrrd";"c;d.nrrd"\n',
        'sep=;\nimage;annotation\n"a ""b"".nrrd";"c;d.nrrd"\n',
        '"image"\t"annotation"\n"a ""b"".nrrd"\tc;d.nrrd\n',
        'image, annotation\n"a ""b"".nrrd", c;d.nrrd\n',
        '\ufeffimage,annotation\r\n"a ""b"".nrrd","c;d.nrrd"\r\n',
    ],
)
def test_names_in_quotation_marks_and_a_line_that_says_what_separates_are_read(tmp_path, text) -> None:
    table = tmp_path / "cases.csv"
    table.write_text(text, encoding="utf-8", newline="")
    (found,) = read_case_list(table)
    assert (found.image.name, found.annotation.name) == ('a "b".nrrd', "c;d.nrrd")
