"""What a turned grid can keep at best: the second table of Docs/results/turned_grids.md.

    python Testing/benchmarks/turned_ceilings.py PROSTATE158_FOLDER

For each case, with the other as its support: the annotation brought to a turned grid of 1 mm and back, the annotation
drawn on the grid in the support's plane and brought back as a result is, and the image seen through the turned grid.
With ``--network`` also the untilted target segmented as it is stored and in the support's plane, on every second slice.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from turned_grids import dice, read_case, resampled, turned

from ProxyPromptSegmentLib import SupportCase, Volume, load_model
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry, auto_axis
from ProxyPromptSegmentLib.support.orientation import frame_of
from ProxyPromptSegmentLib.support.reslicing import Reslicing

ANGLES = (30, 44, 46, 60)


def moved(mask: np.ndarray, geometry: VolumeGeometry, on: VolumeGeometry) -> np.ndarray:
    """A mask on another grid."""
    return resampled(mask.astype(np.float32), geometry, on) >= 0.5


def in_plane(target: Volume, support: SupportCase) -> Reslicing:
    """The grid of a target in the plane of a support."""
    grid = support.volume.geometry
    axis = auto_axis(grid)
    return Reslicing.parallel(target, frame_of(grid, axis), grid, axis)


def without_network(number: int, case: SupportCase, support: SupportCase) -> None:
    """Print what resampling alone costs."""
    own = case.volume.geometry
    flat = turned(own, 0, 0, True)
    truth = moved(case.segmentation.segments[0].mask, own, flat)
    for degrees in ANGLES:
        tilted = turned(own, degrees, 0, True)
        target = Volume(resampled(case.volume.array, own, tilted), tilted, "target")
        plane = in_plane(target, support)
        there = dice(moved(moved(truth, flat, tilted), tilted, flat), truth)
        drawn = moved(truth, flat, plane.geometry).astype(np.float32)
        back = dice(moved(plane.brought_back(drawn, tilted) >= 0.5, tilted, flat), truth)
        through, direct = plane.volume(target).array, resampled(case.volume.array, own, plane.geometry)
        inside = resampled(np.ones_like(case.volume.array), own, plane.geometry) > 0.99
        alike = np.corrcoef(through[inside], direct[inside])[0, 1]
        print(f"| {number} | {degrees} | {there:.3f} | {back:.3f} | {alike:.4f} |", flush=True)


def with_network(number: int, case: SupportCase, support: SupportCase) -> None:
    """Print what the plane costs, without any turn."""
    model, own = load_model(device="cpu"), case.volume.geometry
    stored = model.segment([support], case.volume).segmentation.segments[0].mask > 0
    plane = in_plane(case.volume, support)
    truth = moved(case.segmentation.segments[0].mask, own, plane.geometry)
    seen = moved(stored, own, plane.geometry)
    slices = np.flatnonzero((truth | seen).any(axis=(1, 2)))[::2].tolist()
    again = model.segment([support], plane.volume(case.volume), slices=slices).segmentation.segments[0].mask > 0
    same, right, before = (
        dice(one[slices], other[slices]) for one, other in ((again, seen), (again, truth), (seen, truth))
    )
    print(f"| {number} | in the support's plane | {same:.3f} | truth {right:.3f}, as stored {before:.3f} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--network", action="store_true")
    options = parser.parse_args()
    cases = [read_case(one) for one in sorted(options.folder.iterdir())]
    for number, case in enumerate(cases):
        without_network(number + 1, case, cases[1 - number])
        if options.network:
            with_network(number + 1, case, cases[1 - number])


if __name__ == "__main__":
    main()
