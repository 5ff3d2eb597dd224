"""Cases that were damaged, changed, renamed or removed since they were saved."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from library_cases import a_case, files_of
from ProxyPromptSegmentLib.errors import InputError, OutputError, UsageError
from ProxyPromptSegmentLib.library.entry import IMAGE_FILE, LibraryEntry


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "case.json").unlink(), "is missing"),
        (lambda f: (f / "case.json").write_text("{"), "is damaged"),
        (lambda f: (f / "case.json").write_bytes(b"\xff\xfe\x00"), "is damaged"),
        (lambda f: (f / "case.json").write_text("[" * 100_000), "is damaged"),
        (lambda f: (f / "case.json").write_text("[]"), "does not describe"),
        (lambda f: (f / "image.nrrd").unlink(), "image.nrrd of the case 'Case 1' is missing"),
        (lambda f: edit(f, format_version=2), "newer version.*format 2"),
        (lambda f: edit(f, format_version="1"), "format_version"),
        (lambda f: edit(f, window=[1, float("nan")]), r"window\[1\] is NaN; it must be a number"),
        (lambda f: edit(f, objects=[{"name": "x"}]), r"objects\[0\].color is missing"),
        (lambda f: edit(f, objects=7), "objects is 7; it must be a list"),
        (lambda f: edit(f, voxels_sha256="0"), "is not a SHA-256"),
        (lambda f: edit(f, slices=[-1]), "slices has the number -1; a count cannot be negative"),
    ],
)
def test_a_damaged_case_is_listed_with_its_problem_and_can_be_removed(library, damage, words) -> None:
    entry, good = library.save(*a_case()), library.save(*a_case(1))
    damage(entry.folder)
    listed = {e.id: e for e in library.entries()}
    assert set(listed) == {entry.id, good.id} and not listed[good.id].problem
    assert re.search(words, listed[entry.id].problem), listed[entry.id].problem
    with pytest.raises(InputError):
        library.load(entry)
    library.remove(listed[entry.id])
    assert [e.id for e in library.entries()] == [good.id]


OF_ANOTHER_KIND = [
    ("identifying", [[1], "x", 5, {"a": 1}]), ("objects", [[5], [[1]], {"a": 1}]), ("window", [5, None]),
    ("terminology", [5]), ("slices", [{"a": 1}]), ("axis", [[], {}]), ("size_ijk", [None]), ("title", [{"a": 1}]),
    ("notes", [5]), ("saved", [None]), ("voxels_sha256", [5]), ("format_version", [[]]),
]  # fmt: skip


@pytest.mark.parametrize(("key", "values"), OF_ANOTHER_KIND)
def test_values_of_another_kind_never_hide_the_other_cases(library, key, values) -> None:
    entry, good = library.save(*a_case()), library.save(*a_case(1))
    whole = (entry.folder / "case.json").read_text(encoding="utf-8")
    for value in values:
        edit(entry.folder, **{key: value})
        listed = {e.id: e for e in library.entries()}
        assert set(listed) == {entry.id, good.id} and not listed[good.id].problem
        assert listed[entry.id].problem or key == "terminology", (key, value)  # which a case itself has not
        (entry.folder / "case.json").write_text(whole, encoding="utf-8")


def edit(folder: Path, **changes: object) -> None:
    path = folder / "case.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def test_an_image_that_was_changed_is_refused_by_its_hash(library) -> None:
    entry, other = library.save(*a_case()), library.save(*a_case(1))
    (entry.folder / IMAGE_FILE).write_bytes((other.folder / IMAGE_FILE).read_bytes())
    with pytest.raises(InputError, match="The image of the case 'Case 1' changed since it was saved"):
        library.load(entry)


def test_masks_that_were_changed_are_refused_by_their_hash(library) -> None:
    volume, segmentation = a_case()
    entry = library.save(volume, segmentation)
    segmentation.segments[0].mask[2, 0, 0] = 1
    other = library.save(volume, segmentation)
    (entry.folder / "masks.seg.nrrd").write_bytes((other.folder / "masks.seg.nrrd").read_bytes())
    with pytest.raises(InputError, match="The masks of the case 'Case 1' changed since it was saved"):
        library.load(entry)


def test_a_file_that_is_cut_short_is_told(library) -> None:
    entry = library.save(*a_case())
    path = entry.folder / IMAGE_FILE
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match="'Case 1'"):
        library.load(entry)


def test_renaming_changes_the_title_alone(library) -> None:
    entry = library.save(*a_case(), notes="kept")
    renamed = library.rename(entry, "  New\n\x1b[31m title ")
    assert renamed.title == "New [31m title"
    assert library.entries() == [renamed] == [replace(entry, title="New [31m title")]
    with pytest.raises(UsageError, match="empty"):
        library.rename(entry, " \n ")
    library.remove(entry)
    with pytest.raises(InputError, match="no longer, a case"):
        library.rename(entry, "x")


def test_removing_takes_this_folder_and_nothing_else(library, tmp_path) -> None:
    entry, good = library.save(*a_case()), library.save(*a_case(1))
    (entry.folder / "embedding-0123456789abcdef.npz").write_bytes(b"made by the library")
    library.remove(entry)
    assert [e.id for e in library.entries()] == [good.id] and not list(library.folder.glob(".removed*"))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "case.json").write_text("{}")
    for wrong in (
        entry,
        LibraryEntry("", library.folder),
        LibraryEntry("..", library.folder / ".."),
        LibraryEntry("../outside", library.folder / "../outside"),
        LibraryEntry("outside", outside),
    ):
        with pytest.raises(InputError, match="not, or no longer, a case"):
            library.remove(wrong)
    assert (outside / "case.json").exists() and good.folder.is_dir()


def test_a_folder_with_foreign_files_is_left_as_it_is(library) -> None:
    entry = library.save(*a_case())
    (entry.folder / "thesis.docx").write_text("years of work")
    before = files_of(library)
    with pytest.raises(OutputError, match=r"did not make \(thesis.docx\); it was left as it is"):
        library.remove(entry)
    assert files_of(library) == before


def test_a_link_to_a_folder_elsewhere_is_no_case(library, tmp_path) -> None:
    entry = library.save(*a_case())
    elsewhere = tmp_path / "elsewhere"
    entry.folder.rename(elsewhere)
    try:
        entry.folder.symlink_to(elsewhere, target_is_directory=True)
    except OSError:
        pytest.skip("this system makes no links")
    assert library.entries() == []
    with pytest.raises(InputError):
        library.remove(entry)
    assert (elsewhere / "case.json").exists()
