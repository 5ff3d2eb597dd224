"""The library of annotated cases: what is kept and what is not, whole or not at all, and told in sentences."""

from __future__ import annotations

import errno
import gzip
import json
import multiprocessing
import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from library_cases import GRID, TERMS, a_case, every_byte, files_of
from ProxyPromptSegmentLib.errors import GeometryError, InputError, OutputError, SupportError, UsageError
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume, read_volume
from ProxyPromptSegmentLib.inference.job import plan
from ProxyPromptSegmentLib.library.entry import IMAGE_FILE, LibraryEntry
from ProxyPromptSegmentLib.library.store import LIBRARY_VARIABLE, SupportLibrary, library_folder
from ProxyPromptSegmentLib.support.case import read_support_case
from ProxyPromptSegmentLib.support.matching import has_place

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def library(tmp_path: Path) -> SupportLibrary:
    return SupportLibrary(tmp_path / "library")


# --- what is kept --------------------------------------------------------------------------------------------------


def test_a_case_comes_back_to_the_voxel_with_its_place_names_colours_and_terminology(library) -> None:
    volume, segmentation = a_case()
    entry = library.save(volume, segmentation, "Gland", "Dr. Example", "MR T2", "good\nquality", slices=[4, 3])
    assert [e.id for e in library.entries()] == [entry.id] and not entry.already_there
    case = library.load(library.entries()[0])
    np.testing.assert_array_equal(case.volume.array, volume.array)
    assert case.volume.geometry.is_close(GRID, 1e-6)
    assert case.segmentation.geometry.is_close(GRID, 1e-6)
    assert case.segmentation.names == ["Prostate", "Blase größer"]
    for found, given in zip(case.segmentation.segments, segmentation.segments, strict=True):
        np.testing.assert_array_equal(found.mask, given.mask)
        assert found.color_rgb == pytest.approx(given.color_rgb)
    assert case.segmentation.segments[0].terminology["type"] == TERMS["type"]
    assert case.slices == (4, 3) and case.volume.name == "Gland"
    again = plan([case], volume)
    assert [pair.slice_index for pair in again.support.pairs] == [4, 3]


def test_the_entry_tells_all_without_opening_the_image(library) -> None:
    volume, segmentation = a_case()
    library.save(volume, segmentation, annotator="A. N.", modality="MR T2", notes="two\nlines")
    for path in library.folder.rglob("*.nrrd"):
        path.write_bytes(b"")  # whoever opens it now fails
    entry = library.entries()[0]
    assert entry.title == "Case 1" and not entry.problem
    assert (entry.annotator, entry.modality, entry.notes) == ("A. N.", "MR T2", "two\nlines")
    assert (entry.axis, entry.plane, entry.spacing_mm, entry.size_ijk) == ("k", "axial", (0.5, 0.75, 3.0), (20, 16, 6))
    assert entry.objects[0].slices == (2, 3, 4) and entry.objects[0].voxels == 240 and entry.objects[1].slices == (3,)
    assert entry.window == pytest.approx(np.percentile(volume.array, (0.5, 99.5)))
    assert entry.saved.endswith("Z") and entry.program_version and entry.slices is None


@pytest.mark.parametrize("scale", [1.0, 1 / 3, 40.0, 4000.0])
def test_intensities_are_kept_exactly_whatever_their_type(library, scale) -> None:
    volume, segmentation = a_case(scale=scale)
    volume.array[0, 0, 0] = -0.0
    entry = library.save(volume, segmentation)
    np.testing.assert_array_equal(library.load(entry).volume.array, volume.array)


def test_a_colour_picture_is_kept_as_one_without_a_place(library, tmp_path) -> None:
    grid = VolumeGeometry((24, 18, 1))
    colours = np.random.default_rng(0).integers(0, 256, (1, 18, 24, 3)).astype(np.float32)
    mask = np.zeros(grid.shape_kji, np.uint8)
    mask[0, 4:9, 5:12] = 1
    volume = Volume(colours, grid, "eye", Path("eye.png"))
    entry = library.save(volume, Segmentation([Segment("disc", mask)], grid))
    case = library.load(entry)
    np.testing.assert_array_equal(case.volume.array, colours)
    assert entry.is_rgb and entry.is_picture and entry.plane == "" and not has_place(case.volume)
    with pytest.raises(InputError, match="integers from 0"):
        library.save(replace(volume, array=colours / 7), Segmentation([Segment("disc", mask)], grid))


def test_some_objects_can_be_kept(library) -> None:
    volume, segmentation = a_case()
    entry = library.save(volume, segmentation, objects=["blase größer"])
    assert [o.name for o in entry.objects] == ["Blase größer"]
    assert library.load(entry).segmentation.names == ["Blase größer"]


def test_a_case_from_files_at_full_resolution(library, drawn_prostates) -> None:
    folder = drawn_prostates / "p158_001"
    case = read_support_case(folder / "t2.nii.gz", folder / "t2_anatomy_reader1.nii.gz")
    entry = library.save(case.volume, case.segmentation, modality="MR T2")
    back = library.load(entry)
    np.testing.assert_array_equal(back.volume.array, case.volume.array)
    assert back.volume.geometry.is_close(case.volume.geometry, 1e-4) and entry.plane == "axial"
    for found, given in zip(back.segmentation.segments, case.segmentation.segments, strict=True):
        np.testing.assert_array_equal(found.mask, given.mask)
    from PIL import Image

    with Image.open(library.thumbnail_path(entry)) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert max(pixels.shape[:2]) == 160
    for segment in case.segmentation.segments:
        color = np.round(255 * np.array(segment.color_rgb)).astype(int)
        assert (pixels == color).all(axis=-1).sum() > 20, "the contour is drawn in the object's colour"


# --- what is not kept ----------------------------------------------------------------------------------------------


def test_nothing_that_names_the_patient_is_copied(library) -> None:
    library.save(*a_case(), title="Gland")
    content = every_byte(library)
    assert b"Prostate" in content
    for secret in (b"DOE", b"JANE", b"1950", b"archive", b"1.2.840.99", b"completed"):
        assert secret not in content, secret
    text = json.loads(next(library.folder.glob("*/case.json")).read_text(encoding="utf-8"))
    assert "identifying" not in text


def test_what_the_user_asks_to_keep_is_kept(library) -> None:
    library.save(*a_case(), identifying={"PatientName": "DOE^JANE"})
    assert library.entries()[0].identifying == {"PatientName": "DOE^JANE"}


# --- once, whole or not at all -------------------------------------------------------------------------------------


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


# --- what went wrong meanwhile -------------------------------------------------------------------------------------


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


# --- where it lies -------------------------------------------------------------------------------------------------


def test_the_folder_is_the_users_own(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv(LIBRARY_VARIABLE, str(tmp_path / "mine"))
    assert SupportLibrary().folder == tmp_path / "mine"
    assert SupportLibrary().entries() == [] and not (tmp_path / "mine").exists()
    monkeypatch.delenv(LIBRARY_VARIABLE)
    from_platformdirs = library_folder()
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    assert library_folder() == from_platformdirs and from_platformdirs.name == "library"


def test_the_installation_and_a_file_are_refused(tmp_path) -> None:
    for inside in (ROOT / "ProxyPromptSegmentLib" / "library", Path(sys.prefix) / "share" / "library"):
        with pytest.raises(UsageError, match="inside of the installation"):
            SupportLibrary(inside)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        SupportLibrary(tmp_path / "file")


def test_the_library_is_listed_with_the_standard_library_alone(library) -> None:
    library.save(*a_case())
    code = (
        "import sys\n"
        "for name in ('numpy', 'torch', 'SimpleITK', 'scipy', 'platformdirs', 'filelock', 'PIL', 'nrrd', 'slicerio'):\n"
        "    sys.modules[name] = None\n"
        "from pathlib import Path\n"
        "from ProxyPromptSegmentLib.library.store import SupportLibrary\n"
        "entry, = SupportLibrary(Path(sys.argv[1])).entries()\n"
        "print(entry.title, entry.objects[1].name, entry.problem)\n"
        "SupportLibrary()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, library.folder],
        cwd=ROOT, capture_output=True, text=True, encoding="utf-8", timeout=60, env={**os.environ, "PYTHONUTF8": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "Case 1 Blase größer"


def test_the_files_are_what_slicer_opens(library) -> None:
    volume, segmentation = a_case()
    entry = library.save(volume, segmentation)
    image = read_volume(entry.folder / "image.nrrd")
    assert image.geometry.is_close(GRID, 1e-6)
    header, _, packed = (entry.folder / "masks.seg.nrrd").read_bytes().partition(b"\n\n")
    assert b"Segment0_Name:=Prostate" in header and gzip.decompress(packed)
