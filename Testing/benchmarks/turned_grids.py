"""What a turn of the target's grid changes: the table of Docs/results/turned_grids.md.

    python Testing/benchmarks/turned_grids.py PROSTATE158_FOLDER

The anatomy of a case is resampled on grids that are turned about each axis, and segmented with the other case as the
support; each result is brought back to the untilted grid and compared with the untilted result by its Dice. Two grids:
``acquired``, with the case's own voxels, whose slices are thick, and ``cubic``. ``header`` turns header and voxels
together, so that the masks are to be identical.
"""

from __future__ import annotations

import argparse
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
import SimpleITK as sitk

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ProxyPromptSegmentLib import SupportCase, Volume, load_model, read_segmentation, read_volume
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation
from ProxyPromptSegmentLib.inference.volume_result import VolumeResult

AXES = {"left": 0, "posterior": 1, "superior": 2}
ANGLES = (0, 30, 44, 46, 60, 90)
CUBIC_MM = 1.0


def read_case(folder: Path) -> SupportCase:
    """An image and its gland, zones joined."""
    volume = read_volume(folder / "t2.nii.gz")
    marks = read_segmentation(folder / "t2_anatomy_reader1.nii.gz", volume.geometry)
    gland = np.any([one.mask > 0 for one in marks.segments], axis=0).astype(np.uint8)
    return SupportCase(volume, Segmentation([Segment("prostate", gland)], volume.geometry))


def drawn_cases() -> list[SupportCase]:
    """Two drawn pelves and their prostates."""
    return [SupportCase(*pelvis_phantom(seed, (24, 160, 160), oblique=False)) for seed in (1, 2)]


def rotation(degrees: float, about: int) -> np.ndarray:
    """The matrix of a rotation about a world axis."""
    a, one, two = np.deg2rad(degrees), (about + 1) % 3, (about + 2) % 3
    matrix = np.eye(3)
    matrix[[one, one, two, two], [one, two, one, two]] = np.cos(a), -np.sin(a), np.sin(a), np.cos(a)
    return matrix


def turned(geometry: VolumeGeometry, degrees: float, about: int, cubic: bool) -> VolumeGeometry:
    """A grid that is turned about the middle of another and covers all of it."""
    spacing = np.full(3, CUBIC_MM) if cubic else np.array(geometry.spacing_mm)
    direction = rotation(degrees, about) @ geometry.direction
    last = np.array(geometry.size_ijk) - 1.0
    corners = geometry.index_to_lps(np.array(list(product((0, 1), repeat=3))) * last) @ direction
    size = np.floor((corners.max(axis=0) - corners.min(axis=0)) / spacing + 1e-6).astype(int) + 1
    middle = geometry.index_to_lps(last / 2)
    origin = middle - direction @ ((size - 1) / 2 * spacing)
    return VolumeGeometry(tuple(size), tuple(spacing), tuple(origin), direction)


def parallel_to(support: SupportCase, geometry: VolumeGeometry) -> SupportCase:
    """A support whose header has the directions of another volume; its patients were tilted otherwise."""
    own = support.volume.geometry
    laid = VolumeGeometry(own.size_ijk, own.spacing_mm, own.origin_lps, geometry.direction)
    marks = Segmentation(support.segmentation.segments, laid)
    return SupportCase(Volume(support.volume.array, laid, support.volume.name), marks)


def image_of(array: np.ndarray, geometry: VolumeGeometry) -> sitk.Image:
    """An array on its grid."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(geometry.spacing_mm)
    image.SetOrigin(geometry.origin_lps)
    image.SetDirection(geometry.direction.ravel().tolist())
    return image


def resampled(array: np.ndarray, geometry: VolumeGeometry, on: VolumeGeometry, linear: bool = True) -> np.ndarray:
    """An array on another grid; the background is the lowest value."""
    grid = image_of(np.zeros(on.shape_kji, array.dtype), on)
    way = sitk.sitkLinear if linear else sitk.sitkNearestNeighbor
    return sitk.GetArrayFromImage(
        sitk.Resample(image_of(array, geometry), grid, sitk.Transform(), way, float(array.min()))
    )


def plain(found: VolumeResult) -> str:
    """How the target was read, by the note on it."""
    text = " ".join(note.text for note in found.notes)
    for part, word in (
        ("support's plane", "resliced"),
        ("as they are stored", "stored"),
        ("cannot be known", "unknown"),
    ):
        if part in text:
            return word
    return "header"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="by default, drawn pelves")
    parser.add_argument("--grids", nargs="+", default=["header", "cubic", "acquired"])
    parser.add_argument("--parallel", action="store_true", help="first lay the support parallel to the target")
    parser.add_argument("--angles", nargs="+", type=int, default=ANGLES)
    options = parser.parse_args()
    model = load_model(device="cpu")
    cases = drawn_cases() if options.folder is None else [read_case(one) for one in sorted(options.folder.iterdir())]
    print("| target | grid | axis | degrees | Dice with the untilted result | Dice with the truth | seconds | read |")
    print("|---|---|---|---|---|---|---|---|")
    for number, case in enumerate(cases):
        support, target, own = cases[1 - number], case.volume, case.volume.geometry
        if options.parallel:
            support = parallel_to(support, own)
        truth = case.segmentation.segments[0].mask > 0
        for grid in options.grids:
            flat = own if grid != "cubic" else turned(own, 0, 0, True)
            first = model.segment([support], Volume(resampled(target.array, own, flat), flat, "target"))
            reference = first.segmentation.segments[0].mask
            for name, about in AXES.items():
                for degrees in options.angles:
                    start = time.perf_counter()
                    if grid == "header":
                        matrix = rotation(degrees, about)
                        geometry = VolumeGeometry(
                            own.size_ijk, own.spacing_mm, tuple(matrix @ own.origin_lps), matrix @ own.direction
                        )
                        one = model.segment([support], Volume(target.array, geometry, "target"))
                        back, seen, right = one.segmentation.segments[0].mask, reference, truth
                    else:
                        geometry = turned(own, degrees, about, grid == "cubic")
                        volume = Volume(resampled(target.array, own, geometry), geometry, "target")
                        one = model.segment([support], volume)
                        mask = one.segmentation.segments[0].mask
                        back = resampled(mask.astype(np.float32), geometry, flat) >= 0.5
                        seen = reference
                        right = resampled(truth.astype(np.float32), own, flat) >= 0.5
                    score, against = dice(back > 0, seen > 0), dice(back > 0, right)
                    took = time.perf_counter() - start
                    figures = (f"{score:.3f}", f"{against:.3f}", f"{took:.1f}")
                    cells = (number + 1, grid, name, degrees, *figures, plain(one))
                    print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
