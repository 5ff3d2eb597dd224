"""A complete adaptation: features, folds that test it, a last training on all cases, and a name."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ProxyPromptSegmentLib import __version__
from ProxyPromptSegmentLib.inference.loading import calibration_of
from ProxyPromptSegmentLib.networks.devices import choose_device
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel
from ProxyPromptSegmentLib.networks.threads import computing_with
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.training.adapting.beginning import begin
from ProxyPromptSegmentLib.training.adapting.calibrating import Row, refitted
from ProxyPromptSegmentLib.training.adapting.card import card_text, self_description
from ProxyPromptSegmentLib.training.adapting.cases import CheckedCases
from ProxyPromptSegmentLib.training.adapting.course import Course, Report
from ProxyPromptSegmentLib.training.adapting.folds import make_folds
from ProxyPromptSegmentLib.training.adapting.keeping import keep
from ProxyPromptSegmentLib.training.adapting.material import Material
from ProxyPromptSegmentLib.training.adapting.places import state_folder
from ProxyPromptSegmentLib.training.adapting.plan import Promise, make_plan, seconds_left, time_steps
from ProxyPromptSegmentLib.training.adapting.result import AdaptResult, Verdict, judge
from ProxyPromptSegmentLib.training.adapting.scoring import Scorer
from ProxyPromptSegmentLib.training.adapting.settings import AdaptSettings
from ProxyPromptSegmentLib.training.adapting.sheets import supports_of
from ProxyPromptSegmentLib.training.adapting.stage import Stage
from ProxyPromptSegmentLib.training.adapting.state import AdaptState, Plan, locked, remove_state
from ProxyPromptSegmentLib.training.adapting.store import FeatureStore
from ProxyPromptSegmentLib.training.adapting.surroundings import enough_memory
from ProxyPromptSegmentLib.training.adapting.weights import between, of_encoder, put, trained_names, twin
from ProxyPromptSegmentLib.weights.own import check_free

SAVE_SECONDS = 20.0
PACE = 0.15  # weight of the last step in the estimate of the time that is left
LOOKED = 5  # steps after which that is compared with what the user was informed of
SINGLE_SHARE = 0.5  # of the way from the first weights where nothing can be tested
TIMING_STAGE = 1_000_000  # number of the training that is only timed


def adapt(
    checked: CheckedCases,
    name: str,
    settings: AdaptSettings | None = None,
    device: str = "auto",
    keep_anyway: bool = False,
    restart: bool = False,
    cancel: CancelToken | None = None,
    report: Report | None = None,
    folder: Path | None = None,
    say: Callable[[str], None] | None = None,
    began: float | None = None,
) -> AdaptResult:
    """Adapt a model to a structure, test it on each case without that case, and register it if it is better.

    The same call continues what was cancelled or killed, with the same result, bit for bit on a processor.

    Args:
        checked: The cases.
        name: Name of the new model.
        settings: The settings.
        device: Device to compute on.
        keep_anyway: Whether it is registered even if it is not better.
        restart: Whether the state of an earlier call of this name is removed first.
        cancel: Stops after the current step; the state is saved.
        report: Called often with how far it is.
        folder: Folder of the state; by default one of the user's cache.
        say: Called with what the user should know, as sentences.
        began: When the time that was given began, `time.monotonic`: reading the cases is a part of it; by default now.

    Raises:
        CheckpointError: If the name is taken, or the model to start from is unusable.
        UsageError: If the state in the folder is of another adaptation, or the model cannot be adapted.
        OutputError: If something cannot be written.
        DeviceError: If there is no such device, or its memory runs out.
    """
    settings = settings or AdaptSettings()
    check_free(name)
    place = folder or state_folder(name)
    with locked(place), enough_memory(device), computing_with(settings.threads):
        if restart:
            remove_state(place)
        run = _Run(checked, name, settings, choose_device(device), place, cancel or CancelToken(), report, say, began)
        return run.result(keep_anyway)


class _Run:
    """One adaptation in one folder."""

    def __init__(
        self,
        checked: CheckedCases,
        name: str,
        settings: AdaptSettings,
        device: torch.device,
        folder: Path,
        cancel: CancelToken,
        report: Report | None,
        say: Callable[[str], None] | None,
        began: float | None = None,
    ) -> None:
        self.checked, self.name, self.device = checked, name, device
        self.cancel, self._say, began = cancel, say, time.monotonic() if began is None else began
        self.begun = begin(settings.model, settings.base, settings.seed, settings.encoder_rank)
        self.settings = settings = self.begun.fitted(settings)
        self.promise = Promise(settings)
        model = self.begun.model.to(device).eval()
        self.names = trained_names(model, settings.trained)
        self.embeds = bool(of_encoder(self.names))
        if self.embeds:  # variants are drawn afresh in every step
            self.settings = settings = replace(settings, variants=0)
        self.state = AdaptState(folder, self._identity())
        self.folds = make_folds([case.patient for case in checked.cases], settings.folds, settings.seed)
        self.material = Material.of(checked, model.backbone, device, settings.seed)
        self.sheets, self.stores = self.material.sheets, self.material.stores
        self.calibration = calibration_of(self.begun.sha256, self.begun.metadata)
        self.scorer = Scorer(self.sheets, self.stores[0], device, self.calibration, self.embeds)
        own = dict(model.named_parameters())
        self.start = {one: own[one].detach().clone() for one in self.names}
        names = [case.name for case in checked.cases]
        self.course = Course(self.state, self.folds, names, len(settings.shares), cancel, report, began)

    def _identity(self) -> dict[str, Any]:
        return {
            "settings": self.settings.identity(),
            "cases": self.checked.digest(),
            "first model": self.begun.sha256,
            "device": self.device.type,
            "version": __version__,
        }

    # --- the parts, in order ---

    def result(self, keep_anyway: bool) -> AdaptResult:
        """Carry it out, from wherever it stopped."""
        for part in (self._embed, self._test_before, self._decide, self._embed_variants):
            if not part():
                return self._ended(cancelled=True)
        for number in range(len(self.folds)):
            if not self._fold(number):
                return self._ended(cancelled=True)
        verdict = judge(self.course.scores(), self.settings.shares)
        single = not self.folds
        if not (keep_anyway or single or (verdict and verdict.better)):
            self.state.remove_training()
            return self._ended(verdict)  # the rest stays: to keep it still, only the last training is needed
        share = verdict.share if verdict else SINGLE_SHARE
        last = self._train(len(self.folds), range(len(self.checked.cases)), "training on all cases")
        if last is None:
            return self._ended(verdict, cancelled=True)
        plan = self._plan
        weights = between(self.start, last, share)
        said = self.state.found.said_by(self.folds, verdict.share_number) if verdict else ()
        fitted = refitted(said, self.calibration)
        card = card_text(
            self.name,
            self.begun.name,
            self.checked.objects,
            self.checked.patients,
            (len(self.sheets.slices), len(self.sheets.tiles)),
            len(self.folds),
            plan,
            verdict,
            self.course.scores(),
            share,
            self.begun.base is not None,
            fitted is not None,
            self.embeds,
        )
        counts = (self.checked.patients, len(self.sheets.slices), len(self.folds))
        about = self_description(self.begun.name, self.checked.objects, counts, plan, verdict, share, self.settings)
        entry, path = keep(self.begun, self.name, weights, about, card, self.state.folder, fitted)
        ended = replace(self._ended(verdict), kept=True, path=path, sha256=entry.sha256 or "")
        self.state.remove()
        return ended

    def _embed(self) -> bool:
        """Embed all sheets as they are; where the image encoder is trained, slices alone, to know the time."""
        stores = self.stores[:1] if self.embeds else self.stores
        count = sum(len(store.sheets) for store in stores)
        begin = time.monotonic()
        for store in stores:
            if not self.course.counted("embedding", count, store.embed_sheets):
                return False
        self._embed_seconds = (time.monotonic() - begin) / count
        if self.state.found.plan is None and self.embeds and self.begun.base is None:
            tests = len(self.checked.cases) * (1 + len(self.settings.shares)) if self.folds else 0
            self._inform(self.promise.at_once(self._embed_seconds, len(self.folds) + 1, tests, self.course.seconds()))
        return True

    def _left(self, stage: str, done: int, total: int, training: bool = False) -> float:
        """Return the seconds that are left by the plan."""
        shares = len(self.settings.shares)
        return seconds_left(self.state.found, self.folds, shares, (stage, done, total), training, 0.0) or 0.0

    def _compare(self, stage: str, done: int, total: int, training: bool = False) -> None:
        """Tell the user if the pace since the plan shows that it takes clearly longer than reported last."""
        self._inform(self.promise.later(self.course.seconds(), self._left(stage, done, total, training)))

    def _inform(self, sentence: str) -> None:
        """Tell the user something, unless it is empty."""
        if self._say and sentence:
            self._say(sentence)

    def _test_before(self) -> bool:
        """Test the first model on each case with the other cases of its fold's training as supports."""
        found, todo = self.state.found, [case for fold in self.folds for case in fold]
        segmenter = self.scorer.segmenter(self._twin())
        self._score_seconds = found.plan.score_seconds if found.plan else 0.0
        begin, count = time.monotonic(), 0
        for number, case in enumerate(todo):
            self.course.tell("testing before", number, len(todo))
            if str(case) in found.before:
                continue
            score = self.scorer.score(segmenter, case, self._others(case), self.cancel)
            if score is None or self.cancel.cancelled:
                return False
            found.before[str(case)], found.mean_mask[str(case)] = score.dice, score.mean_mask
            count += 1
        if count:
            self._score_seconds = (time.monotonic() - begin) / count
        self.course.tell("testing before", len(todo), len(todo))
        return True

    def _decide(self) -> bool:
        """Fix the numbers of steps and variants, once."""
        found, settings = self.state.found, self.settings
        if found.plan is None:
            step = 0.0
            if settings.steps is None or settings.variants is None:
                self.course.tell("timing the first steps", 0, 1)
                trial = self._twin()
                cases = range(len(self.checked.cases))
                stage = Stage(trial, self.start, self.material.sources(settings), cases, TIMING_STAGE, 1000, settings)
                step = time_steps(stage)
            tests = len(self.checked.cases) * len(settings.shares) if self.folds else 0
            found.plan = make_plan(
                settings,
                self.course.seconds(),
                sum(len(store.sheets) for store in self.stores),
                0 if self.embeds else min(store.most_variants() for store in self.stores),
                self.material.mirror,
                len(self.folds) + 1,
                tests,
                (step, self._embed_seconds, self._test_seconds()),
            )
            self.course.save()
        variants = found.plan.variants * sum(len(store.sheets) for store in self.stores)
        left = self._left("embedding variants", 0, variants)
        self._inform(self.promise.planned(found.plan, self.course.seconds(), left))
        return not self.cancel.cancelled

    def _test_seconds(self) -> float:
        """Return the seconds of testing a case after a training: each fold's own image encoder embeds its supports."""
        if not self.embeds:
            return self._score_seconds
        supports = sum(len(supports_of(self.sheets, self._others(fold[0]))) for fold in self.folds)
        each = supports / len(self.checked.cases)  # slices of the case itself were embedded before, too
        return self._score_seconds + each * self._embed_seconds

    def _embed_variants(self) -> bool:
        """Embed the variants."""
        plan = self._plan
        count = plan.variants * sum(len(store.sheets) for store in self.stores)
        for store in self.stores:

            def embed(cancel: CancelToken, on_done: Callable[[int], None], store: FeatureStore = store) -> bool:
                return store.embed_variants(plan.variants, plan.mirror, cancel, on_done)

            if not self.course.counted("embedding variants", count, embed):
                return False
        return True

    def _fold(self, number: int) -> bool:
        """Train without the cases of a fold, and test on them."""
        found, mine = self.state.found, self.folds[number]
        if all(str(case) in found.after for case in mine):
            return True
        title = f"fold {number + 1} of {len(self.folds)}"
        last = self._train(number, self._others(mine[0]), f"training {title}")
        if last is None:
            return False
        after: dict[int, list[tuple[float, ...]]] = {case: [] for case in mine}
        rows: dict[int, list[tuple[Row, ...]]] = {case: [] for case in mine}
        model = self._twin()
        for which, share in enumerate(self.settings.shares):
            put(model, between(self.start, last, share))
            segmenter = self.scorer.segmenter(model)
            for place, case in enumerate(mine):
                self.course.tell(f"testing {title}", place, len(mine))
                score = self.scorer.score(segmenter, case, self._others(case), self.cancel)
                if score is None or self.cancel.cancelled:
                    return False
                after[case].append(score.dice)
                self.course.pictures[case, which] = score.picture
                rows[case].append(score.rows)
        found.after.update({str(case): tuple(values) for case, values in after.items()})
        found.rows.update({str(case): tuple(values) for case, values in rows.items()})
        self.course.save()
        self.course.tell(f"testing {title}", len(mine), len(mine))
        self._compare("testing before the next training", 0, 0)
        return True

    def _train(self, number: int, cases: Any, title: str) -> dict[str, torch.Tensor] | None:
        """Train on some cases; return the averaged weights, or None if cancelled."""
        plan = self._plan
        model = self._twin()
        stage = Stage(model, self.start, self.material.sources(self.settings), cases, number, plan.steps, self.settings)
        self.course.pace = self.course.pace or plan.step_seconds
        before = self.state.training(number)
        if before is not None:
            stage.resume(before)
        while not stage.done:
            if self.cancel.cancelled:
                self.course.save(number, stage)
                return None
            began = time.monotonic()
            loss = stage.advance()
            self.course.pace += PACE * (time.monotonic() - began - self.course.pace)
            self.course.tell(title, stage.step, plan.steps, loss, number)
            if stage.step % LOOKED == 0:
                self._compare(title, stage.step, plan.steps, True)
            if time.monotonic() - self.course.saved > SAVE_SECONDS:
                self.course.save(number, stage)
        self.course.save(number, stage)
        return stage.average

    # --- what the parts share ---

    def _twin(self) -> ProxyPromptModel:
        """Return a copy of the first model to train or to test, which shares with it whatever is not trained."""
        return twin(self.begun.model, self.names)

    @property
    def _plan(self) -> Plan:
        assert self.state.found.plan is not None
        return self.state.found.plan

    def _others(self, case: int) -> list[int]:
        """Return the cases that are trained on where this one is left out."""
        mine = next(fold for fold in self.folds if case in fold)
        return [other for other in range(len(self.checked.cases)) if other not in mine]

    def _ended(self, verdict: Verdict | None = None, cancelled: bool = False) -> AdaptResult:
        """Return the result so far, with the state saved."""
        if self.state.found.plan is not None:
            self.course.save()
        return AdaptResult(
            name=self.name,
            objects=self.checked.objects,
            scores=self.course.scores(),
            verdict=verdict,
            cancelled=cancelled,
            steps=self.state.found.plan.steps if self.state.found.plan else 0,
            seconds=self.course.seconds(),
            unusable=self.checked.unusable,
            picture=self.course.picture(),
        )
