"""DICOM series written for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk


def write_dicom(
    folder: Path, uid: str, description: str, slices: int = 5, z0: float = -20.0, skip: tuple[int, ...] = ()
) -> np.ndarray:
    """Writes a series of 16-bit slices with GDCM, its file names in no order; returns ``(K, J, I)``."""
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
        }
        for key, value in values.items():
            image.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{uid[-1]}_{(k * 3) % 7}.dcm"))
        writer.Execute(image)
    return array
