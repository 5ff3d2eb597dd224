"""The parts of an adaptation: sheets, variants, episodes, folds, the plan, the verdict."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from adapt_cases import QUICK, TINY, checked, picture, thin, write_cases
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.networks.model import build_model
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.support.case import SupportCase
from ProxyPromptSegmentLib.training.adapting.cases import AnnotatedCase, check_cases
from ProxyPromptSegmentLib.training.adapting.episodes import EpisodeSource
from ProxyPromptSegmentLib.training.adapting.folds import make_folds
from ProxyPromptSegmentLib.training.adapting.plan import (
    LEAST_STEPS,
    MOST_STEPS,
    Promise,
    make_plan,
    time_steps,
    too_long,
)
from ProxyPromptSegmentLib.training.adapting.result import LEAST_GAIN, CaseScore, judge, worst_of
from ProxyPromptSegmentLib.training.adapting.scoring import Scorer
from ProxyPromptSegmentLib.training.adapting.settings import LEAST_TARGETS, AdaptSettings
from ProxyPromptSegmentLib.training.adapting.sheets import Sheet, Sheets, cut_sheets, is_complete, supports_of
from ProxyPromptSegmentLib.training.adapting.stage import Stage
from ProxyPromptSegmentLib.training.adapting.store import FeatureStore
from ProxyPromptSegmentLib.training.adapting.variants import may_be_mirrored, vary
from ProxyPromptSegmentLib.training.adapting.weights import between, trained_names

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model("sam-compact", TINY).eval()


@pytest.fixture(scope="module")
def sheets(tmp_path_factory):
    return cut_sheets(checked(write_cases(tmp_path_factory.mktemp("cases"), 3, ("gland", "stone"))), 32)


@pytest.fixture(scope="module")
def store(model, sheets):
    made = FeatureStore(model.backbone, sheets.slices, CPU, 1)
    assert made.embed_sheets(CancelToken()) and made.embed_variants(2, True, CancelToken())
    return made


def test_slices_without_the_objects_are_used_only_where_the_annotation_has_no_gap(sheets):
    assert [sheet.index for sheet in sheets.of_case(0)] == [1, 2, 3, 4] or len(sheets.of_case(0)) == 4
    assert sum(not sheet.shown.any() for sheet in sheets.slices) == 3
    assert is_complete(np.array([4, 5, 6]))
    assert not is_complete(np.array([4, 5])) and not is_complete(np.array([2, 4, 6]))


def test_supports_show_every_object_and_come_from_the_given_cases(sheets):
    chosen = supports_of(sheets, [0, 2])
    assert {sheet.case for sheet in chosen} == {0, 2}
    assert np.any([sheet.shown for sheet in chosen], axis=0).all() and all(sheet.shown.any() for sheet in chosen)


def test_the_first_variant_is_the_sheet_itself_and_the_others_follow_from_the_seed(model, sheets, store):
    assert [len(own) for own in store.variants] == [3] * len(sheets.slices)
    assert [one.mirrored for one in store.variants[0]] == [False, False, True]
    again = FeatureStore(model.backbone, sheets.slices, CPU, 1)
    again.embed_sheets(CancelToken())
    again.embed_variants(2, True, CancelToken())
    for own, other in zip(store.variants, again.variants, strict=True):
        assert all(torch.equal(one.top, two.top) for one, two in zip(own, other, strict=True))
    moved = FeatureStore(model.backbone, sheets.slices, CPU, 2)
    moved.embed_sheets(CancelToken())
    moved.embed_variants(1, False, CancelToken())
    assert torch.equal(moved.variants[0][0].top, store.variants[0][0].top)
    assert not torch.equal(moved.variants[0][1].top, store.variants[0][1].top)


def test_a_variant_moves_image_and_mask_together():
    image = torch.full((3, 64, 64), 0.2)
    mask = torch.zeros(1, 64, 64)
    mask[0, 20:40, 10:30] = 1
    image = image + 0.6 * mask
    for seed in range(5):
        found, moved, content = vary(image, mask, torch.ones(64, 64, dtype=torch.bool), False, (seed,))
        inside, outside = found[:, moved[0] > 0], found[:, (moved[0] == 0) & content]
        assert inside.mean() > outside.mean() + 0.2
    _, mirrored, _ = vary(image, mask, torch.ones(64, 64, dtype=torch.bool), True, (0,))
    columns = torch.nonzero(mirrored[0].sum(0))[:, 0].float().mean()
    assert columns > 36  # from the left to the right


def test_only_what_lies_on_both_sides_alike_is_mirrored():
    def sheet(columns: slice) -> Sheet:
        mask = np.zeros((1, 32, 32), np.uint8)
        mask[0, 8:24, columns] = 1
        return Sheet(np.zeros((32, 32), np.float32), mask, (1.0, 1.0), (0.0, 1.0), 0, 0)

    middle, left, right = sheet(slice(10, 22)), sheet(slice(2, 12)), sheet(slice(20, 30))
    assert may_be_mirrored(["gland"], [middle]) and may_be_mirrored(["eye"], [left, right])
    assert not may_be_mirrored(["liver"], [left]) and not may_be_mirrored(["left kidney"], [middle])


def test_a_target_never_reads_itself_and_reads_other_patients(sheets, store):
    source = EpisodeSource(store, (0, 1), sheets.patients, AdaptSettings(emptied=0.0))
    for step in range(30):
        drawn = source.draw([0, 1, 2], (1, 0, step))
        depth = drawn.episode
        count = len(depth.chosen)
        patients = _patients_of(drawn, store, sheets)
        for target in range(count):
            reads = [int(n) for n in depth.chosen[target] if n >= 0]
            assert reads and target not in reads
            assert all(patients[n] != patients[target] for n in reads)


def _patients_of(drawn, store, sheets) -> list[int]:
    """Whose slices were drawn, recognised by their features."""
    found = []
    for top in drawn.features.top:
        place = next(n for n, own in enumerate(store.variants) if any(torch.equal(one.top.float(), top) for one in own))
        found.append(sheets.patients[store.sheets[place].case])
    return found


def test_only_the_given_cases_are_drawn_and_some_slices_show_nothing(sheets, store):
    source = EpisodeSource(store, (0, 1), sheets.patients, AdaptSettings(empty=0.3, emptied=0.0))
    empty = 0
    for step in range(20):
        drawn = source.draw([0, 2], (1, 0, step))
        assert set(_patients_of(drawn, store, sheets)) <= {0, 2}
        empty += int((drawn.episode.truth.amax((1, 2, 3)) == 0).sum())
    assert empty > 5


def test_with_one_patient_other_slices_are_read_and_with_one_slice_other_variants(sheets, store):
    source = EpisodeSource(store, (0, 1), sheets.patients, AdaptSettings())
    reads = source.draw([1], (1, 0, 0)).episode.chosen
    assert all(int(n) != target for target, own in enumerate(reads) for n in own if n >= 0)
    assert bool((reads[:, 0] >= 0).all())


def test_what_the_supports_do_not_show_is_not_asked_for(sheets, store):
    source = EpisodeSource(store, (0, 1), sheets.patients, AdaptSettings(emptied=1.0))
    assert not source.draw([0, 1, 2], (1, 0, 0)).episode.truth.any()


def test_folds_leave_out_each_patient_up_to_four_and_keep_patients_together():
    assert make_folds([0], 4, 1) == []
    assert make_folds([0, 1, 1], 4, 1) == [[0], [1, 2]]
    assert make_folds([0, 1, 2, 3], 4, 1) == [[0], [1], [2], [3]]
    folds = make_folds([0, 0, *range(1, 9)], 4, 1)
    assert len(folds) == 4 and sorted(case for fold in folds for case in fold) == list(range(10))
    assert any({0, 1} <= set(fold) for fold in folds)
    assert folds == make_folds([0, 0, *range(1, 9)], 4, 1) != make_folds([0, 0, *range(1, 9)], 4, 2)


def plan(minutes: float = 10.0, step: float = 1.0, **more):
    settings = AdaptSettings(minutes=minutes, **more)
    return make_plan(settings, 20.0, 40, 6, False, 5, 10, (step, 0.05, 0.5))


def test_the_plan_fits_into_the_time():
    found = plan()
    used = 20 + 5 * found.steps * 1.0 + found.variants * 40 * 0.05 + 10 * 0.5
    assert 0.7 * 600 < used <= 600
    assert plan(minutes=5.0).steps < found.steps < plan(minutes=20.0).steps
    assert found.variants == 6  # what fits into memory
    assert plan(minutes=0.1).steps == LEAST_STEPS and plan(minutes=1000).steps == MOST_STEPS
    assert plan(steps=3, variants=1).steps == 3 and plan(variants=0).variants == 0


class TimedStage:
    """A training whose steps take as long as they say: the first, those with the other losses, and the rest."""

    def __init__(self, first: float, others: float, rest: float, **settings: object) -> None:
        self.settings = AdaptSettings(**settings)
        self.step, self.now, self.count = 0, 0.0, 0
        self._seconds = (first, others, rest)

    def advance(self) -> float:
        dear = self.step % self.settings.others_every == 0
        self.now += self._seconds[0 if not self.count else 1 if dear else 2]
        self.count += 1
        self.step += 1
        return 0.5


def test_steps_are_timed_as_they_alternate_and_without_the_warm_up():
    stage = TimedStage(5.0, 2.0, 1.0, minutes=5.0, others_every=4)
    assert time_steps(stage, lambda: stage.now) == pytest.approx(1.25)
    stage = TimedStage(5.0, 2.0, 1.0, minutes=5.0, others_every=1)
    assert time_steps(stage, lambda: stage.now) == pytest.approx(2.0)


@pytest.mark.parametrize(("seconds", "steps"), [(60.0, 1), (9.0, 2), (6.0, 3)])
def test_slow_steps_are_not_timed_at_the_cost_of_the_training(seconds, steps):
    stage = TimedStage(seconds, seconds, seconds, minutes=5.0)
    assert time_steps(stage, lambda: stage.now) == pytest.approx(seconds)
    assert stage.count == steps


def test_a_time_that_is_too_short_for_the_fewest_steps_is_said():
    settings = AdaptSettings(minutes=0.1)
    made = plan(minutes=0.1)
    assert too_long(settings, made, 200.0) == (
        f"0.1 min are not enough: with {LEAST_STEPS} steps of each training and 2 variants of each slice, the fewest "
        "that are made, it takes about 3 min."
    )
    assert too_long(settings, made, 5.9) == ""
    assert too_long(AdaptSettings(minutes=0.1, steps=3), made, 200.0) == ""  # as many as were asked for


def test_a_time_that_cannot_be_kept_is_said_by_the_first_embeddings_and_again_only_where_that_is_far_off():
    settings = AdaptSettings(minutes=2)
    promise, made = Promise(settings), plan(minutes=2)
    assert promise.at_once(0.01, 5, 12, 10) == ""
    said = promise.at_once(0.1, 5, 12, 10)  # 10 s, 5 trainings of 10 steps, 12 tests
    assert (
        said.startswith("2 min are not enough as fast as this machine is now: the fewest steps")
        and "about 4 min" in said
    )
    assert promise.planned(made, 60, 240) == ""  # is known
    assert promise.later(200, 230) == ""  # too little was done since to compare
    assert promise.later(120, 180) == ""  # as planned
    assert "this machine is slower now: 13 min in all" in promise.later(240, 180)  # a quarter in three times its time
    assert promise.later(240, 180) == ""
    brief = Promise(AdaptSettings(minutes=1))
    brief.planned(made, 5, 10)
    assert brief.later(50, 5) == ""  # 72 s in place of the minute that was given
    assert Promise(settings).planned(made, 60, 240).startswith("2 min are not enough: with")
    chosen = Promise(AdaptSettings(minutes=2, steps=100))
    assert chosen.at_once(9, 5, 12, 0) == "" == chosen.planned(made, 0, 5000) == chosen.later(3000, 4000)


def score(before: float, *after: float) -> CaseScore:
    return CaseScore(case=0, name="x", before=(before,), mean_mask=(0.1,), after=tuple((value,) for value in after))


def test_the_folds_choose_the_share_and_a_result_is_better_only_by_the_least_gain():
    scores = (score(0.5, 0.6, 0.9), score(0.7, 0.8, 0.4))
    verdict = judge(scores, (0.5, 1.0))
    assert (verdict.share, verdict.share_number) == (0.5, 0) and verdict.better
    assert verdict.before == pytest.approx(0.6) and verdict.after == pytest.approx(0.7)
    assert judge((score(0.5), *scores), (0.5, 1.0)) is None and judge((), (1.0,)) is None
    assert not judge((score(0.5, 0.5 + LEAST_GAIN / 2),), (1.0,)).better
    assert judge((score(0.5, 0.5 + 1.01 * LEAST_GAIN),), (1.0,)).better


def test_training_lowers_the_loss_and_the_average_lies_between(model, sheets, store):
    names = trained_names(model, "prompt")
    assert not any("contextual_encoder" in name or "bridge" in name for name in names)
    start = {name: value.detach().clone() for name, value in model.named_parameters() if name in names}
    settings = replace(QUICK, steps=25, trained="prompt", learning_rate=3e-3, others_every=100)
    source = EpisodeSource(store, (0, 1), sheets.patients, settings)
    import copy

    stage = Stage(copy.deepcopy(model), start, [source], [0, 1, 2], 0, 25, settings)
    losses = []
    while not stage.done:
        losses.append(stage.advance())
    assert np.mean(losses[-8:]) < np.mean(losses[1:9])
    half = between(start, stage.average, 0.5)
    name = names[0]
    torch.testing.assert_close(half[name], (start[name] + stage.average[name]) / 2)


def test_what_is_too_thin_for_whole_slices_is_learned_and_tested_in_tiles(model):
    found = cut_sheets(check_cases([thin(1), thin(2), thin(3)]), 32)
    assert found.in_tiles == (0,) and found.in_whole == ()
    assert {sheet.case for sheet in found.tiles} == {0, 1, 2}
    assert max(sheet.image.shape[0] for sheet in found.tiles) < 192
    store = FeatureStore(model.backbone, found.slices, CPU, 1)
    store.embed_sheets(CancelToken())
    scorer = Scorer(found, store, CPU, None)
    calls, encode = [], model.backbone.encode
    model.backbone.encode = lambda *more: calls.append(1) or encode(*more)
    try:
        first = scorer.score(scorer.segmenter(model), 0, [1, 2])
        embedded = len(calls)
        assert embedded > 1
        again = scorer.score(scorer.segmenter(model), 0, [1, 2])
        assert len(calls) == embedded  # of another model with the same encoder too
    finally:
        del model.backbone.encode
    assert len(first.dice) == 1 and abs(first.dice[0] - again.dice[0]) < 0.02 and first.mean_mask[0] > 0


def test_where_few_slices_are_tested_they_show_every_object(model):
    """Dice of an object that is on none of them would be 1 or 0, whatever a model has learned."""
    shown = [(1, 0), (1, 0), (1, 0), (1, 0), (1, 0), (0, 1)]
    sheets = []
    for index, marked in enumerate(shown):
        masks = np.zeros((2, 32, 32), np.uint8)
        masks[np.flatnonzero(marked), 8:20, 8:20] = 1
        sheets.append(Sheet(np.zeros((32, 32), np.float32), masks, (1.0, 1.0), (0.0, 1.0), 0, index))
    found = Sheets(("vessel", "disc"), tuple(sheets), (), (1,), (0,), (0,))
    targets = Scorer(found, FeatureStore(model.backbone, sheets, CPU, 1), CPU, None)._targets(0)
    assert [sheet.index for sheet in targets] == [1, 4, 5]
    assert np.any([sheet.shown for sheet in targets], axis=0).all()


def test_two_objects_in_two_planes_need_no_volume_to_agree():
    volume, segmentation = picture(3, ("gland", "stone"))
    cases = [AnnotatedCase("a", SupportCase(volume, segmentation))]
    other, marks = picture(4, ("gland", "stone"))
    cases.append(AnnotatedCase("b", SupportCase(other, marks, slices=[2])))
    found = cut_sheets(check_cases(cases), 32)
    assert [sheet.index for sheet in found.of_case(1)] == [2]  # the slices that a user chose


def test_a_step_has_a_target_that_foreign_tokens_ask_for():
    assert AdaptSettings(targets=LEAST_TARGETS).targets == 3  # the third: see `_impostor_loss`
    with pytest.raises(UsageError, match="targets is 2; allowed is at least 3"):
        AdaptSettings(targets=2)


def test_the_worst_case_is_that_of_the_best_share_among_those_that_were_tested():
    def score(case, *after):
        return CaseScore(case=case, name=str(case), before=(0.5,), mean_mask=(0.5,), after=tuple((x,) for x in after))

    assert worst_of((score(0), score(1))) is None
    scores = (score(0, 0.1, 0.9), score(1, 0.6, 0.7), score(2, 0.3, 0.8), score(3))
    assert worst_of(scores) == (1, 1)
