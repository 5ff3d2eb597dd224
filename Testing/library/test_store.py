"""The library of annotated cases: what is kept and what is not, and where it lies."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from library_cases import GRID, TERMS, a_case, every_byte
from ProxyPromptSegmentLib.errors import InputError, UsageError
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume, read_volume
from ProxyPromptSegmentLib.inference.job import plan
from ProxyPromptSegmentLib.library.store import LIBRARY_VARIABLE, SupportLibrary, library_folder
from ProxyPromptSegmentLib.support.case import read_support_case
from ProxyPromptSegmentLib.support.matching import has_place

ROOT = Path(__file__).resolve().parents[2]


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
