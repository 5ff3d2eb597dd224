"""PROMISE12 as in the paper's Table 2: 58 slices of 3 training patients, and the test patients, by slice and by volume.

    python Testing/benchmarks/promise_table.py DATA OUT --model LEFTOUT --methods before mean unet paper robust adapt

Proxy Prompt with the choices of the recipes `paper` and `robust` at compact size: the image encoder is that of LEFTOUT
and frozen, a prompt generator with random weights and the mask decoder are trained with the recipe's optimiser, losses
and number of supports. *adapt* is `proxyprompt adapt` on the three patients, *before* LEFTOUT as it is, *unet* MONAI's
U-Net on the same slices, *mean* the copied mean mask. ``--seconds`` are processor seconds of each training, adaptation
apart, whose steps are given by ``--steps``.

Everything resumes: trainings are stored every minute, scores after each volume. ``--stop-after`` ends a piece of work
after so many seconds. ``--part validation`` is for choices.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]

import numpy as np
import torch
from adapt_trials import interval, parts
from promise_training import PromptTraining

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.evaluation.few_shot_unet import AnnotatedSlice, FewShotRecipe, train_few_shot
from ProxyPromptSegmentLib.evaluation.mean_mask import predict_mean_mask
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.imaging.metrics import dice, dice_per_slice
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.inference.loading import calibration_of
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.inference.tiling.stack import segment_stack
from ProxyPromptSegmentLib.networks.checkpoints import load_model
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.resources import resource_path
from ProxyPromptSegmentLib.support.case import SupportCase
from ProxyPromptSegmentLib.support.pairs import MAX_SLICES, MOST_READ, SupportPair, SupportSet
from ProxyPromptSegmentLib.training.adapting.cases import AnnotatedCase, check_cases
from ProxyPromptSegmentLib.training.adapting.settings import AdaptSettings
from ProxyPromptSegmentLib.training.adapting.sheets import Sheet
from ProxyPromptSegmentLib.training.adapting.store import FeatureStore
from ProxyPromptSegmentLib.training.recipe import read_recipe
from ProxyPromptSegmentLib.weights.hashing import sha256

PATIENTS, SLICES = 3, 58
VARIANTS = 6  # of each slice, beside itself
SAVE_SECONDS = 60.0
OBJECT = ("prostate",)
METHODS = ("before", "mean", "unet", "paper", "robust", "adapt")


class OutOfTimeError(Exception):
    """The end of a piece of work; the next one continues."""


def chosen_slices(cases: Sequence[Case], count: int) -> list[Case]:
    """Return cases with all slices that show the gland, and as many of those next to it as are wanted.

    Args:
        cases: The cases; each keeps slices that follow one another.
        count: Slices of all together.
    """
    ranges = []
    for case in cases:
        shown = np.flatnonzero(case.masks.any((1, 2, 3)))
        ranges.append([int(shown[0]), int(shown[-1]) + 1])
    turn = 0
    while sum(last - first for first, last in ranges) < count:  # one above, one below, case by case
        first, last = ranges[turn % len(cases)]
        above = turn // len(cases) % 2 == 0
        whole = len(cases[turn % len(cases)].images)
        ranges[turn % len(cases)] = [max(0, first - above), min(whole, last + (not above))]
        turn += 1
    return [
        dataclasses.replace(case, images=case.images[first:last], masks=case.masks[first:last])
        for case, (first, last) in zip(cases, ranges, strict=True)
    ]


def sheets_of(cases: Sequence[Case]) -> list[Sheet]:
    """Return all slices of the cases."""
    return [
        Sheet(case.images[k], case.masks[k], (1.0, 1.0), intensity_window(case.images), number, k)
        for number, case in enumerate(cases)
        for k in range(len(case.images))
    ]


def support_of(sheets: Sequence[Sheet], count: int) -> SupportSet:
    """Return so many of the slices that show the gland, evenly spread."""
    shown = [sheet for sheet in sheets if sheet.shown.any()]
    places = ((np.arange(count) + 0.5) * len(shown) / count).astype(int)
    pairs = [SupportPair(one.image, one.masks, one.spacing_mm, one.window) for one in (shown[n] for n in places)]
    return SupportSet(tuple(pairs), OBJECT)


class Table:
    """The methods, their models and their scores in one folder."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Load the cases."""
        self.args, self.out = args, args.out
        self.end = time.monotonic() + args.stop_after
        train, self.cases = parts(args.data, "promise12", args.part)
        drawn = np.random.default_rng(args.seed).permutation(len(train))[:PATIENTS]
        self.learned = chosen_slices([train[n] for n in sorted(drawn)], SLICES)
        self.sheets = sheets_of(self.learned)
        self.out.mkdir(parents=True, exist_ok=True)

    def check_time(self) -> None:
        """End this piece of work if its time is over."""
        if time.monotonic() > self.end:
            raise OutOfTimeError

    def score(self, method: str) -> None:
        """Train a method and score it on each volume, from wherever it stopped."""
        path = self.out / f"{method}-{self.args.part}.json"
        rows = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if len(rows) == len(self.cases):
            return
        segment = getattr(self, f"_{method}")()
        for case in self.cases:
            if case.name in rows:
                continue
            self.check_time()
            found, truth = segment(case), case.masks[:, 0]
            rows[case.name] = {
                "volume": dice(truth, found),
                "slices": dice_per_slice(truth, found).tolist(),
                "shown": truth.any((1, 2)).tolist(),
                "patient": case.patient,
            }
            path.write_text(json.dumps(rows), encoding="utf-8")

    def _model(self, model: ProxyPromptModel, support: SupportSet, digest: str, about: dict | None, most: int):
        segmenter = Segmenter(model, "cpu", 1, calibration=calibration_of(digest, about), most_read=most)

        def segment(case: Case) -> np.ndarray:
            return segment_stack(segmenter, case.images, support, intensity_window(case.images)).masks()[:, 0]

        return segment

    def _before(self) -> Callable[[Case], np.ndarray]:
        path = Path(self.args.model)
        model, about = load_model(path)
        return self._model(model, support_of(self.sheets, MAX_SLICES), sha256(path), about, MOST_READ)

    def _mean(self) -> Callable[[Case], np.ndarray]:
        masks = np.stack([sheet.masks[0] for sheet in self.sheets if sheet.shown.any()])
        return lambda case: predict_mean_mask(masks, len(case.images))

    def _unet(self) -> Callable[[Case], np.ndarray]:
        slices = [AnnotatedSlice(image=one.image, masks=one.masks, window=one.window) for one in self.sheets]
        unet = train_few_shot(slices, FewShotRecipe(seconds=self.args.seconds, seed=self.args.seed, batch=16))
        print(f"unet: {unet.steps} steps in {unet.seconds:.0f} s", flush=True)
        return lambda case: unet.segment(case.images, intensity_window(case.images))[:, 0]

    def _paper(self) -> Callable[[Case], np.ndarray]:
        return self._trained("paper")

    def _robust(self) -> Callable[[Case], np.ndarray]:
        return self._trained("robust")

    def _trained(self, name: str) -> Callable[[Case], np.ndarray]:
        leftout, _ = load_model(Path(self.args.model))
        recipe = dataclasses.replace(read_recipe(resource_path(f"recipes/{name}.json")), seed=self.args.seed)
        if self.args.warmup is not None:
            recipe = dataclasses.replace(
                recipe, optimizer=dataclasses.replace(recipe.optimizer, warmup_steps=self.args.warmup)
            )
        store = FeatureStore(leftout.backbone.eval(), self.sheets, torch.device("cpu"), self.args.seed)
        store.embed_sheets(CancelToken())
        store.embed_variants(VARIANTS, True, CancelToken())
        training = PromptTraining(recipe, leftout, store, self.args.seconds)
        path = self.out / f"{name}.safetensors"
        training.resume(path)
        saved, losses = time.monotonic(), []
        while not training.done:
            losses.append(training.advance())
            if training.done or time.monotonic() - saved > SAVE_SECONDS or time.monotonic() > self.end:
                training.save(path)
                saved = time.monotonic()
                print(f"{name}: step {training.step}, {training.seconds:.0f} s, {np.mean(losses):.3f}", flush=True)
                losses.clear()
            self.check_time()
        most = recipe.episodes.max_supports
        return self._model(training.result(), support_of(self.sheets, most), "", None, most)

    def _adapt(self) -> Callable[[Case], np.ndarray]:
        os.environ["PROXYPROMPT_CACHE"] = str(self.out / "cache")
        os.environ["PROXYPROMPT_REGISTRY"] = str(self.out / "own.json")
        from ProxyPromptSegmentLib.training.adapting.run import adapt

        kept = self.out / "cache" / "table" / "table.safetensors"
        if not kept.is_file():
            cases = []
            for case in self.learned:
                count, height, width = case.images.shape
                grid = VolumeGeometry((width, height, count), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
                segments = [Segment(OBJECT[0], np.ascontiguousarray(case.masks[:, 0]))]
                volume = Volume(np.ascontiguousarray(case.images), grid, case.name)
                cases.append(AnnotatedCase(case.name, SupportCase(volume, Segmentation(segments, grid))))
            settings = AdaptSettings(
                model=str(self.args.model), steps=self.args.steps, variants=4, seed=self.args.seed, threads=1
            )
            cancel = CancelToken()

            def report(how: object) -> None:
                if time.monotonic() > self.end:
                    cancel.cancel()

            result = adapt(check_cases(cases), "table", settings, "cpu", True, cancel=cancel, report=report)
            if result.cancelled:
                raise OutOfTimeError
            print(f"adapt: {result.verdict}, {result.seconds:.0f} s", flush=True)
        model, about = load_model(kept)
        return self._model(model, support_of(self.sheets, MAX_SLICES), sha256(kept), about, MOST_READ)

    def show(self) -> None:
        """Print what is there."""
        print(f"{sum(len(c.images) for c in self.learned)} slices of {[c.patient for c in self.learned]}, "
              f"{sum(one.shown.any() for one in self.sheets)} with the gland; {len(self.cases)} volumes")  # fmt: skip
        for method in METHODS:
            path = self.out / f"{method}-{self.args.part}.json"
            rows = list(json.loads(path.read_text(encoding="utf-8")).values()) if path.is_file() else []
            if len(rows) == len(self.cases):
                print(f"{method:8}", *(_said(rows, which) for which in ("volume", "shown", "all")), sep="  ")


def _said(rows: Sequence[dict], which: str) -> str:
    """Return a mean with its interval over patients: of volumes, of slices that show the gland, or of all slices."""
    scores, patients = [], []
    for row in rows:
        mine = [row["volume"]] if which == "volume" else row["slices"]
        if which == "shown":
            mine = [score for score, shown in zip(mine, row["shown"], strict=True) if shown]
        scores += mine
        patients += [row["patient"]] * len(mine)
    low, high = interval(np.array(scores), patients)
    return f"{which} {np.mean(scores):.3f} [{low:.3f}, {high:.3f}]"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=METHODS)
    parser.add_argument("--seconds", type=float, default=900.0)
    parser.add_argument("--steps", type=int, default=60, help="of each training of the adaptation")
    parser.add_argument("--warmup", type=int, help="steps, instead of the recipe's")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--part", default="test", choices=("validation", "test"))
    parser.add_argument("--stop-after", type=float, default=float("inf"), help="seconds")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    table = Table(args)
    try:
        for method in args.methods:
            table.score(method)
    except OutOfTimeError:
        table.show()
        return 7
    table.show()
    return 0


if __name__ == "__main__":
    sys.exit(main())
