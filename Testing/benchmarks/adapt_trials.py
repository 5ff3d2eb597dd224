"""What adaptation gains on validation patients: one training on slices of training patients, without folds.

    python Testing/benchmarks/adapt_trials.py DATA acdc --patients 16 --steps 60 --trained all

One slice of each patient is learned from, or with ``--volumes`` all that an adaptation takes of whole volumes. Prints
Dice of the validation patients before and after, for shares of the way from the first weights, the copied mean mask
beside, and processor seconds. With ``--part test`` it reports test patients instead: once, after everything was chosen
on validation patients. ``--beside`` scores another model on the same patients with the same supports.

``--unet 170 900`` trains MONAI's U-Net on the same slices alone, from random weights, for so many processor seconds
each, and scores it and the copied mean mask on the same patients; with ``--steps 0`` nothing else is done:

    python Testing/benchmarks/adapt_trials.py DATA psfhs --patients 16 --steps 0 --unet 170 900 --part test --limit 60
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch

from ProxyPromptSegmentLib.data.cases import DATASETS, Case, load_dataset
from ProxyPromptSegmentLib.data.small_sets import load_small_set
from ProxyPromptSegmentLib.data.splits import read_split
from ProxyPromptSegmentLib.evaluation.broad.baselines import stretch
from ProxyPromptSegmentLib.evaluation.few_shot_unet import AnnotatedSlice, FewShotRecipe, train_few_shot
from ProxyPromptSegmentLib.evaluation.mean_mask import mean_mask
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.inference.loading import calibration_of
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.inference.tiling.stack import segment_stack
from ProxyPromptSegmentLib.inference.tiling.tiler import logit_side
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.support.case import SupportCase
from ProxyPromptSegmentLib.support.pairs import SupportSet
from ProxyPromptSegmentLib.training.adapting.beginning import begin
from ProxyPromptSegmentLib.training.adapting.cases import AnnotatedCase, check_cases
from ProxyPromptSegmentLib.training.adapting.episodes import EpisodeSource
from ProxyPromptSegmentLib.training.adapting.settings import ALL, ENCODER, PROMPT, AdaptSettings
from ProxyPromptSegmentLib.training.adapting.sheets import Sheets, cut_sheets, support_set, supports_of
from ProxyPromptSegmentLib.training.adapting.stage import Stage
from ProxyPromptSegmentLib.training.adapting.store import FeatureStore
from ProxyPromptSegmentLib.training.adapting.variants import may_be_mirrored
from ProxyPromptSegmentLib.training.adapting.weights import between, put, trained_names


def parts(data: Path, name: str, part: str) -> tuple[list[Case], list[Case]]:
    """Return training cases of a set and those of a part."""
    if name in DATASETS:
        cases, split = load_dataset(data, name), read_split(name)
        return tuple([case for case in cases if case.patient in split[one]] for one in ("train", part))
    found = load_small_set(data, name).parts
    return found["train"], found[part]


def spread(cases: list[Case], limit: int | None) -> list[Case]:
    """Return at most ``limit`` cases, evenly spread."""
    if limit is None or len(cases) <= limit:
        return cases
    return [cases[n] for n in np.linspace(0, len(cases) - 1, limit).round().astype(int)]


def one_slice(case: Case, place: int) -> AnnotatedCase | None:
    """Return a slice of a case that shows all objects as a case of its own."""
    shown = np.flatnonzero(case.masks.any((2, 3)).all(1))
    if not len(shown):
        return None
    k = int(shown[place % len(shown)])
    images, masks = case.images[k : k + 1], case.masks[k : k + 1]
    _, row, column = case.spacing_mm or (1.0, 1.0, 1.0)
    grid = VolumeGeometry((images.shape[2], images.shape[1], 1), (column, row, 1.0), (0.0, 0.0, 0.0))
    segments = [Segment(name, np.ascontiguousarray(masks[:, n])) for n, name in enumerate(case.objects)]
    return AnnotatedCase(case.name, SupportCase(Volume(images, grid, case.name), Segmentation(segments, grid)))


def whole(case: Case) -> AnnotatedCase:
    """Return all slices of a case, as a clinic has them."""
    between, row, column = case.spacing_mm or (1.0, 1.0, 1.0)
    grid = VolumeGeometry(
        (case.images.shape[2], case.images.shape[1], len(case.images)), (column, row, between), (0.0, 0.0, 0.0)
    )
    segments = [Segment(name, np.ascontiguousarray(case.masks[:, n])) for n, name in enumerate(case.objects)]
    return AnnotatedCase(case.name, SupportCase(Volume(case.images, grid, case.name), Segmentation(segments, grid)))


def interval(scores: np.ndarray, patients: list[str]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the mean of scores ``(n,)`` over patients."""
    names = sorted(set(patients))
    groups = [scores[[patient == name for patient in patients]] for name in names]
    rng = np.random.default_rng(0)
    means = [np.concatenate([groups[n] for n in rng.integers(len(names), size=len(names))]).mean() for _ in range(2000)]
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def say(title: str, scores: np.ndarray, patients: list[str], more: str = "") -> None:
    """Print mean Dice ``(n, N)`` of each object and of all, with an interval over patients."""
    low, high = interval(scores.mean(1), patients)
    print(f"{title}: {scores.mean(0).round(3)}, mean {scores.mean():.4f} [{low:.3f}, {high:.3f}]{more}", flush=True)


def tested(cases: Sequence[Case], segment: Callable[[Case], np.ndarray]) -> np.ndarray:
    """Return Dice ``(n, N)`` of each case and object; ``segment`` returns masks ``(S, N, H, W)``."""
    rows = []
    for case in cases:
        masks = segment(case)
        rows.append([dice(case.masks[:, n], masks[:, n]) for n in range(masks.shape[1])])
    return np.array(rows)


def copied(supports: SupportSet) -> Callable[[Case], np.ndarray]:
    """Return a function that copies the mean mask of the supports onto each slice of a case."""

    def segment(case: Case) -> np.ndarray:
        shape = (case.images.shape[1], case.images.shape[2])
        mask = mean_mask(np.stack([stretch(pair.masks, shape) for pair in supports.pairs]))
        return np.repeat(mask[None], len(case.images), axis=0)

    return segment


def beside_unet(cases: Sequence[Case], sheets: Sheets, seconds: float, mirror: bool, seed: int = 1) -> None:
    """Train a U-Net on the slices that are learned from, and print its scores."""
    slices = [AnnotatedSlice(image=one.image, masks=one.masks, window=one.window) for one in sheets.slices]
    unet = train_few_shot(slices, FewShotRecipe(seconds=seconds, mirror=mirror, seed=seed))
    scores = tested(cases, lambda case: unet.segment(case.images, intensity_window(case.images)))
    more = f"; {unet.steps} steps in {unet.seconds:.0f} s"
    say(f"U-Net (monai), {seconds:g} s", scores, [case.patient for case in cases], more)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("set")
    parser.add_argument("--model", default="sam-compact")
    parser.add_argument("--patients", type=int, default=16)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--variants", type=int, default=4)
    parser.add_argument("--trained", default=AdaptSettings.trained, choices=(ALL, PROMPT, ENCODER))
    parser.add_argument("--volumes", action="store_true", help="learn from all slices of the patients, not from one")
    parser.add_argument("--seed", type=int, default=AdaptSettings.seed)
    parser.add_argument("--rate", type=float, default=AdaptSettings.learning_rate)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--part", default="validation", choices=("validation", "test"))
    parser.add_argument("--limit", type=int, help="largest number of tested cases, evenly spread")
    parser.add_argument("--beside", help="another model, scored on the same patients")
    parser.add_argument("--unet", type=float, nargs="+", default=[], help="processor seconds of U-Nets beside it")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    train, validation = parts(args.data, args.set, args.part)
    validation = spread(validation, args.limit)
    firsts = list({case.patient: case for case in reversed(train)}.values())[::-1][: args.patients]
    made = [whole(case) if args.volumes else one_slice(case, 7 * (n + 1)) for n, case in enumerate(firsts)]
    checked = check_cases([one for one in made if one is not None], allow_single=args.patients == 1)
    settings = AdaptSettings(
        model=args.model,
        steps=args.steps or None,
        variants=args.variants,
        trained=args.trained,
        learning_rate=args.rate,
        seed=args.seed,
    )
    begun = begin(args.model)
    model, cpu = begun.model, torch.device("cpu")
    sheets = cut_sheets(checked, logit_side(model.backbone))
    mirror = may_be_mirrored(sheets.objects, sheets.slices)
    supports = support_set(sheets.objects, supports_of(sheets, range(len(checked.cases))))
    patients = [case.patient for case in validation]
    learned = [checked.patients, len(sheets.slices)]
    print(f"{learned[1]} slices of {learned[0]} patients; {len(validation)} cases of {len(set(patients))}", flush=True)
    say("copied mean mask", tested(validation, copied(supports)), patients)
    for seconds in args.unet:
        beside_unet(validation, sheets, seconds, mirror, settings.seed)
    if not args.steps:
        return
    began = time.process_time()
    stores = [FeatureStore(model.backbone, some, cpu, args.seed) for some in (sheets.slices, sheets.tiles) if some]
    for store in stores if args.trained != ENCODER else []:
        store.embed_sheets(CancelToken())
        store.embed_variants(args.variants, mirror, CancelToken())

    def test(network, title: str, digest: str = begun.sha256) -> None:
        segmenter = Segmenter(network, cpu, 1, calibration=calibration_of(digest), most_read=4)

        def segment(case: Case) -> np.ndarray:
            _, row, column = case.spacing_mm or (1.0, 1.0, 1.0)
            found = segment_stack(segmenter, case.images, supports, intensity_window(case.images), (row, column))
            return found.masks()

        scores = tested(validation, segment)
        say(title, scores, patients, f"; {time.process_time() - began:.0f} s")

    test(copy.deepcopy(model), "before")
    if args.beside:
        other = begin(args.beside)
        test(other.model, f"beside: {other.name}", other.sha256)
    own = dict(model.named_parameters())
    start = {name: own[name].detach().clone() for name in trained_names(model, args.trained)}
    drawn = [(stores[0], sheets.in_whole)] if sheets.in_whole else []
    drawn += [(stores[-1], tuple(range(len(sheets.in_tiles))))] if sheets.tiles else []
    sources = [EpisodeSource(store, objects, sheets.patients, settings, mirror) for store, objects in drawn]
    stage = Stage(copy.deepcopy(model), start, sources, range(len(checked.cases)), 0, args.steps, settings)
    before = time.process_time()
    while not stage.done:
        stage.advance()
    print(f"{(time.process_time() - before) / args.steps:.2f} processor seconds a step")
    for share in settings.shares:
        put(model, between(start, stage.average, share))
        test(copy.deepcopy(model), f"share {share:g}")


if __name__ == "__main__":
    main()
