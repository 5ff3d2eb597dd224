"""Which files and folders are studies, and what their names and contents are."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("SimpleITK")

from command_cases import a_case
from ProxyPromptSegmentLib.cohort.contents import Inputs, content_sha256
from ProxyPromptSegmentLib.cohort.studies import list_studies, shown, without
from ProxyPromptSegmentLib.errors import InputError, ProxyPromptError, UsageError
from ProxyPromptSegmentLib.imaging.volumes import write_volume

DICOM = b"\0" * 128 + b"DICM"


def names(listed) -> list[str]:
    return [study.name for study in listed.studies]


def test_images_and_dicom_folders_below_a_folder_are_studies_and_annotations_are_not(tmp_path) -> None:
    for name in ("b/t2.nrrd", "a.nii.gz", "b/t2.seg.nrrd", "a_mask.png", "c/photo.JPG", ".hidden/x.nrrd", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in ("d/series/IM1", "d/other/1.dcm", "e/1.2.840.5", "DICOMDIR"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(DICOM)
    (tmp_path / "voxels.raw").write_bytes(b"\x08\0\x05\0\x03\0\0\0" * 20)  # begins like an attribute
    found = list_studies(tmp_path)
    assert names(found) == ["a.nii.gz", "b/t2.nrrd", "c/photo.JPG", "d/other", "d/series", "e"]
    assert sorted(path.name for path in found.annotations) == ["a_mask.png", "t2.seg.nrrd"]
    assert [study.name for study in without(found.studies, [tmp_path / "b/../a.nii.gz"])[1]] == ["a.nii.gz"]


def test_a_file_of_another_program_that_is_called_as_that_of_a_cohort_hides_no_study(tmp_path) -> None:
    for name in ("a.nrrd", "inner/b.nrrd", "cohort/c.nrrd", "damaged/records/d.nrrd"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for folder in (".", "inner"):
        (tmp_path / folder / "cohort.json").write_text('{"patients": 3}')
    (tmp_path / "cohort" / "cohort.json").write_text('{"format": "ProxyPromptSegment cohort"}')
    (tmp_path / "damaged" / "cohort.json").write_text('{"for')
    assert names(list_studies(tmp_path)) == ["a.nrrd", "inner/b.nrrd"]


def test_links_are_followed_and_circles_are_not(tmp_path) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "a.nrrd").touch()
    studies = tmp_path / "studies"
    studies.mkdir()
    (studies / "link").symlink_to(tmp_path / "archive")
    (tmp_path / "archive" / "back").symlink_to(studies)
    assert names(list_studies(studies)) == ["link/a.nrrd"]


def test_a_folder_that_may_not_be_read_is_a_study_with_a_problem(tmp_path, monkeypatch) -> None:
    (tmp_path / "a.nrrd").touch()
    (tmp_path / "closed").mkdir()
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = list_studies(tmp_path)
    assert names(found) == ["a.nrrd", "closed"] and "Permission denied" in found.studies[1].problem


def test_a_table_names_studies_by_paths_and_ids(tmp_path) -> None:
    table = tmp_path / "list.csv"
    table.write_bytes(b'\xef\xbb\xbfID;Path\n1;a.nrrd\n;"two\nlines.nrrd"\n3;M\xfcller.nrrd\n4;./a.nrrd\n;\n')
    found = list_studies(table)
    assert names(found) == ["1", "two\nlines.nrrd", "3"] and found.repeated == 1
    assert os.fsencode(found.studies[2].path.name) == b"M\xfcller.nrrd"
    table.write_text("file\n/data/x\n")
    assert [str(study.path) for study in list_studies(table).studies] == ["/data/x"]


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("", InputError, "has no rows"),
        ("path\n", InputError, "has no rows"),
        ("name,place\na,b\n", InputError, "has the columns name, place; it needs one of path"),
        ("/data/a.nrrd\n/data/b.nrrd\n", InputError, "has no header"),
        ("id,path\nx,\n", InputError, "row 1 of .* has nothing in the column 'path'"),
        ("id,path\nx,a\nx,b\n", UsageError, "rows 1 and 2 of .* have the same id 'x'"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_in_words(tmp_path, text, kind, said) -> None:
    table = tmp_path / "list.csv"
    table.write_text(text)
    with pytest.raises(kind, match=said):
        list_studies(table)


def test_a_table_behind_a_link_names_the_studies_beside_itself(tmp_path) -> None:
    """As every program opens them: above the folder that a link leads to is not above the link."""
    for place in ("here", "there"):
        (tmp_path / place / "images").mkdir(parents=True)
        (tmp_path / place / "images" / "a.nrrd").write_text(place)
    (tmp_path / "there" / "lists").mkdir()
    (tmp_path / "there" / "lists" / "list.csv").write_text("path\n../images/a.nrrd\n../lists/../images/a.nrrd\n")
    (tmp_path / "here" / "lists").symlink_to(tmp_path / "there" / "lists")
    found = list_studies(tmp_path / "here" / "lists" / "list.csv")
    assert [study.path.read_text() for study in found.studies] == ["there"] and found.repeated == 1
    assert found.studies[0].name == "../images/a.nrrd"


def test_names_are_shown_in_one_line_of_utf8() -> None:
    assert shown(os.fsdecode(b"M\xfcl\nler \x1b[1m")) == "M\\xfcl\\nler \\x1b[1m"
    assert shown("Grüße 1") == "Grüße 1"


def test_the_hash_of_a_content_follows_every_file_that_belongs_to_it(tmp_path) -> None:
    folder = tmp_path / "series"
    folder.mkdir()
    (folder / "1.dcm").write_bytes(DICOM + b"one")
    before = content_sha256(folder)
    (folder / "2.dcm").write_bytes(DICOM + b"two")
    assert content_sha256(folder) != before
    volume, _ = a_case(1)
    write_volume(tmp_path / "a.nrrd", volume)
    header, data = (tmp_path / "a.nrrd").read_bytes().split(b"\n\n", 1)
    (tmp_path / "a.nhdr").write_bytes(header + b"\ndata file: a.raw.gz\n\n")
    (tmp_path / "a.raw.gz").write_bytes(data)
    before = content_sha256(tmp_path / "a.nhdr")
    write_volume(tmp_path / "b.nrrd", a_case(2)[0])
    (tmp_path / "a.raw.gz").write_bytes((tmp_path / "b.nrrd").read_bytes().split(b"\n\n", 1)[1])
    assert content_sha256(tmp_path / "a.nhdr") != before


@pytest.mark.parametrize("name", ["a.nhdr", "a.nrrd", "a.mhd", "a.mha"])
def test_voxels_in_another_folder_belong_to_their_header_and_other_studies_do_not(tmp_path, name) -> None:
    """Voxels that were replaced would otherwise be shown with the result of those before."""
    kept = tmp_path / "kept"
    study, voxels = tmp_path / "images" / name, tmp_path / "images" / "raw" / "a.raw"
    for folder in (kept, voxels.parent):
        folder.mkdir(parents=True)
    fields = ["NRRD0004", "type: short", "dimension: 3", "sizes: 2 2 2", "encoding: raw", "endian: little"]
    text = "\n".join([*fields, "data file: raw/a.raw", "", ""])
    if name.startswith("a.mh"):
        text = "NDims = 3\nDimSize = 2 2 2\nElementType = MET_SHORT\nElementDataFile = raw/a.raw\n"
    study.write_text(text)
    voxels.write_bytes(bytes(range(16)))
    before = Inputs(kept).of(study)
    (study.parent / "another.nhdr").write_text(text)  # as studies arrive while others are computed
    assert Inputs(kept).known(study) == before
    voxels.write_bytes(bytes(range(1, 17)))
    assert Inputs(kept).known(study) is None and Inputs(kept).of(study) != before
    voxels.unlink()
    assert Inputs(kept).known(study) is None, "reading it says what is missing"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_no_study(tmp_path) -> None:
    os.mkfifo(tmp_path / "a.nrrd")
    with pytest.raises(InputError, match=r"a\.nrrd is no ordinary file"):
        content_sha256(tmp_path / "a.nrrd")


def test_contents_are_read_once_as_long_as_files_look_the_same(tmp_path, monkeypatch) -> None:
    from ProxyPromptSegmentLib.cohort import contents

    study, kept = tmp_path / "a.nrrd", tmp_path / "kept"
    kept.mkdir()
    study.write_bytes(b"one")
    calls = []
    monkeypatch.setattr(contents, "content_sha256", lambda path: calls.append(path) or content_sha256(path))
    first = Inputs(kept).of(study)
    assert Inputs(kept).of(study) == first and len(calls) == 1
    facts = study.stat()
    study.write_bytes(b"two")
    os.utime(study, ns=(facts.st_atime_ns, facts.st_mtime_ns))  # same size, same time: as some copies have
    assert Inputs(kept).known(study) is None and Inputs(kept).of(study) != first
    study.unlink()
    with pytest.raises(ProxyPromptError, match=r"a\.nrrd cannot be read \(No such file"):
        Inputs(kept).of(study)
