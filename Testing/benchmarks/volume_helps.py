"""What positions and registered supports change for volumes: the second table of Docs/results/registration.md.

    python Testing/benchmarks/volume_helps.py DATA_FOLDER --model sam-compact --weight 0.2 0.35 0.5

Targets are the validation volumes of PROMISE12 and ACDC, supports K slices of as many training patients, whose volumes
are registered. Differences are paired by target and draw; intervals are over patients. Settings are chosen here, never
on test patients.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ProxyPromptSegmentLib.data.cases import Case, load_dataset
from ProxyPromptSegmentLib.data.splits import split
from ProxyPromptSegmentLib.evaluation.broad.supports import slices_with_all
from ProxyPromptSegmentLib.evaluation.in_context import pair_of
from ProxyPromptSegmentLib.imaging.intensity import intensity_window, window_to_unit
from ProxyPromptSegmentLib.imaging.metrics import dice, summarize
from ProxyPromptSegmentLib.inference.helps import Helps
from ProxyPromptSegmentLib.inference.loading import load
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.support.pairs import SupportSet
from ProxyPromptSegmentLib.support.registration.prior import MarkedStack, register
from ProxyPromptSegmentLib.support.registration.stack import Stack

SETS = ("promise12", "acdc")


def depths_of(case: Case) -> np.ndarray:
    """Position of each slice along its volume."""
    return np.linspace(-1, 1, len(case.images), dtype=np.float32)


def stack_of(case: Case) -> Stack:
    """A case's slices; distances are known only for some sets."""
    unit = window_to_unit(case.images, intensity_window(case.images))
    return Stack(unit, case.spacing_mm or (1.0, 1.0, 1.0), measured=case.spacing_mm is not None)


def drawn(pool: list[Case], target: Case, count: int, seed: int) -> list[tuple[Case, int]]:
    """A slice of each of so many patients, with every object."""
    rng = np.random.default_rng([seed, *target.name.encode()])
    patients = rng.permutation(sorted({case.patient for case in pool}))[:count]
    chosen = []
    for patient in patients:
        cases = [case for case in pool if case.patient == patient]
        case = cases[int(rng.integers(len(cases)))]
        shown = slices_with_all(case)
        chosen.append((case, shown[int(rng.integers(len(shown)))]))
    return chosen


def ends_missed(truth: np.ndarray, masks: np.ndarray) -> list[bool]:
    """Whether the first and the last slice of each object are empty."""
    missed = []
    for number in range(truth.shape[1]):
        shown = np.flatnonzero(truth[:, number].any(axis=(1, 2)))
        missed += [not masks[index, number].any() for index in shown[[0, -1]]]
    return missed


def conditions(target: Case, prior: np.ndarray | None, weights: list[float]) -> dict[str, Helps]:
    """What the network is given."""
    depths = depths_of(target)
    made = {"nothing": Helps(), "position": Helps(depths=depths)}
    if weights:
        made["registered, as mask prompt"] = Helps(prior=prior, joined_with=0, as_prompt=True)
    for weight in weights:
        made[f"registered, joined with {weight:g}"] = Helps(prior=prior, joined_with=weight)
    return made


def measure(segmenter: Segmenter, name: str, cases: tuple[list[Case], list[Case]], options: argparse.Namespace) -> None:
    """Prints a row for each condition of a data set."""
    pool, targets = cases
    scores: dict[str, dict[str, list[list[float]]]] = {}
    missed: dict[str, list[bool]] = {}
    alone: dict[str, list[list[float]]] = {}
    for target in targets:
        encoded: dict = {}
        for seed in range(options.draws):
            chosen = drawn(pool, target, options.supports, seed)
            pairs = []
            for case, index in chosen:
                pair = pair_of(case, index)
                object.__setattr__(pair, "depth", float(depths_of(case)[index]))
                pairs.append(pair)
            prepared = segmenter.prepare(SupportSet(tuple(pairs), target.objects))
            prior = None
            if options.weight:
                volumes = [MarkedStack(case.name, stack_of(case), case.masks) for case, _ in chosen]
                prior = register(volumes, stack_of(target)).masks
                found = np.zeros(target.masks.shape) if prior is None else prior
                alone.setdefault(target.patient, []).append(
                    [dice(target.masks[:, n], found[:, n] >= 0.5) for n in range(found.shape[1])]
                )
            for condition, helps in conditions(target, prior, options.weight).items():
                result = segmenter.segment(target.images, prepared, encoded=encoded, helps=helps)
                masks = result.masks()
                each = [dice(target.masks[:, n], masks[:, n]) for n in range(masks.shape[1])]
                scores.setdefault(condition, {}).setdefault(target.patient, []).append(each)
                missed.setdefault(condition, []).extend(ends_missed(target.masks, masks))
        print(f"{name} {target.name} done", file=sys.stderr, flush=True)
    plain = scores["nothing"]
    for condition, by in scores.items():
        means = np.mean([np.mean(rows, axis=0) for rows in by.values()], axis=0)
        paired = [np.mean(np.array(rows) - np.array(plain[patient])) for patient, rows in by.items()]
        change = summarize(paired)
        print(
            f"| {name} | {condition} | {' / '.join(f'{value:.3f}' for value in means)} | {change.mean:+.3f} "
            f"[{change.low:+.3f}, {change.high:+.3f}] | {np.mean(missed[condition]):.2f} |",
            flush=True,
        )
    if alone:
        means = np.mean([np.mean(rows, axis=0) for rows in alone.values()], axis=0)
        print(f"| {name} | registration alone | {' / '.join(f'{value:.3f}' for value in means)} | | |", flush=True)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="sam-compact")
    parser.add_argument("--supports", type=int, default=4, help="K")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--weight", type=float, nargs="*", default=[], help="weights of the registered masks")
    options = parser.parse_args()
    segmenter = load(options.model, "cpu").segmenter
    print("| set | given beside the images | Dice | change, paired | first and last slices missed |")
    print("|---|---|---|---|---|")
    for name in SETS:
        parts = split(load_dataset(options.data, name), name)
        measure(segmenter, name, (parts.train, parts.validation), options)


if __name__ == "__main__":
    main()
