"""Packs the training part of a folder of data sets: two tars that `training.broad.pools` reads.

Images become WebP of 8 bits at no more than the size in which they are used, so that seventy data sets travel in 30 MB.
Validation and test patients are not among them.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from ProxyPromptSegmentLib.data.cases import DATASETS, Case, load_dataset
from ProxyPromptSegmentLib.data.small_sets import load_small_set, small_set_names
from ProxyPromptSegmentLib.data.splits import split
from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.imaging.intensity import intensity_window, window_to_unit
from ProxyPromptSegmentLib.imaging.output_files import safe_output
from ProxyPromptSegmentLib.training.broad.pools import DATA, INDEX, LARGE_FROM, REGIONS, SIDE

LONG_SIDE = {"drive": 600, "drishti_gs": 512}  # thin and small structures keep their resolution
QUALITY = 80
WITH_REGIONS = 120  # images of each set that are over-segmented
FLAT = 8.0  # grey levels of standard deviation below which there are no regions
# Scale, smoothing and smallest region of the over-segmentation (Felzenszwalb and Huttenlocher, 2004) at `SIDE` pixels.
SCALE, SIGMA, SMALLEST = 150, 0.9, 250
MOST_OBJECTS = 8


def training_cases(data: Path) -> Iterable[tuple[str, list[Case]]]:
    """Yield every data set of a folder that has training patients, and their cases."""
    for name in sorted(DATASETS):
        if (data / name).is_dir() and (cases := split(load_dataset(data, name), name).train):
            yield name, cases
    for name in small_set_names(data):
        if cases := load_small_set(data, name).parts["train"]:
            yield name, cases


def write_pack(data: Path, out: Path, report: Callable[[str], None] | None = None) -> None:
    """Write the pack of a folder of data sets.

    Args:
        data: Folder with ``manifest.csv`` and a folder for each data set.
        out: Folder of the two tars; they take their place when they are complete.
        report: Called with a line about each data set.

    Raises:
        InputError: If there is no training case, or scikit-image is not installed.
    """
    try:
        from skimage.segmentation import felzenszwalb
    except ImportError as error:
        raise InputError(
            "the regions of images need scikit-image, which is not installed; install it, or give packed data."
        ) from error
    out.mkdir(parents=True, exist_ok=True)
    index: dict[str, dict[str, list[list[str | None]]]] = {}
    with safe_output(out / REGIONS) as regions_part, safe_output(out / DATA) as data_part:
        with tarfile.open(data_part, "w") as images, tarfile.open(regions_part, "w") as regions:
            for name, cases in training_cases(data):
                rows = index.setdefault(name, {"items": []})["items"]
                total = sum(len(case.images) for case in cases)
                chosen = set(np.linspace(0, total - 1, min(total, WITH_REGIONS)).astype(int).tolist())
                for case in cases:
                    for image, bits in _slices(case):
                        number = f"{len(rows):05d}"
                        _add(images, f"{name}/{number}.webp", image, "WEBP", quality=QUALITY, method=4)
                        _add(images, f"{name}/{number}.png", bits, "PNG", optimize=True)
                        if len(rows) in chosen and (found := _regions(image, felzenszwalb)) is not None:
                            _add(regions, f"{name}/{number}.png", found, "PNG", optimize=True)
                        rows.append([number, case.patient, case.name if len(case.images) > 1 else None])
                if report:
                    report(f"{name}: {len(rows)} images")
            if not index:
                raise InputError(f"{data} has no training patient of a known data set; give a folder that has some.")
            _write(images, INDEX, json.dumps(index).encode())


def _slices(case: Case) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Yield each slice as uint8 grey ``(h, w)`` or colour ``(h, w, 3)``, and its label bits ``(h, w)``."""
    from PIL import Image

    unit = window_to_unit(case.images, intensity_window(case.images))
    side = LONG_SIDE.get(case.dataset, SIDE)
    for pixels, masks in zip((unit * 255).round().astype(np.uint8), case.masks, strict=True):
        bits = np.zeros(pixels.shape[:2], np.uint8)
        for number, mask in enumerate(masks[:MOST_OBJECTS]):
            bits |= mask.astype(np.uint8) << number  # a bit an object: they may overlap
        image, labels = Image.fromarray(pixels), Image.fromarray(bits)
        longest = max(image.size)
        if longest > side:
            width, height = (max(1, round(n * side / longest)) for n in image.size)
            image = image.resize((width, height), Image.Resampling.LANCZOS)
            labels = labels.resize((width, height), Image.Resampling.NEAREST)
        yield np.asarray(image), np.asarray(labels)


def _regions(image: np.ndarray, segment: Callable[..., np.ndarray]) -> np.ndarray | None:
    """Return an over-segmentation at the size in which the image is used; None for large and for flat images."""
    from PIL import Image

    if max(image.shape[:2]) > LARGE_FROM:
        return None
    grey = Image.fromarray(image).convert("L")
    width, height = (min(SIDE, max(1, round(n * SIDE / max(grey.size)))) for n in grey.size)
    pixels = np.asarray(grey.resize((width, height), Image.Resampling.BILINEAR))
    if pixels.std() < FLAT:
        return None
    return np.minimum(segment(pixels, scale=SCALE, sigma=SIGMA, min_size=SMALLEST), 254).astype(np.uint8)


def _add(archive: tarfile.TarFile, name: str, pixels: np.ndarray, kind: str, **options: int | bool) -> None:
    """Add a picture to a tar."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    _write(archive, name, stream.getvalue())


def _write(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
