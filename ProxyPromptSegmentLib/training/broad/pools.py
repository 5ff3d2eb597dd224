"""The training images on the device: one pool of images and label bits for each data set.

They come from a pack, two tars that `training.broad.pack` writes: images as WebP, labels as PNG whose bits are the
objects (objects may overlap), regions of an over-segmentation as PNG, and ``index.json``.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ProxyPromptSegmentLib.errors import InputError

SIDE = 256  # pixels of the network's input
LARGE_SIDE = 608  # of images that are seen through a window because their structures are thin
LARGE_FROM = 330
WORKERS = 8
DATA, REGIONS, INDEX = "data.tar", "regions.tar", "index.json"


@dataclass(frozen=True, kw_only=True)
class Pool:
    """All training images of one data set.

    Attributes:
        name: Name of the data set.
        images: uint8 ``(M, 3, s, s)`` on the device, in the upper left corner of a square of ``s`` pixels.
        labels: uint8 ``(M, s, s)`` on the device; bit ``n`` is object ``n``.
        content: Rows and columns that the image fills, int64 ``(M, 2)`` on the device.
        bits: Objects that occur.
        present: Whether an image shows each of them, bool ``(M, len(bits))``.
        patients: Index of the patient of each image, ``(M,)``.
        depth: Position along the volume, -1 to 1, ``(M,)``; None where the images are no volumes.
        volumes: Number of the volume or sweep of each image, whose slices follow one another; -1 for an image by
            itself, ``(M,)``.
        regions: Over-segmentations, uint8 ``(R, s, s)`` on the device, and the image of each, ``(R,)``.
        region_ids: For each over-segmentation the regions that lie on the image's content.
    """

    name: str
    images: torch.Tensor
    labels: torch.Tensor
    content: torch.Tensor
    bits: tuple[int, ...]
    present: np.ndarray
    patients: np.ndarray
    depth: np.ndarray | None
    volumes: np.ndarray
    regions: torch.Tensor | None
    region_images: np.ndarray
    region_ids: tuple[np.ndarray, ...]

    @property
    def side(self) -> int:
        """Side of the square in pixels."""
        return int(self.images.shape[-1])

    def of_patient(self, patient: int) -> np.ndarray:
        """Return the indices of a patient's images."""
        return np.flatnonzero(self.patients == patient)


def _square(picture: np.ndarray, side: int) -> np.ndarray:
    """Place a picture in the upper left corner of a black square."""
    square = np.zeros((side, side, *picture.shape[2:]), np.uint8)
    square[: picture.shape[0], : picture.shape[1]] = picture
    return square


def _read_item(data: tuple[bytes, bytes, bytes | None]) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Decode an image, its labels and its regions, at the size in which they are used."""
    from PIL import Image

    image: Image.Image = Image.open(io.BytesIO(data[0]))
    labels: Image.Image = Image.open(io.BytesIO(data[1]))
    longest = max(image.size)
    if longest <= LARGE_FROM and longest != SIDE:
        width, height = (min(SIDE, max(1, round(n * SIDE / longest))) for n in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        labels = labels.resize((width, height), Image.Resampling.NEAREST)
    regions = None
    if data[2] is not None and longest <= LARGE_FROM:
        regions = np.asarray(Image.open(io.BytesIO(data[2])))
    return np.asarray(image.convert("RGB")), np.asarray(labels), regions


def _depth_of(volumes: Sequence[str | None]) -> np.ndarray | None:
    """Return each slice's position along its volume, whose slices follow one another; None if none is of a volume."""
    if not any(volumes):
        return None
    depth = np.zeros(len(volumes), np.float32)
    for name in sorted({volume for volume in volumes if volume}):
        mine = [index for index, volume in enumerate(volumes) if volume == name]
        depth[mine] = np.linspace(-1, 1, len(mine)) if len(mine) > 1 else 0.0
    return depth


def _numbers_of(volumes: Sequence[str | None]) -> np.ndarray:
    """Return the number of each slice's volume; -1 for an image by itself."""
    number = {name: index for index, name in enumerate(sorted({volume for volume in volumes if volume}))}
    return np.array([number[volume] if volume else -1 for volume in volumes], np.int64)


def build_pool(
    name: str,
    items: list[tuple[np.ndarray, np.ndarray, np.ndarray | None]],
    patients: Sequence[str],
    volumes: Sequence[str | None],
    device: torch.device,
) -> Pool:
    """Build the pool of one data set.

    Args:
        name: Name of the data set.
        items: Image ``(h, w, 3)``, label bits ``(h, w)`` and regions ``(h, w)`` or None, uint8, of each item.
        patients: Patient of each item.
        volumes: Name of the volume of each item, whose slices follow one another; None for an image by itself.
        device: Device that holds the pool.

    Raises:
        InputError: If there is no object.
    """
    sides = [max(item[0].shape[:2]) for item in items]
    side = SIDE if max(sides) <= SIDE else LARGE_SIDE
    images = np.stack([_square(item[0], side) for item in items])
    labels = np.stack([_square(item[1], side) for item in items])
    flat = labels.reshape(len(labels), -1)
    bits = tuple(bit for bit in range(8) if (flat & (1 << bit)).any())
    if not bits:
        raise InputError(f"no image of {name} has a marked object; leave the data set out.")
    number = {patient: index for index, patient in enumerate(sorted(set(patients)))}
    numbers = np.array([number[patient] for patient in patients])
    with_regions = [index for index, item in enumerate(items) if item[2] is not None and side == SIDE]
    regions = [_square(items[index][2], SIDE) for index in with_regions]  # type: ignore[arg-type]
    # The darkest pixels are padding or background, of which there is nothing to learn.
    ids = tuple(
        np.unique(region[images[index].sum(2) > 12]) for index, region in zip(with_regions, regions, strict=True)
    )
    return Pool(
        name=name,
        images=torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(device),
        labels=torch.from_numpy(labels).to(device),
        content=torch.tensor([item[0].shape[:2] for item in items], device=device),
        bits=bits,
        present=np.stack([(flat & (1 << bit)).any(axis=1) for bit in bits], axis=1),
        patients=numbers,
        depth=_depth_of(volumes),
        volumes=_numbers_of(volumes),
        regions=torch.from_numpy(np.stack(regions)).to(device) if regions else None,
        region_images=np.array(with_regions, np.int64),
        region_ids=ids,
    )


def load_pools(
    folder: Path, device: torch.device, leave_out: Sequence[str] = (), report: Callable[[str], None] | None = None
) -> list[Pool]:
    """Load the pools of a pack.

    Args:
        folder: Folder with the two tars.
        device: Device that holds the pools.
        leave_out: Data sets that are not loaded.
        report: Called with a line about each data set.

    Raises:
        InputError: If the folder has no pack.
    """
    if not (folder / DATA).is_file():
        raise InputError(f"{folder} has no {DATA}; pack a data folder first.")
    pools = []
    with tarfile.open(folder / DATA) as data, ThreadPoolExecutor(WORKERS) as workers:
        files = {member.name: member for member in data.getmembers()}
        regions = _members(folder / REGIONS)

        def read(name: str) -> bytes:
            stream = data.extractfile(files[name])
            if stream is None:
                raise InputError(f"{folder / DATA} is damaged: {name} is not a file; pack the data folder again.")
            return stream.read()

        for name, entry in json.loads(read(INDEX)).items():
            if name in leave_out:
                continue
            rows = entry["items"]
            blobs = [
                (
                    read(f"{name}/{row[0]}.webp"),
                    read(f"{name}/{row[0]}.png"),
                    regions.get(f"{name}/{row[0]}.png"),
                )
                for row in rows
            ]
            items = list(workers.map(_read_item, blobs))
            volumes = [row[2] if len(row) > 2 else None for row in rows]
            pools.append(build_pool(name, items, [row[1] for row in rows], volumes, device))
            if report:
                report(f"{name}: {len(items)} images, objects {pools[-1].bits}, {pools[-1].side} pixels")
    return pools


def _members(path: Path) -> dict[str, bytes]:
    """Return the files of a tar by name; empty if there is no tar."""
    found: dict[str, bytes] = {}
    if path.is_file():
        with tarfile.open(path) as archive:
            for member in archive.getmembers():
                stream = archive.extractfile(member)
                if stream is not None:
                    found[member.name] = stream.read()
    return found
