"""Public data sets as cases: raw intensities, one mask per object, nothing resized or normalised.

The items are those listed in the folder's ``manifest.csv``. Intensity windows are computed in
``imaging.intensity``, resizing in ``networks.letterbox``; ``data.splits`` assigns patients to training, validation
and test.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ProxyPromptSegmentLib.errors import InputError

__all__ = ["DATASETS", "Case", "load_dataset", "unit_of"]

PSFHS_BLOCK = 40
PATIENTS_UNKNOWN = ("psfhs", "endoscene", "colondb")

Spacing = tuple[float, float, float]
Item = tuple[np.ndarray, np.ndarray, "Spacing | None"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One study of one patient: a volume, a sweep or a single image, with its reference masks.

    Attributes:
        dataset: Name of the data set, e.g. ``"promise12"``.
        patient: The unit that a split must not divide: a patient, a sweep or a block of names.
        images: Intensities as stored; float32, shape ``(S, H, W)``, or ``(S, H, W, 3)`` for colour.
        masks: 1 inside each object, 0 outside; uint8, shape ``(S, N, H, W)``; objects may overlap.
        objects: Names of the N objects, in the order of the second axis of ``masks``.
        spacing_mm: Voxel size (slice, row, column) in mm; None if the publisher removed it.
        name: The item's own name in the manifest (a patient may have several items).

    Raises:
        InputError: If the shapes of images and masks do not match.
    """

    dataset: str
    patient: str
    images: np.ndarray
    masks: np.ndarray
    objects: tuple[str, ...]
    spacing_mm: Spacing | None
    name: str = ""

    def __post_init__(self) -> None:
        """Validate that there is one mask for every slice and object."""
        expected = (self.images.shape[0], len(self.objects), *self.images.shape[1:3])
        colour = self.images.ndim == 4 and self.images.shape[3] == 3
        if not (self.images.ndim == 3 or colour) or self.masks.shape != expected:
            raise InputError(
                f"{self.dataset} {self.name}: images have shape {self.images.shape}, masks {self.masks.shape}; with "
                f"{len(self.objects)} objects masks must be {expected}. Check the item's files."
            )


@dataclass(frozen=True)
class DatasetFormat:
    """The format of one data set: its label values per object, and the function that reads its items.

    Attributes:
        objects: Pairs of object name and label values; the object is their union.
        read: Takes the data set's folder, the item's name and the format; returns images, masks, spacing.
    """

    objects: tuple[tuple[str, tuple[int, ...]], ...]
    read: Callable[[Path, str, DatasetFormat], Item]


def unit_of(case: Case, dataset: str = "") -> str:
    """Return the unit of a target over which intervals are computed: its patient, or the image if unknown."""
    return case.name if (dataset or case.dataset) in PATIENTS_UNKNOWN else case.patient


def load_dataset(root: Path, name: str) -> list[Case]:
    """Read every case of one data set, sorted by name.

    Args:
        root: Folder that contains ``manifest.csv`` and one folder per data set.
        name: One of ``DATASETS``.

    Returns:
        The cases. ``ccaus_video`` has one case per sweep, its frames in order; sets of single images
        have one case per image with S = 1.

    Raises:
        InputError: If the name is unknown or a file is missing.
    """
    root = Path(root)
    if name not in DATASETS:
        there = ", ".join(sorted(DATASETS))
        raise InputError(f"unknown data set {name!r}; available are {there}. Give one of these.")
    layout = DATASETS[name]
    items = _items(root, name)
    cases = []
    for item, patient in items:
        images, masks, spacing = layout.read(root / name, item, layout)
        cases.append(
            Case(
                dataset=name,
                patient=patient,
                images=images,
                masks=masks,
                objects=tuple(o for o, _ in layout.objects),
                spacing_mm=spacing,
                name=item,
            )
        )
    return _join_sweeps(cases) if name == "ccaus_video" else cases


def _items(root: Path, name: str) -> list[tuple[str, str]]:
    """Return the names and patients of a data set's items, sorted by name."""
    if name == "prostate158":  # a folder for each patient; the manifest does not list them
        return [(folder.name, folder.name) for folder in sorted((root / name).glob("p158_*"))]
    manifest = root / "manifest.csv"
    if not manifest.is_file():
        raise InputError(f"{manifest} is missing; give the folder of the data sets, which contains it.")
    with manifest.open(newline="", encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row["dataset"] == name]
    items = sorted((row["name"], row["patient"]) for row in rows)
    if name == "psfhs":  # no patient ids; neighbouring names are frames of one sweep, so blocks are the unit
        return [(item, f"block{index // PSFHS_BLOCK:02d}") for index, (item, _) in enumerate(items)]
    return items


def _join_sweeps(cases: list[Case]) -> list[Case]:
    """Join the frames of each sweep, ordered by name, into one case."""
    sweeps: dict[str, list[Case]] = {}
    for case in cases:
        sweeps.setdefault(case.patient, []).append(case)
    return [
        Case(
            dataset=frames[0].dataset,
            patient=sweep,
            images=np.concatenate([frame.images for frame in frames]),
            masks=np.concatenate([frame.masks for frame in frames]),
            objects=frames[0].objects,
            spacing_mm=None,
            name=sweep,
        )
        for sweep, frames in sorted(sweeps.items())
    ]


def _masks(labels: np.ndarray, layout: DatasetFormat) -> np.ndarray:
    """Convert label values ``(S, H, W)`` to masks ``(S, N, H, W)``."""
    return np.stack([np.isin(labels, values) for _, values in layout.objects], axis=1).astype(np.uint8)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"{path} is listed in the manifest but missing. Restore the data set's folder.")
    return path


def _read_npz(folder: Path, item: str, layout: DatasetFormat) -> Item:
    with np.load(_existing(folder / "volumes" / f"{item}.npz"), allow_pickle=False) as stored:
        images, labels, spacing = stored["image"].astype(np.float32), stored["label"], stored["spacing_zyx"]
    k, j, i = (float(s) for s in spacing)
    return images, _masks(labels, layout), ((k, j, i) if min(k, j, i) > 0 else None)


def _read_picture(folder: Path, item: str, layout: DatasetFormat) -> Item:
    from PIL import Image

    jpeg = folder / "images" / f"{item}.jpg"
    with Image.open(jpeg if jpeg.is_file() else _existing(folder / "images" / f"{item}.png")) as image:
        pixels = np.asarray(image, dtype=np.float32)
    with Image.open(_existing(folder / "masks" / f"{item}.png")) as mask:
        labels = np.asarray(mask)
    return pixels[None], _masks(labels[None], layout), None


def _read_nifti(folder: Path, item: str, layout: DatasetFormat) -> Item:
    import SimpleITK

    image = SimpleITK.ReadImage(str(_existing(folder / item / "t2.nii.gz")))
    truth = SimpleITK.ReadImage(str(_existing(folder / item / "t2_anatomy_reader1.nii.gz")))
    images = SimpleITK.GetArrayFromImage(image).astype(np.float32)
    i, j, k = image.GetSpacing()
    return images, _masks(SimpleITK.GetArrayFromImage(truth), layout), (float(k), float(j), float(i))


DATASETS: dict[str, DatasetFormat] = {
    "promise12": DatasetFormat((("prostate", (1,)),), _read_npz),
    "acdc": DatasetFormat((("right ventricle", (1,)), ("myocardium", (2,)), ("left ventricle", (3,))), _read_npz),
    "psfhs": DatasetFormat((("pubic symphysis", (1,)), ("fetal head", (2,))), _read_picture),
    "drishti_gs": DatasetFormat((("optic disc", (1, 2)), ("optic cup", (2,))), _read_picture),
    "drive": DatasetFormat((("vessel", (1,)),), _read_picture),
    "ccaus_video": DatasetFormat((("vessel", (1,)),), _read_picture),
    "colondb": DatasetFormat((("polyp", (1,)),), _read_picture),
    "endoscene": DatasetFormat((("polyp", (1,)),), _read_picture),
    "prostate158": DatasetFormat(
        (("prostate", (1, 2)), ("transition zone", (1,)), ("peripheral zone", (2,))), _read_nifti
    ),
}
