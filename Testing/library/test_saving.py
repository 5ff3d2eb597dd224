"""Saving a case to the library: once, whole or not at all, also with a full disk or several programs."""

from __future__ import annotations

import errno
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from library_cases import GRID, a_case, files_of
from ProxyPromptSegmentLib.errors import GeometryError, InputError, OutputError, SupportError, UsageError
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation
from ProxyPromptSegmentLib.library.entry import LibraryEntry
from ProxyPromptSegmentLib.library.store import SupportLibrary

ROOT = Path(__file__).resolve().parents[2]


def test_the_same_case_is_told_and_not_saved_again(library) -> None:
    first = library.save(*a_case(), title="Gland")
    before = files_of(library)
    second = library.save(*a_case(), title="Another title")
    assert second.already_there and second.id == first.id and second.title == "Gland"
    assert files_of(library) == before
    volume, segmentation = a_case()
    segmentation.segments[0].mask[2, 0, 0] = 1
    assert not library.save(volume, segmentation).already_there
    assert not library.save(*a_case(1)).already_there
    assert [entry.title for entry in library.entries()] == ["Gland", "Case 1", "Case 2"]


def test_cases_of_one_patient_are_known_as_such_and_nothing_tells_who_it_is(library, tmp_path) -> None:
    assert library.token_of("4711\nDoe^Anna") == ""  # before the first case there is no folder
    first = library.save(*a_case(), identity="4711\nDoe^Anna")
    second = library.save(*a_case(1), identity="4711\nDoe^Anna")
    other = library.save(*a_case(2), identity="4712\nDoe^Anna")
    unknown = library.save(*a_case(3))
    assert first.patient == second.patient == library.token_of("4711\nDoe^Anna") != other.patient
    assert unknown.patient == "" and [entry.patient for entry in library.entries()][:3] == [
        first.patient, second.patient, other.patient
    ]  # fmt: skip
    elsewhere = SupportLibrary(tmp_path / "elsewhere")
    assert elsewhere.save(*a_case(), identity="4711\nDoe^Anna").patient not in ("", first.patient)
    for path in library.folder.rglob("*"):
        assert path.is_dir() or not {b"4711", b"Anna"} & set(path.read_bytes().split(b'"'))


def test_a_case_without_a_patient_gets_one_when_it_is_saved_again(library) -> None:
    first = library.save(*a_case(), title="Gland")
    again = library.save(*a_case(), identity="4711")
    assert again.already_there and again.id == first.id and again.patient and again.title == "Gland"
    assert library.entries()[0].patient == again.patient
    assert library.save(*a_case(), identity="4712").patient == again.patient


def test_a_case_whose_spacing_was_corrected_is_another(library) -> None:
    first = library.save(*a_case())
    volume, segmentation = a_case()
    right = replace(GRID, spacing_mm=tuple(2 * mm for mm in GRID.spacing_mm))
    volume.geometry = segmentation.geometry = right
    second = library.save(volume, segmentation)
    assert not second.already_there and second.spacing_mm == right.spacing_mm != first.spacing_mm
    assert library.save(volume, segmentation).id == second.id and library.save(*a_case()).id == first.id


def test_a_patient_that_is_added_takes_back_no_name_that_another_program_gave_meanwhile(library) -> None:
    first = library.save(*a_case(), title="Gland")
    same, library._same = library._same, lambda entry: (same(entry), library.rename(first, "New"))[0]
    again = library.save(*a_case(), identity="4711")
    assert again.title == "New" and again.patient and again.already_there
    assert [(entry.title, entry.patient) for entry in library.entries()] == [("New", again.patient)]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda v, s: [m.mask.fill(0) for m in s.segments], SupportError, "every mask of the support is empty"),
        (lambda v, s: v.array.fill(7), InputError, "same intensity"),
        (lambda v, s: v.array.__setitem__((0, 0, 0), np.nan), InputError, "NaN"),
        (lambda v, s: setattr(s, "geometry", VolumeGeometry((20, 16, 6))), GeometryError, "another grid"),
    ],
)
def test_an_unusable_case_is_refused_and_leaves_nothing(library, change, error, words) -> None:
    volume, segmentation = a_case()
    change(volume, segmentation)
    with pytest.raises(error, match=words):
        library.save(volume, segmentation)
    assert not library.folder.exists()


def test_masks_of_another_size_slices_and_objects_that_are_not_there_are_refused(library) -> None:
    volume, segmentation = a_case()
    small = VolumeGeometry((4, 4, 4))
    with pytest.raises(SupportError, match="both must share"):
        library.save(volume, Segmentation([Segment("a", np.ones((4, 4, 4), np.uint8))], small))
    with pytest.raises(SupportError, match=r"\[0\] have no annotation"):
        library.save(volume, segmentation, slices=[0, 3])
    with pytest.raises(SupportError, match="no object named 'kidney'"):
        library.save(volume, segmentation, objects=["kidney"])


def test_a_folder_that_cannot_be_made_is_told(tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="could not be written"):
        SupportLibrary(tmp_path / "file" / "library").save(*a_case())


def test_a_file_in_the_place_of_the_library_is_told_and_left_alone(tmp_path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="is a file; choose a folder"):
        SupportLibrary(tmp_path / "file").save(*a_case())
    assert (tmp_path / "file").read_text() == "mine"


def test_a_library_that_cannot_be_written_is_told(library, monkeypatch) -> None:
    library.save(*a_case())
    make = Path.mkdir

    def refused(path, *words, **more):
        if library.folder in path.parents:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return make(path, *words, **more)

    before = files_of(library)
    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(OutputError, match="could not be written: Permission denied"):
        library.save(*a_case(1))
    assert files_of(library) == before


@pytest.mark.parametrize("most", [300, 1500, 4000])
def test_a_full_disk_leaves_nothing_half_written(library, most) -> None:
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    library.save(*a_case())
    before = files_of(library)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
        with pytest.raises(OutputError, match="not saved|could not be written"):
            library.save(*a_case(1, scale=1 / 3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files_of(library) == before


def test_a_save_that_is_killed_leaves_no_case(library) -> None:
    code = (
        "import os, sys; sys.path[:0] = [sys.argv[2], sys.argv[3]]\n"
        "from pathlib import Path\n"
        "from library_cases import a_case\n"
        "from ProxyPromptSegmentLib.library import files, store\n"
        "write = files.write_segmentation\n"
        "files.write_segmentation = lambda *a: (write(*a), os._exit(9))\n"
        "store.SupportLibrary(Path(sys.argv[1])).save(*a_case())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, library.folder, ROOT, ROOT / "Testing" / "helpers"], timeout=120)
    assert done.returncode == 9
    left = list(library.folder.glob(".partial-*"))
    assert len(left) == 1 and library.entries() == []
    os.utime(left[0], (0, 0))  # long ago
    library.save(*a_case())
    assert not left[0].exists() and len(library.entries()) == 1


def _save(folder: str, seeds: list[int]) -> None:
    library = SupportLibrary(Path(folder))
    for seed in seeds:
        library.save(*a_case(seed), thumbnail=False)


def test_programs_that_save_at_once_do_not_disturb_each_other(library) -> None:
    context = multiprocessing.get_context("spawn")
    jobs = [context.Process(target=_save, args=(str(library.folder), seeds)) for seeds in ([1, 2, 3], [3, 2, 1, 4])]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(120)
    assert [job.exitcode for job in jobs] == [0, 0]
    entries = library.entries()
    assert sorted(e.title for e in entries) == ["Case 1", "Case 2", "Case 3", "Case 4"]
    assert len({library.load(e).volume.array.tobytes() for e in entries}) == 4
    assert not list(library.folder.glob(".partial-*"))


def test_a_case_that_two_programs_write_at_once_is_there_once(library) -> None:
    """Both have written their files and wait for a third that has the lock."""
    from filelock import FileLock

    library.folder.mkdir()
    answers: list[LibraryEntry] = []
    threads = [threading.Thread(target=lambda: answers.append(library.save(*a_case()))) for _ in range(2)]
    with FileLock(library.folder / ".lock"):
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads) and len(written(library)) < 2:
            time.sleep(0.01)
        assert library.entries() == [] and not answers
    for thread in threads:
        thread.join(60)
    assert sorted(entry.already_there for entry in answers) == [False, True]
    assert len(library.entries()) == 1 and answers[0].id == answers[1].id and not written(library)


def written(library: SupportLibrary) -> list[Path]:
    """Cases that are complete but not yet in place."""
    return list(library.folder.glob(".partial-*/thumbnail.png"))
