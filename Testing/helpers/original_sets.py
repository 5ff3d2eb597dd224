"""Tiny folders in the layouts in which the papers' data sets are distributed."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 32
INNER, OUTER = (slice(12, 20), slice(12, 20)), (slice(8, 24), slice(8, 24))


def picture(seed: int, colour: bool = True) -> np.ndarray:
    shape = (SIDE, SIDE, 3) if colour else (SIDE, SIDE)
    return np.random.default_rng(seed).integers(0, 255, shape).astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def refuge2(root: Path, count: int = 4) -> Path:
    folder = root / "REFUGE2"
    for n in range(count):
        mask = np.full((SIDE, SIDE), 255, np.uint8)
        mask[OUTER], mask[INNER] = 128, 0
        part = "train" if n % 2 else "val"
        save(folder / part / "images" / f"g{n:04d}.jpg", picture(n))
        save(folder / part / "mask" / f"g{n:04d}.bmp", mask)
    return folder


def stare(root: Path, count: int = 4) -> Path:
    folder = root / "STARE"
    for n in range(count):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[OUTER] = 255
        for sub, name, pixels in (("stare-images", "", picture(n)), ("labels-ah", ".ah", mask)):
            (folder / sub).mkdir(parents=True, exist_ok=True)
            packed = io.BytesIO()
            Image.fromarray(pixels).save(packed, format="PPM")
            path = folder / sub / f"im{n:04d}{name}.ppm"
            if n % 2:
                path.write_bytes(packed.getvalue())
            else:
                with gzip.open(str(path) + ".gz", "wb") as file:
                    file.write(packed.getvalue())
    return folder


def fh_ps_aop(root: Path, count: int = 4) -> Path:
    import SimpleITK

    folder = root / "FH-PS-AOP"
    for n in range(count):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[OUTER], mask[INNER] = 2, 1
        for sub, pixels in (("image_mha", np.moveaxis(picture(n), 2, 0)), ("label_mha", mask)):
            (folder / sub).mkdir(parents=True, exist_ok=True)
            SimpleITK.WriteImage(SimpleITK.GetImageFromArray(pixels), str(folder / sub / f"{n:05d}.mha"))
    return folder


def promise12(root: Path, count: int = 4, slices: int = 6) -> Path:
    import SimpleITK

    folder = root / "PROMISE12" / "TrainingData_Part1"
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        mask = np.zeros((slices, SIDE, SIDE), np.uint8)
        mask[(slice(1, -1), *OUTER)] = 1
        voxels = np.random.default_rng(n).normal(100, 10, mask.shape).astype(np.int16) + 80 * mask
        for name, array in ((f"Case{n:02d}", voxels), (f"Case{n:02d}_segmentation", mask)):
            image = SimpleITK.GetImageFromArray(array)
            image.SetSpacing((0.5, 0.6, 3.0))
            SimpleITK.WriteImage(image, str(folder / f"{name}.mhd"))
    return folder.parent


def jnu_ifm(root: Path, count: int = 3, frames: int = 12) -> Path:
    folder = root / "JNU-IFM"
    for n in range(count):
        for frame in range(frames):
            mask = np.zeros((SIDE, SIDE, 3), np.uint8)
            mask[(*OUTER, 1)], mask[(*INNER, slice(0, 2))] = 255, (255, 0)
            name = f"2019_{n}_{frame}"
            save(folder / "video" / f"2019_{n}" / "image" / f"{name}.png", picture(frame))
            save(folder / "video" / f"2019_{n}" / "mask" / f"{name}_mask.png", mask)
    return folder


def polyps(
    root: Path, name: str, images: str = "images", masks: str = "masks", ending: str = "png", count: int = 4
) -> Path:
    folder = root / name
    for n in range(count):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[OUTER] = 255
        save(folder / images / f"{n}.{ending}", picture(n))
        save(folder / masks / f"{n}.{ending}", mask)
    return folder


def monuseg(root: Path, count: int = 4) -> Path:
    folder = root / "MoNuSeg"
    corners = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in ((8, 8), (8, 23), (23, 23), (23, 8)))
    learned = max(3, count - 2)
    text = f"<Annotations><Annotation><Regions><Region><Vertices>{corners}</Vertices></Region></Regions></Annotation>"
    for n in range(count):
        name = f"TCGA-18-{5590 + n // 2}-01Z-00-DX{n}"
        images = folder / ("Training/Tissue Images" if n < learned else "Test")
        outlines = folder / ("Training/Annotations" if n < learned else "Test")
        save(images / f"{name}.tif", picture(n))
        outlines.mkdir(parents=True, exist_ok=True)
        (outlines / f"{name}.xml").write_text(text + "</Annotations>", encoding="utf-8")
    return folder


def glas(root: Path, count: int = 4) -> Path:
    folder = root / "Warwick QU Dataset"
    rows = ["name, patient ID, grade (GlaS)"]
    for n, name in enumerate((*(f"train_{n + 1}" for n in range(count - 2)), "testA_1", "testB_1")):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[OUTER], mask[INNER] = 1, 2
        save(folder / f"{name}.bmp", picture(n))
        save(folder / f"{name}_anno.bmp", mask)
        rows.append(f"{name}, {n // 2}, benign")
    (folder / "Grade.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder
