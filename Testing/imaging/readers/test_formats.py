"""NRRD, MetaImage and NIfTI by their own headers: the same as ITK reads of good files, and what is damaged is "
"refused."""

from __future__ import annotations

import gzip
import logging
import os
import sys
import time
import zlib
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nifti_made import VALUES, nifti
from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.readers.formats import read_stored
from ProxyPromptSegmentLib.imaging.segmentations import read_segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume, read_volume, write_volume

TURN = [[1, 0, 0], [0, 0.9526614854740363, 0.3040330598026857], [0, -0.3040330598026857, 0.9526614854740363]]
GRID = VolumeGeometry((16, 15, 14), (0.5, 0.7, 3.1), (1, -2, 33.25), TURN)


def an_array(dtype: str = "i2") -> np.ndarray:
    return np.random.default_rng(1).integers(0, 120, GRID.shape_kji).astype(dtype)


def as_itk(array: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(GRID.spacing_mm)
    image.SetOrigin(GRID.origin_lps)
    image.SetDirection(np.array(TURN).ravel())
    return image


@pytest.fixture
def written(tmp_path):
    def write(name: str, packed: bool = True) -> Path:
        sitk.WriteImage(as_itk(an_array()), str(tmp_path / name), packed)
        return tmp_path / name

    return write


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd", ".nii", ".nii.gz"])
def test_what_itk_writes_is_read_as_itk_reads_it(tmp_path, suffix) -> None:
    kinds = ("u1", "i1", "i2", "u2", "i4", "u4", "i8", "f4", "f8")
    for kind, packed in product(kinds, (True, False)):
        path = tmp_path / f"{kind}{packed}{suffix}"
        sitk.WriteImage(as_itk(an_array(kind)), str(path), packed)
        found = read_stored(path)
        back = sitk.ReadImage(str(path))
        np.testing.assert_array_equal(found.array, sitk.GetArrayFromImage(back))
        np.testing.assert_allclose(found.geometry.spacing_mm, back.GetSpacing(), rtol=1e-6)
        np.testing.assert_allclose(found.geometry.origin_lps, back.GetOrigin(), atol=1e-5)
        np.testing.assert_allclose(found.geometry.direction.ravel(), back.GetDirection(), atol=1e-6)
        assert found.has_spacing


def test_in_a_locale_with_commas_numbers_stay_what_they_are(written) -> None:
    import locale

    path, before = written("x.nrrd"), locale.setlocale(locale.LC_ALL)
    try:
        try:
            locale.setlocale(locale.LC_ALL, "de_DE.UTF-8")
        except locale.Error:
            pytest.skip("the locale de_DE.UTF-8 is not installed")
        assert read_stored(path).geometry.spacing_mm == GRID.spacing_mm
    finally:
        locale.setlocale(locale.LC_ALL, before)


@pytest.mark.parametrize("name", ["x.nrrd", "x.mha", "x.nii.gz"])
def test_one_flipped_bit_of_packed_voxels_is_noticed(written, name) -> None:
    path = written(name)
    good = path.read_bytes()
    for at in range(len(good) // 2, len(good) - 1, len(good) // 12):
        for bit in range(8):
            damaged = bytearray(good)
            damaged[at] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                found = read_stored(path).array
            except InputError as error:
                assert "damaged" in str(error) or "cut short" in str(error) or "hold" in str(error)
            else:  # bits that mean nothing, behind the end of the last block
                np.testing.assert_array_equal(found, an_array())


@pytest.mark.parametrize("name", ["x.nrrd", "x.mha", "x.nii", "x.nii.gz"])
@pytest.mark.parametrize("packed", [True, False])
def test_a_file_that_is_cut_short_is_refused_wherever_it_ends(written, name, packed) -> None:
    path = written(name, packed)
    good = path.read_bytes()
    for part in (0.05, 0.3, 0.7, 0.999):
        path.write_bytes(good[: int(len(good) * part)])
        with pytest.raises(InputError, match=r"x\.(nrrd|mha|nii)"):
            read_volume(path)


def header(encoding: str, extra: str = "") -> bytes:
    """A header; what ``extra`` says is said only there."""
    whole = (
        "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 4 4 4\nspace directions: (1,0,0) "
        f"(0,1,0) (0,0,1)\nkinds: domain domain domain\nencoding: {encoding}\nendian: little\n"
        "space origin: (0,0,0)\n"
    )
    said = {line.split(":")[0] for line in extra.splitlines()}
    kept = [line for line in whole.splitlines() if line.split(":")[0] not in said]
    return ("\n".join(kept) + f"\n{extra}\n").encode()


NUMBERS = " ".join(str(n % 50) for n in range(64)).encode()


def test_the_order_of_bytes_is_not_guessed_and_lengths_are_in_mm(tmp_path) -> None:
    values = np.arange(64, dtype="<i2")
    path = tmp_path / "x.nrrd"
    path.write_bytes(header("raw").replace(b"little", b"big") + values.astype(">i2").tobytes())
    np.testing.assert_array_equal(read_volume(path).array.ravel(), values)
    path.write_bytes(header("raw").replace(b"endian: little\n", b"") + values.tobytes())
    with pytest.raises(InputError, match="does not say in which order the bytes"):
        read_volume(path)
    path.write_bytes(header("raw", 'space units: "mm" "mm" "mm"\n') + values.tobytes())
    assert read_volume(path).geometry.spacing_mm == (1, 1, 1)
    path.write_bytes(header("raw", 'space units: "um" "um" "um"\n') + values.tobytes())
    with pytest.raises(InputError, match="gives lengths in um; mm are read"):
        read_volume(path)


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_nothing_but_an_end_of_line_may_follow_raw_voxels(written, name) -> None:
    path = written(name, packed=False)
    whole, expected = path.read_bytes(), read_stored(path).array
    for end in (b"\n", b"\r\n"):
        path.write_bytes(whole + end)
        np.testing.assert_array_equal(read_stored(path).array, expected)
    for put in (b"\0", b"\n\n"):  # between the voxels: all behind would be shifted
        path.write_bytes(whole[:-20] + put + whole[-20:])
        with pytest.raises(InputError, match="header and voxels do not belong together"):
            read_stored(path)


@pytest.mark.parametrize("packed", [False, True])
def test_a_nifti_file_with_another_slice_behind_its_voxels_is_refused(written, packed) -> None:
    path = written("a.nii")
    whole, expected = path.read_bytes(), read_stored(path).array
    pack = gzip.compress if packed else bytes
    path.write_bytes(pack(whole + b"\0" * 16))  # what fills a block of a disk
    np.testing.assert_array_equal(read_stored(path).array, expected)
    path.write_bytes(pack(whole + whole[-expected[0].nbytes :]))
    with pytest.raises(InputError, match="header and voxels do not belong together"):
        read_stored(path)


def test_whole_numbers_that_are_rounded_are_reported(tmp_path, caplog) -> None:
    for name, first, said in (("a", 0, False), ("b", 4_000_000_000, True)):
        array = np.uint32(first) + an_array().astype("u4") % 1000 * 9
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / f"{name}.nrrd"))
        read_volume(tmp_path / f"{name}.nrrd")
        assert ("rounded to steps of 256" in caplog.text) == said


def test_what_a_header_says_twice_or_not_at_all_is_not_guessed(written) -> None:
    for name, field, put in (
        ("a.nrrd", b"space origin", b"space origin: (5,5,5)\n"),
        ("a.nrrd", b"sizes", b"sizes: 1 1 1\n"),
        ("a.mha", b"DimSize", b"DimSize = 1 1 1\n"),
    ):
        path = written(name, packed=False)
        whole = path.read_bytes()
        path.write_bytes(whole.replace(field, put + field, 1))
        with pytest.raises(InputError, match="twice, not alike"):
            read_stored(path)
        line = next(one for one in whole.split(b"\n") if one.startswith(field)) + b"\n"
        path.write_bytes(whole.replace(field, line + field, 1))
        assert read_stored(path).array.any()
    path = written("a.nrrd", packed=False)
    path.write_bytes(path.read_bytes().replace(b"encoding: raw\n", b""))
    with pytest.raises(InputError, match="has the encoding 'none'; allowed are raw"):
        read_stored(path)


def test_numbers_as_text_are_read(tmp_path) -> None:
    (tmp_path / "x.nrrd").write_bytes(header("ascii") + NUMBERS + b"\n")
    np.testing.assert_array_equal(read_volume(tmp_path / "x.nrrd").array.ravel(), np.arange(64) % 50)


@pytest.mark.parametrize(
    "content",
    [
        header("ascii") + b"7" * 5000 + b" " + NUMBERS,
        header("ascii") + b"\0" * 100_000,
        header("ascii") + b"\xff" * 1000,
        header("ascii") + b"1 2 3",
        header("ascii", "data file: /dev/zero\n"),
        header("raw", "data file:/dev/zero\n"),
        header("raw", "data file: " + "a" * 2000 + "\n"),
        header("raw", "data file: s%03d.raw 1 4 1\n"),
        header("raw", "byte skip: -5\n") + bytes(128),
        header("raw", "A" * 5000 + "\n") + bytes(128),
        header("raw", 'space units: "' + "A" * 100_000 + '" "b" "c"\n') + bytes(128),
        header("raw") + bytes(4096),
        header("raw").replace(b"4 4 4", b"4 4 99999999999") + bytes(128),
        header("raw").replace(b"4 4 4", b"4 4 -4") + bytes(128),
        header("raw").replace(b"(0,0,1)", b"(0,0,0)") + bytes(128),
        header("raw").replace(b"(0,0,1)", b"(0,nan,1)") + bytes(128),
        header("raw").replace(b"(0,0,1)", b"(0,1,1)") + bytes(128),
    ],
)  # fmt: skip
def test_a_nrrd_file_that_is_none_is_refused_at_once(tmp_path, content) -> None:
    (tmp_path / "x.nrrd").write_bytes(content)
    begun = time.process_time()
    with pytest.raises(InputError, match=r"x\.nrrd") as caught:
        read_volume(tmp_path / "x.nrrd")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    assert time.process_time() - begun < 2


@pytest.mark.parametrize(
    "words",
    [
        "space: left-posterior-superior\nspace directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: 1,2,3)\n",
        "space: left-posterior-superior\nspace directions: (1,0,0) (0,1,0 (0,0,1)\n",
        "space: left-posterior-superior\nspace directions: (1,0,0)\n",
        "space: rXght-anterior-superior\nspace directions: (1,0,0) (0,1,0) (0,0,1)\n",
    ],
)
def test_a_damaged_place_of_a_nrrd_file_is_not_replaced_by_another(tmp_path, words) -> None:
    (tmp_path / "x.nrrd").write_bytes(header("raw", words) + np.arange(64, dtype="<i2").tobytes())
    with pytest.raises(InputError, match=r"x\.nrrd (has|gives no direction)"):
        read_volume(tmp_path / "x.nrrd")


def test_many_keys_take_no_time(tmp_path) -> None:
    keys = "".join(f"key{n}:=v\n" for n in range(50_000))
    (tmp_path / "x.nrrd").write_bytes(header("raw", keys) + np.arange(64, dtype="<i2").tobytes())
    begun = time.process_time()
    np.testing.assert_array_equal(read_volume(tmp_path / "x.nrrd").array.ravel(), np.arange(64))
    assert time.process_time() - begun < 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_as_the_file_of_the_voxels_is_refused_and_not_waited_for(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "x.nrrd").write_bytes(header("raw", "data file: pipe\n"))
    (tmp_path / "x.mha").write_bytes(META % b"pipe")
    for path in (tmp_path / "x.nrrd", tmp_path / "x.mha", tmp_path / "pipe"):
        with pytest.raises(InputError, match="no file|no ordinary file"):
            read_volume(path)
    segments = "Segment0_ID:=a\nSegment0_Name:=a\nSegment0_LabelValue:=1\nSegment0_Layer:=0\ndata file: pipe\n"
    (tmp_path / "x.seg.nrrd").write_bytes(header("raw", segments))
    with pytest.raises(InputError, match="no file|no ordinary file"):
        read_segmentation(tmp_path / "x.seg.nrrd")


META = (
    b"ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = "
    b"False\nTransformMatrix"
    b" = 1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\nElementSpacing = 1 1 1\nDimSize = 4 4 4\nElementType = "
    b"MET_SHORT\nElementDataFile"
    b" = %s\n"
)


@pytest.mark.parametrize("words", [b"%s%s%n%n 1 3 1", b"%s 1 4 1", b"LIST", b"A" * 3000, b"/dev/zero"])
def test_a_meta_image_refers_to_nothing_but_one_file(tmp_path, words) -> None:
    (tmp_path / "x.mha").write_bytes(META % words)
    with pytest.raises(InputError, match="in several files|which is no file"):
        read_volume(tmp_path / "x.mha")


@pytest.mark.parametrize("words", [b"ElementSpacing = 0 1 1", b"ElementSpacing = nan 1 1", b"ElementType = MET_%n"])
def test_numbers_of_a_meta_image_that_are_none_are_refused(tmp_path, words) -> None:
    (tmp_path / "x.mha").write_bytes(META % b"LOCAL" + bytes(126) + b"\1\0")
    assert read_volume(tmp_path / "x.mha").has_spacing
    text = (META % b"LOCAL").replace(b"ElementSpacing = 1 1 1" if b"Sp" in words else b"ElementType = MET_SHORT", words)
    (tmp_path / "x.mha").write_bytes(text + bytes(128))
    with pytest.raises(InputError, match="spacing|allowed types"):
        read_volume(tmp_path / "x.mha")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.hdr", nifti((3, 4, 5), 4, 16, b"").replace(b"n+1", b"ni1"), "half of a pair"),
        ("x.nii", nifti((3, 4, 5), 4, 16, VALUES.tobytes()).replace(b"n+1", b"ni1"), "half of a pair"),
        ("x.hdr", nifti((3, 4, 5), 4, 16, b"").replace(b"n+1", b"\0\0\0"), "Analyze"),
        ("x.vtk", b"# vtk DataFile Version 3.0\n" + bytes(500), "is a VTK file"),
        ("x.gipl", bytes(800), "not a supported image; supported are NRRD, NIfTI, MHA, DICOM, PNG"),
        ("x.mnc", b"\x89HDF\r\n\x1a\n" + bytes(100), "MINC"),
        ("x.gif", b"GIF89a" + bytes(100), "is a GIF picture"),
        ("x.tar.gz", gzip.compress(bytes(1000), mtime=0), "holds no NIfTI"),
        ("x.zip", b"PK\3\4" + bytes(100), "is a zip archive"),
    ],
)
def test_what_is_not_named_among_the_formats_is_refused_by_name(tmp_path, name, content, words) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_volume(tmp_path / name)
    with pytest.raises(InputError, match=words):
        read_segmentation(tmp_path / name)


def test_without_a_voxel_size_a_volume_has_none(tmp_path, caplog) -> None:
    text = b"NRRD0004\ntype: short\ndimension: 3\nsizes: 4 4 4\nencoding: raw\nendian: little\n\n"
    (tmp_path / "x.nrrd").write_bytes(text + np.arange(64, dtype="<i2").tobytes())
    with caplog.at_level(logging.WARNING):
        assert not read_volume(tmp_path / "x.nrrd").has_spacing
    assert "does not say how large its voxels are" in caplog.text
    write_volume(tmp_path / "y.nrrd", Volume(an_array(), GRID))
    assert read_volume(tmp_path / "y.nrrd").has_spacing


@pytest.mark.parametrize("detached", [False, True])
@pytest.mark.parametrize("read", [read_volume, read_segmentation])
def test_a_file_that_is_written_while_it_is_read_is_refused(written, monkeypatch, read, detached) -> None:
    path = written("a.nrrd")
    if detached:
        head, voxels = path.read_bytes().split(b"\n\n", 1)
        path.write_bytes(head + b"\ndata file: a.raw.gz\n\n")
        path.with_name("a.raw.gz").write_bytes(voxels)
    module = sys.modules[read.__module__]
    stored = module.read_stored

    def and_written(file):
        found = stored(file)
        os.utime(file.with_name("a.raw.gz") if detached else file, ns=(1, 1))
        return found

    monkeypatch.setattr(module, "read_stored", and_written)
    with pytest.raises(InputError, match=r"a\.nrrd was changed while it was read"):
        read(path)


def test_packed_voxels_need_no_more_memory_than_declared(tmp_path) -> None:
    bomb = zlib.compressobj(9, wbits=31)
    (tmp_path / "x.nrrd").write_bytes(header("gzip") + bomb.compress(bytes(200 << 20)) + bomb.flush())
    with pytest.raises(InputError, match="declares 128 bytes of voxels and holds more"):
        read_volume(tmp_path / "x.nrrd")
