"""Values of images in every encoding, overlays and colours: read right, or refused in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed")

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicom_made import AXIAL, dataset, save, stack
from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.frames import open_frames
from ProxyPromptSegmentLib.imaging.volumes import read_volume

STEP = 3.3
SLICES = stack()
PLACED = {"PixelSpacing": [1.1, 1.1], "ImageOrientationPatient": AXIAL}


def along(count: int = 9, first: float = 0.0) -> list[tuple[float, float, float]]:
    return [(0.0, 0.0, round(first + STEP * n, 4)) for n in range(count)]


def encoded(made, path: Path, syntax: str) -> Path:
    """Writes a file in another transfer syntax, with private attributes of a known and of an unknown kind."""
    if syntax == ExplicitVRBigEndian:
        made.PixelData = SLICES[0].astype(">i2").tobytes()
    made.add_new(0x00990010, "LO", "ACME")
    made.add_new(0x00991001, "UN", b"\1\2\3\4")
    made.add_new(0x00991002, "DS", "1.5")
    made.file_meta.TransferSyntaxUID = syntax
    little, implicit = syntax != ExplicitVRBigEndian, syntax == ImplicitVRLittleEndian
    pydicom.dcmwrite(path, made, little_endian=little, implicit_vr=implicit, force_encoding=True)
    return path


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_values_are_the_same_in_every_encoding_and_without_the_header_that_names_it(tmp_path, syntax) -> None:
    path = encoded(dataset(SLICES[0], ImagePositionPatient=[0, 0, 0], **PLACED), tmp_path / "a.dcm", syntax)
    np.testing.assert_array_equal(read_volume(path).array[0], SLICES[0])
    if syntax == DeflatedExplicitVRLittleEndian:
        return  # nothing but its header says that it is packed
    whole = path.read_bytes()
    first = b"\0\x08\0\x16" if syntax == ExplicitVRBigEndian else b"\x08\0\x16\0"
    body = whole[whole.index(first, 132) :]
    for start in (b"", bytes(128) + b"DICM"):
        (tmp_path / "IM1").write_bytes(start + body)
        np.testing.assert_array_equal(read_volume(tmp_path / "IM1").array[0], SLICES[0])


def test_what_an_overlay_keeps_in_the_upper_bits_is_no_value(tmp_path) -> None:
    signed = (np.arange(168).reshape(12, 14) - 80).astype("i2")
    for kind, values in (("i2", signed), ("u2", SLICES[0])):
        stored = ((values & 0x0FFF).astype("u2") | 0x5000).view(kind)
        made = dataset(stored, BitsStored=12, HighBit=11)
        made.add_new(0x60000010, "US", 12)
        made.add_new(0x60000011, "US", 14)
        made.add_new(0x60000102, "US", 12)
        np.testing.assert_array_equal(read_volume(save(made, tmp_path / "a.dcm")).array[0], values)
    made = dataset((SLICES[0] << 4).astype("u2"), BitsStored=12, HighBit=15)
    with pytest.raises(InputError, match="keeps its 12 bits below bit 15"):
        read_volume(save(made, tmp_path / "a.dcm"))
    made = dataset(SLICES[0], HighBit=11)  # of 16 bits, left behind when values became wider
    np.testing.assert_array_equal(read_volume(save(made, tmp_path / "a.dcm")).array[0], SLICES[0])


def test_an_overlay_of_its_own_is_not_drawn_into_the_image(tmp_path) -> None:
    made = dataset(SLICES[0])
    for element, kind, value in ((0x10, "US", 12), (0x11, "US", 14), (0x40, "CS", "G"), (0x100, "US", 1)):
        made.add_new(0x60000000 + element, kind, value)
    made.add_new(0x60003000, "OW", b"\xff" * 22)
    np.testing.assert_array_equal(read_volume(save(made, tmp_path / "a.dcm")).array[0], SLICES[0])


def test_colours_by_planes_and_a_contradiction(tmp_path) -> None:
    colours = np.stack([SLICES[0], SLICES[0] // 2, 255 - SLICES[0]]).astype("u1")
    made = dataset(colours[0], kind="7", PhotometricInterpretation="RGB")
    with pytest.raises(InputError, match="says that it is RGB with 1 value per pixel"):
        read_volume(save(made, tmp_path / "a.dcm"))
    made.SamplesPerPixel, made.PlanarConfiguration, made.PixelData = 3, 1, colours.tobytes()
    volume = read_volume(save(made, tmp_path / "a.dcm"))
    np.testing.assert_array_equal(volume.array[0], colours.transpose(1, 2, 0))


def test_captures_with_places_are_a_volume_in_colour(tmp_path) -> None:
    for k in range(5):
        colours = np.stack([SLICES[k] % 256, SLICES[k] % 99, SLICES[k] % 7], -1).astype("u1")
        more = {**PLACED, "ImagePositionPatient": [0, 0, STEP * k], "BurnedInAnnotation": "YES"}
        made = dataset(colours[..., 0], number=k + 1, kind="7", SamplesPerPixel=3, PlanarConfiguration=0, **more)
        made.PhotometricInterpretation, made.PixelData = "RGB", colours.tobytes()
        save(made, tmp_path / f"{k}")
    volume = read_volume(tmp_path)
    assert volume.is_rgb and volume.geometry.spacing_mm == pytest.approx((1.1, 1.1, STEP))
    np.testing.assert_array_equal(volume.array[..., 1], SLICES[:5] % 99)


def test_a_clip_in_colour_is_for_track(tmp_path) -> None:
    colours = np.stack([SLICES % 256, SLICES % 99, SLICES % 7], -1).astype("u1")
    made = dataset(colours[..., 0], kind="3.1", SamplesPerPixel=3, PlanarConfiguration=0, Modality="US")
    made.PhotometricInterpretation, made.PixelData = "RGB", colours.tobytes()
    path = save(made, tmp_path / "a.dcm")
    with pytest.raises(InputError, match="9 frames without places of their own.*Track it"):
        read_volume(path)
    source = open_frames(path)
    assert source.rgb and source.count == 9
    np.testing.assert_array_equal(source.frame(4), colours[4])


def test_pixels_for_more_frames_than_declared_are_refused(tmp_path) -> None:
    made = dataset(SLICES)
    del made.NumberOfFrames
    with pytest.raises(InputError, match="holds 3024 bytes.*declares 14x12 pixels in 1 frame, 336 bytes"):
        read_volume(save(made, tmp_path / "a.dcm"))
    made = dataset(SLICES[0])
    made.PixelData += bytes(20)  # some programs fill up a block
    np.testing.assert_array_equal(read_volume(save(made, tmp_path / "a.dcm")).array[0], SLICES[0])
