"""DICOM series written for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ProxyPromptSegmentLib.imaging.itk_images import array_to_image
from ProxyPromptSegmentLib.imaging.volumes import Volume


def write_dicom(
    folder: Path,
    uid: str,
    description: str,
    slices: int = 5,
    z0: float = -20.0,
    skip: tuple[int, ...] = (),
    **more: str,
) -> np.ndarray:
    """Writes a series of 16-bit slices with GDCM, its file names in no order; returns ``(K, J, I)``.

    ``more`` are further values by tag, as ``t0020_0052="1.2"``.
    """
    folder.mkdir(exist_ok=True)
    array = np.random.default_rng(slices).integers(0, 1000, (slices, 6, 7)).astype(np.int16)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in range(slices):
        if k in skip:
            continue
        image = sitk.GetImageFromArray(array[k : k + 1])
        image.SetSpacing((0.5, 0.75, 3.0))
        values = {
            "0008|0060": "MR",
            "0008|0016": "1.2.840.10008.5.1.4.1.1.4",
            "0008|0018": f"{uid}.{k + 1}",
            "0008|103e": description,
            "0020|000d": "1.2.826.0.1.3680043.2.1125.1",
            "0020|000e": uid,
            "0020|0013": str(k + 1),
            "0020|0032": f"-10\\-20\\{z0 + 3.0 * k}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0018|0050": "3",
            "0018|0088": "3",
            "0020|0052": "1.2.826.0.1.3680043.2.1125.9",
        }
        values.update({tag[1:].replace("_", "|"): value for tag, value in more.items()})
        for key, value in values.items():
            image.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{uid[-1]}_{(k * 3) % 7}.dcm"))
        writer.Execute(image)
    return array


def write_dicom_volume(folder: Path, volume: Volume, uid: str) -> None:
    """Writes a volume as a series of 16-bit slices in its own place, with patient, study and frame of reference."""
    folder.mkdir(exist_ok=True)
    whole = array_to_image(np.round(volume.array).astype(np.int16), volume.geometry)
    direction = volume.geometry.direction
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in range(whole.GetSize()[2]):
        image = whole[:, :, k : k + 1]
        values = {
            "0008|0060": "MR",
            "0008|0016": "1.2.840.10008.5.1.4.1.1.4",
            "0008|0018": f"{uid}.{k + 1}",
            "0010|0010": "Doe^Jane",
            "0010|0020": "4711",
            "0020|000d": f"{uid}.9",
            "0020|000e": uid,
            "0020|0013": str(k + 1),
            "0020|0032": "\\".join(f"{x:.10g}" for x in image.GetOrigin()),
            "0020|0037": "\\".join(f"{x:.10g}" for x in (*direction[:, 0], *direction[:, 1])),
            "0020|0052": f"{uid}.8",
        }
        for key, value in values.items():
            image.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{k}.dcm"))
        writer.Execute(image)
