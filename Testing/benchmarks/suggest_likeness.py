"""Which measure of likeness finds a support of the same kind, and when nothing resembles; tables of suggest.md.

    python Testing/benchmarks/suggest_likeness.py DATA_FOLDER --model sam-compact

Cases are training and validation patients of six public sets, never test patients. Each is the target once; the
library has the training cases of other patients. A suggestion is right if the first one shows the same organ in the
same modality. For the warning the best support of the same kind (no warning wanted) and the best of all other kinds
(warning wanted) are compared with a threshold; `likeness._UNLIKE` was chosen on training patients of both compact
models together.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ProxyPromptSegmentLib.data.cases import load_dataset
from ProxyPromptSegmentLib.data.splits import split
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.inference.loading import load
from ProxyPromptSegmentLib.review.likeness import RESEMBLES, cells, distance, distance_of_unlike, likeness_of, spread

KINDS = {
    "promise12": "prostate MRI",
    "acdc": "heart MRI",
    "psfhs": "pelvic ultrasound",
    "drishti_gs": "fundus",
    "drive": "fundus",
    "ccaus_video": "carotid ultrasound",
}
MOST = {"psfhs": (42, 20)}  # single pictures: a share of them


def unit(values: np.ndarray) -> np.ndarray:
    return values / (np.linalg.norm(values, axis=-1, keepdims=True) + 1e-9)


def mean_cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Candidate: cosine of the mean embeddings."""
    return float(unit(one.mean(axis=0)) @ unit(other.mean(axis=0)))


def statistics(one: np.ndarray, other: np.ndarray) -> float:
    """Candidate: difference of each channel's mean and spread, in units of the spread."""
    spread_one, spread_other = one.std(axis=0) + 1e-6, other.std(axis=0) + 1e-6
    means = (one.mean(axis=0) - other.mean(axis=0)) ** 2 / (spread_one * spread_other)
    return -float((means + np.log(spread_one / spread_other) ** 2).mean())


def nearest_cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Candidate: mean cosine of each cell to the most alike, both ways."""
    table = unit(one) @ unit(other).T
    return float(table.max(axis=0).mean() + table.max(axis=1).mean()) / 2


MEASURES = {
    "cosine of means": mean_cosine,
    "means and spreads": statistics,
    "nearest cell, cosine": nearest_cosine,
    "nearest cell, in spreads": lambda one, other: -float(np.log(distance(one, other))),
}


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="sam-compact")
    options = parser.parse_args()
    segmenter = load(options.model, "cpu").segmenter
    rows = []  # kind, patient, part, cells as target, cells as support
    for name, kind in KINDS.items():
        parts = split(load_dataset(options.data, name), name)
        for number, (part, cases) in enumerate((("train", parts.train), ("validation", parts.validation))):
            if name in MOST:
                picked = np.random.default_rng(0).choice(len(cases), MOST[name][number], replace=False)
                cases = [cases[n] for n in picked]
            for case in cases:
                window, spacing = intensity_window(case.images), (case.spacing_mm or (1, 1, 1))[1:]
                marked = np.flatnonzero(case.masks.any(axis=(1, 2, 3)))
                numbers = (spread(len(case.images)), marked[spread(len(marked))])
                looks = [cells(segmenter.encode(case.images[n], window, spacing)) for n in numbers]
                rows.append((kind, f"{name} {case.patient}", part, *looks))
    unlike = distance_of_unlike(segmenter)
    print(f"{options.model}: {len(rows)} cases, distance of what is unlike {unlike:.4f}")
    for label, measure in MEASURES.items():
        table = np.array([[measure(row[3], other[4]) for other in rows] for row in rows])
        limit = None
        for part in ("train", "validation"):
            first, same, others = judge(rows, table, part)
            if limit is None:
                values = np.sort(np.concatenate([same, others]))
                limit = min(values, key=lambda t: np.mean(same < t) + np.mean(others >= t))
            alarms, misses = 100 * np.mean(same < limit), 100 * np.mean(others >= limit)
            print(f"{label:26s} {part:10s} n {len(same)}: first right {100 * np.mean(first):.1f} %; own threshold "
                  f"{limit:.4f}: false alarms {alarms:.1f} %, misses {misses:.1f} %")  # fmt: skip
    table = np.array([[likeness_of(distance(row[3], other[4]), unlike) for other in rows] for row in rows])
    for part in ("train", "validation"):
        first, same, others = judge(rows, table, part)
        alarms, misses = 100 * np.mean(same < RESEMBLES), 100 * np.mean(others >= RESEMBLES)
        print(f"{'as shipped':26s} {part:10s} n {len(same)}: first right {100 * np.mean(first):.1f} %; threshold "
              f"{RESEMBLES}: false alarms {alarms:.1f} %, misses {misses:.1f} %")  # fmt: skip
        for label, values in (("the same kind", same), ("other kinds", others)):
            print(f"    likeness of {label}: 10 %, 50 %, 90 %: {np.quantile(values, (0.1, 0.5, 0.9)).round(2)}")


def judge(rows: list, table: np.ndarray, part: str) -> tuple[list[bool], np.ndarray, np.ndarray]:
    """Whether the first suggestion is right, and the best value among the same kind and among the others."""
    kinds, patients, parts = (np.array([row[n] for row in rows]) for n in range(3))
    first, same, others = [], [], []
    for n in np.flatnonzero(parts == part):
        library = (parts == "train") & (patients != patients[n])
        alike = library & (kinds == kinds[n])
        if alike.any():
            same.append(table[n, alike].max())
            others.append(table[n, library & ~alike].max())
            first.append(bool(same[-1] > others[-1]))
    return first, np.array(same), np.array(others)


if __name__ == "__main__":
    main()
