"""Packed pixels: unpacked by decoders with permissive licences, refused if cut short or of a kind that is not read."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="pydicom is not installed")

import SimpleITK as sitk
from PIL import Image
from pydicom import dcmread, uid
from pydicom.encaps import encapsulate, generate_frames

from dicom_made import dataset, save
from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.imaging.volumes import read_volume
from ProxyPromptSegmentLib.remedies import RemedyKind

DEEP = (np.add.outer(np.arange(40), np.arange(50)) * 37 % 4096).astype("u2")
SIGNED = DEEP.astype("i2") - np.int16(2048)
COLOURS = np.stack([DEEP, DEEP // 3, 255 - DEEP], -1).astype("u1")


def with_data(array: np.ndarray, frames: list[bytes], syntax: str, **values):
    made = dataset(array, **values)
    made.file_meta.TransferSyntaxUID, made.PixelData = syntax, encapsulate(frames)
    made["PixelData"].is_undefined_length = True
    return made


def jpeg_2000() -> bytes:
    packed = io.BytesIO()
    Image.fromarray(DEEP).save(packed, "JPEG2000", irreversible=False, no_jp2=True)
    return packed.getvalue()


def lossless_jpeg(folder: Path):
    """A file that ITK packed as lossless JPEG."""
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.UseCompressionOn()
    writer.SetCompressor("JPEG")
    path = folder / "itk" / "a.dcm"  # apart: it is of the same series
    path.parent.mkdir()
    writer.SetFileName(str(path))
    writer.Execute(sitk.GetImageFromArray(SIGNED[None]))
    made = dcmread(path)
    assert made.file_meta.TransferSyntaxUID == uid.JPEGLosslessSV1
    return made


def check_jpeg_ls(folder: Path) -> None:
    if importlib.util.find_spec("jpeg_ls") is None:
        pytest.skip("pyjpegls, which packs the files, is not installed")
    for kind, array, more in (("grey", SIGNED, {}), ("12 bits", SIGNED, {"BitsStored": 12, "HighBit": 11})):
        made = dataset(array, **more)
        made.compress(uid.JPEGLSLossless)
        np.testing.assert_array_equal(read_volume(save(made, folder / f"{kind}.dcm")).array[0], array)
    made = dataset(COLOURS[..., 0], kind="7", SamplesPerPixel=3, PlanarConfiguration=0)
    made.PhotometricInterpretation, made.PixelData = "RGB", COLOURS.tobytes()
    made.compress(uid.JPEGLSLossless)
    np.testing.assert_array_equal(read_volume(save(made, folder / "colour.dcm")).array[0], COLOURS)


def test_jpeg_ls_is_unpacked(tmp_path) -> None:
    check_jpeg_ls(tmp_path)


def test_jpeg_ls_is_unpacked_by_itk_where_its_package_is_missing(tmp_path, monkeypatch) -> None:
    packed = tmp_path / "packed"
    packed.mkdir()
    check_jpeg_ls(packed)
    monkeypatch.setattr("pydicom.pixels.get_decoder", lambda _: type("Missing", (), {"is_available": False}))
    for name, array in (("grey", SIGNED), ("12 bits", SIGNED), ("colour", COLOURS)):
        np.testing.assert_array_equal(read_volume(packed / f"{name}.dcm").array[0], array)


def test_jpeg_2000_rle_and_lossless_jpeg_are_unpacked(tmp_path) -> None:
    path = save(with_data(DEEP, [jpeg_2000()], uid.JPEG2000Lossless), tmp_path / "a.dcm")
    np.testing.assert_array_equal(read_volume(path).array[0], DEEP)
    made = dataset(SIGNED)
    made.compress(uid.RLELossless)
    np.testing.assert_array_equal(read_volume(save(made, tmp_path / "b.dcm")).array[0], SIGNED)
    np.testing.assert_array_equal(read_volume(save(lossless_jpeg(tmp_path), tmp_path / "c.dcm")).array[0], SIGNED)


@pytest.mark.parametrize("part", [0.3, 0.9, 0.99])
@pytest.mark.parametrize("end", [b"", b"\xff\xd9"])
@pytest.mark.parametrize("kind", ["JPEG 2000", "JPEG", "RLE", "lossless JPEG"])
def test_packed_pixels_that_end_early_are_refused_even_with_a_mark_of_their_end(tmp_path, kind, part, end) -> None:
    if kind == "JPEG 2000":
        made = with_data(DEEP, [jpeg_2000()], uid.JPEG2000Lossless)
    elif kind == "JPEG":
        packed = io.BytesIO()
        Image.fromarray((DEEP % 256).astype("u1")).save(packed, "JPEG", quality=95)
        made = with_data((DEEP % 256).astype("u1"), [packed.getvalue()], uid.JPEGBaseline8Bit)
    elif kind == "RLE":
        made = dataset(SIGNED)
        made.compress(uid.RLELossless)
    else:
        made = lossless_jpeg(tmp_path)
    whole = next(iter(generate_frames(made.PixelData, number_of_frames=1)))
    made.PixelData = encapsulate([whole[: int(len(whole) * part)] + end])
    with pytest.raises(InputError, match="cannot be decoded.*damaged or cut short|is cut short: its JPEG data"):
        read_volume(save(made, tmp_path / "a.dcm"))


def test_without_a_temporary_folder_the_disk_is_blamed_and_not_the_image(tmp_path, monkeypatch) -> None:
    made = save(lossless_jpeg(tmp_path), tmp_path / "a.dcm")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    with pytest.raises(InputError, match="temporary folder, which cannot be written .No space.*TMPDIR"):
        read_volume(made)


@pytest.mark.parametrize("count", [1, 3])
def test_packed_frames_are_as_many_as_declared(tmp_path, count) -> None:
    made = with_data(np.stack([DEEP] * 2), [jpeg_2000()] * count, uid.JPEG2000Lossless)
    made.GridFrameOffsetVector, made.ImagePositionPatient = [0, 2], [0, 0, 0]
    made.PixelSpacing, made.ImageOrientationPatient = [1, 1], [1, 0, 0, 0, 1, 0]
    with pytest.raises(InputError, match="cannot be decoded|holds 3 frames where its header declares 2"):
        read_volume(save(made, tmp_path / "a.dcm"))


def test_what_is_not_unpacked_is_refused_by_name(tmp_path) -> None:
    made = with_data(DEEP, [jpeg_2000()], uid.HTJ2KLossless)
    if importlib.util.find_spec("openjpeg") is None:
        with pytest.raises(InputError, match="High-Throughput JPEG 2000.*needs the Python packages") as caught:
            read_volume(save(made, tmp_path / "a.dcm"))
        assert caught.value.remedy.kind == RemedyKind.INSTALL_PACKAGE
        assert caught.value.remedy.package == "pylibjpeg pylibjpeg-openjpeg"
    for syntax, name in ((uid.MPEG4HP41, "MPEG-4"), ("1.2.840.113619.5.2", "1.2.840.113619.5.2, a private transfer")):
        made.file_meta.TransferSyntaxUID = syntax
        with pytest.raises(InputError, match=f"packed as {name}.*Export the series uncompressed"):
            read_volume(save(made, tmp_path / "a.dcm"))
