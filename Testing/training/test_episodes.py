"""Episodes: nobody supports himself, the same step is drawn again, and an absent object has an empty truth."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.errors import InputError, UsageError
from ProxyPromptSegmentLib.evaluation.conditions import foreign_support
from ProxyPromptSegmentLib.evaluation.in_context import draw_supports, pair_of
from ProxyPromptSegmentLib.training.augment import random_affine, random_intensity
from ProxyPromptSegmentLib.training.episodes import EpisodeSampler, TaskPool, build_pool
from ProxyPromptSegmentLib.training.recipe import EpisodeRecipe, TaskRecipe

SIZE = 32
DRAWS = 40


def pool(name, patients=6, slices=4, per_step=4, objects=1, brightness=0, **options):
    """Slices whose grey level tells the patient: ``10 * patient + brightness``; the last slice of each is empty."""
    images = torch.zeros(patients * slices, SIZE, SIZE, dtype=torch.uint8)
    masks = torch.zeros(patients * slices, objects, SIZE, SIZE, dtype=torch.bool)
    owner = torch.arange(patients).repeat_interleave(slices)
    for index in range(patients * slices):
        images[index] = 10 * owner[index] + brightness
        if index % slices != slices - 1:
            for n in range(objects):
                masks[index, n, 8 + 6 * n : 14 + 6 * n, 8:24] = True
    return TaskPool(
        task=TaskRecipe(dataset=name, per_step=per_step, **options),
        images=images,
        masks=masks,
        patients=owner,
        objects=tuple(f"object {n}" for n in range(objects)),
    )


@pytest.fixture
def no_augmentation(monkeypatch):
    module = "ProxyPromptSegmentLib.training.episodes"
    monkeypatch.setattr(f"{module}.random_affine", lambda images, masks, *_, **__: (images, masks))
    monkeypatch.setattr(f"{module}.random_intensity", lambda images, *_: images)


def patients_of(episode):
    """Which patient and which pool each image is of, read from its grey level."""
    gray = (episode.images[:, 0, 0, 0] * 255).round().int().tolist()
    return [level % 128 // 10 for level in gray], [level // 128 for level in gray]


def two_pools():
    second = pool("second", patients=5, per_step=3, objects=2, brightness=128, unions=True)
    return [pool("first", empty_share=0.3), second]


def test_a_step_is_drawn_again_exactly_and_another_step_or_seed_is_another_episode():
    def same(a, b):
        pairs = [(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a)]
        return all(torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in pairs)

    sampler = EpisodeSampler(two_pools(), seed=3)
    first = sampler.draw(5)
    sampler.draw(6)
    torch.rand(3)
    np.random.random()  # noqa: NPY002 - global state must not matter
    assert same(sampler.draw(5), first)
    assert same(EpisodeSampler(two_pools(), seed=3).draw(5), first)
    assert not same(sampler.draw(6), first)
    assert not torch.equal(EpisodeSampler(two_pools(), seed=4).draw(5).images, first.images)


def test_an_episode_has_the_promised_shapes():
    episode = EpisodeSampler(two_pools(), seed=0).draw(0)
    assert episode.images.shape == (7, 3, SIZE, SIZE)
    assert episode.masks.shape == episode.truth.shape == (7, 1, SIZE, SIZE)
    assert episode.images.min() >= 0
    assert episode.images.max() <= 1
    assert set(episode.masks.unique().tolist()) <= {0.0, 1.0}
    assert episode.chosen.shape[0] == 7
    assert episode.related.dtype == torch.bool


def test_no_target_is_its_own_support_nor_supported_by_its_own_patient(no_augmentation):
    sampler, counts = EpisodeSampler(two_pools(), seed=1, recipe=EpisodeRecipe(unrelated=0.3)), set()
    for step in range(DRAWS):
        episode = sampler.draw(step)
        patient, task = patients_of(episode)
        assert len(set(zip(patient, task, strict=True))) == 7  # each image of another patient
        for target, supports in enumerate(episode.chosen.tolist()):
            assert len(set(supports)) == len(supports)
            assert target not in supports
            for other in supports:
                assert (task[other], patient[other]) != (task[target], patient[target])
                assert (task[other] == task[target]) == bool(episode.related[target])
        counts.add(episode.chosen.shape[1])
    assert counts == {1, 2}  # second pool: three images, so two others at most


def test_unrelated_supports_mean_an_empty_truth_and_related_ones_the_own_mask(no_augmentation):
    sampler, shares = EpisodeSampler(two_pools(), seed=1, recipe=EpisodeRecipe(unrelated=0.3, emptied=0.0)), []
    for step in range(DRAWS):
        episode = sampler.draw(step)
        assert episode.truth[~episode.related].sum() == 0
        assert torch.equal(episode.truth[episode.related], episode.masks[episode.related])
        shares.append(float((~episode.related).float().mean()))
    assert np.mean(shares) == pytest.approx(0.3, abs=0.08)


def test_an_emptied_task_has_no_mask_and_no_truth_and_the_others_keep_theirs(no_augmentation):
    sampler, emptied = EpisodeSampler(two_pools(), seed=2, recipe=EpisodeRecipe(unrelated=0.0, emptied=0.4)), []
    for step in range(DRAWS):
        episode = sampler.draw(step)
        _, task = patients_of(episode)
        for number in (0, 1):
            mine = torch.tensor(task) == number
            emptied.append(not episode.masks[mine].any())
            if emptied[-1]:
                assert episode.truth[mine].sum() == 0
    assert np.mean(emptied) == pytest.approx(0.4, abs=0.15)
    never = EpisodeSampler(two_pools(), seed=2, recipe=EpisodeRecipe(unrelated=0.0, emptied=0.0))
    assert all(never.draw(step).masks[:4].any() for step in range(10))


def test_a_single_task_has_no_unrelated_supports():
    sampler = EpisodeSampler([pool("only")], seed=0, recipe=EpisodeRecipe(unrelated=1.0))
    assert all(sampler.draw(step).related.all() for step in range(5))


def test_one_support_at_least_shows_the_object_if_any_can(no_augmentation):
    sampler = EpisodeSampler([pool("only", empty_share=1.0)], seed=0, recipe=EpisodeRecipe(emptied=0.0))
    empty_targets = 0
    for step in range(DRAWS):
        episode = sampler.draw(step)
        shown = episode.masks.flatten(1).any(1)
        assert shown[:2].all()  # two of them always show it, so one does for every target
        assert shown[episode.chosen].any(dim=1).all()
        empty_targets += int((~shown).sum())
    assert empty_targets > 0


def test_the_union_of_the_objects_is_a_task_where_it_was_asked_for(no_augmentation):
    sizes = {True: set(), False: set()}
    for unions, found in sizes.items():
        sampler = EpisodeSampler([pool("two", objects=2, unions=unions)], seed=0, recipe=EpisodeRecipe(emptied=0.0))
        for step in range(DRAWS):
            found |= {int(m.sum()) for m in sampler.draw(step).masks if m.any()}
    assert sizes == {True: {6 * 16, 12 * 16}, False: {6 * 16}}


def test_more_supports_than_the_limit_are_never_drawn():
    sampler = EpisodeSampler([pool("only", per_step=6)], seed=0, recipe=EpisodeRecipe(max_supports=3))
    assert {sampler.draw(step).chosen.shape[1] for step in range(DRAWS)} == {1, 2, 3}


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"per_step": 1}, UsageError, "per_step of lone is 1, .* make it 2 or more"),
        ({"per_step": 0}, UsageError, "per_step of lone is 0"),
        ({"patients": 1}, InputError, "lone has images of 1 patient, .* at least 2 are needed"),
    ],
)
def test_a_task_whose_images_could_not_support_each_other_is_refused_before_the_first_step(given, error, words):
    for pools in ([pool("lone", **given)], [pool("fine"), pool("lone", **given)]):
        with pytest.raises(error, match=words):
            EpisodeSampler(pools, seed=0)


def test_a_training_without_a_task_a_case_or_a_support_is_refused_in_words():
    with pytest.raises(UsageError, match="no task to draw from"):
        EpisodeSampler([], seed=0)
    with pytest.raises(UsageError, match="max_supports is 0"):
        EpisodeSampler([pool("fine")], seed=0, recipe=EpisodeRecipe(max_supports=0))
    with pytest.raises(InputError, match="no case of colondb"):
        build_pool(TaskRecipe(dataset="colondb", per_step=2), [], SIZE)


def test_the_smallest_task_that_is_accepted_can_be_drawn():
    sampler = EpisodeSampler(
        [pool("two", patients=2, per_step=2), pool("many")], seed=0, recipe=EpisodeRecipe(unrelated=0.5)
    )
    assert {sampler.draw(step).chosen.shape for step in range(DRAWS)} == {(6, 1)}


def case(patient, name="", slices=3, shape=(20, 30), marked=(0, 1), spacing=(3.0, 0.5, 1.0)):
    images = np.random.default_rng(len(patient + name)).normal(100, 20, (slices, *shape)).astype(np.float32)
    masks = np.zeros((slices, 1, *shape), np.uint8)
    masks[list(marked), 0, 5:15, 5:15] = 1
    return Case(
        dataset="made",
        patient=patient,
        images=images,
        masks=masks,
        objects=("box",),
        spacing_mm=spacing,
        name=name or patient,
    )


def test_a_pool_brings_all_slices_to_one_size_and_keeps_who_is_who():
    square = (3.0, 0.5, 0.5)
    cases = [case("b", spacing=square), case("a", shape=(40, 40), spacing=square), case("b", "second", spacing=square)]
    made = build_pool(TaskRecipe(dataset="made", per_step=2, flip=True), cases, SIZE)
    assert made.images.shape == (9, SIZE, SIZE)
    assert made.images.dtype == torch.uint8
    assert made.masks.shape == (9, 1, SIZE, SIZE)
    assert made.patients.tolist() == [1, 1, 1, 0, 0, 0, 1, 1, 1]
    assert made.masks.flatten(1).any(1).tolist() == [True, True, False] * 3
    assert (made.name, made.objects, made.task.flip) == ("made", ("box",), True)
    assert made.images.max() > 240  # the window reaches nearly from black to white
    assert made.images[:3, 22:].max() == 0  # padding


def test_image_and_mask_are_moved_together_and_each_by_its_own_change():
    images, masks = torch.zeros(8, 1, 64, 64), torch.zeros(8, 1, 64, 64)
    images[:, :, 24:40, 16:48] = 1
    masks[:, :, 24:40, 16:48] = 1
    moved, changed = random_affine(images, masks, torch.Generator().manual_seed(0))
    both, either = ((moved > 0.5) & (changed > 0.5)).sum((1, 2, 3)), ((moved > 0.5) | (changed > 0.5)).sum((1, 2, 3))
    assert (both / either).min() > 0.99
    assert set(changed.unique().tolist()) == {0.0, 1.0}
    areas = changed.sum((1, 2, 3)) / (16 * 32)
    assert areas.std() > 0.1
    assert areas.min() > 0.4
    assert areas.max() < 2.6


def test_only_images_that_may_be_mirrored_are():
    images = torch.zeros(64, 1, 32, 32)
    images[..., 20:28] = 1  # right of the middle
    flip = torch.arange(64) < 32
    chance = torch.Generator().manual_seed(0)
    moved, _ = random_affine(images, images, chance, degrees=0, zoom=(1, 1), shift=0, flip=flip)
    left = moved[..., :16].sum((1, 2, 3)) > moved[..., 16:].sum((1, 2, 3))
    assert 8 < left[:32].sum() < 24
    assert left[32:].sum() == 0
    moved, _ = random_affine(images, images, torch.Generator().manual_seed(0), degrees=0, zoom=(1, 1), shift=0)
    assert (moved[..., :16].sum((1, 2, 3)) < moved[..., 16:].sum((1, 2, 3))).all()


def test_intensities_change_and_stay_between_0_and_1():
    images = torch.linspace(0, 1, 32 * 32).view(1, 1, 32, 32).repeat(16, 1, 1, 1)
    changed = random_intensity(images, torch.Generator().manual_seed(0))
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert (changed - images).abs().mean() > 0.02
    assert (changed[0] - changed[1]).abs().mean() > 0.01
    assert torch.equal(changed, random_intensity(images, torch.Generator().manual_seed(0)))


def test_supports_for_an_evaluation_are_of_other_patients_marked_and_drawn_again_alike():
    pool_of_cases = [case(p) for p in "abcdef"] + [case("a", "a again")]
    target = pool_of_cases[0]
    for seed in range(10):
        support, drawn = draw_supports(pool_of_cases, target, 4, seed)
        assert len(support) == len({d.name for d in drawn}) == 4
        assert not {d.name for d in drawn} & {"a", "a again"}
        assert all(d.slice_index in (0, 1) for d in drawn)
        assert draw_supports(pool_of_cases, target, 4, seed)[1] == drawn
    assert len({tuple(draw_supports(pool_of_cases, target, 4, seed)[1]) for seed in range(10)}) > 1


def test_cases_without_a_mark_support_nothing():
    unmarked = [case("e", marked=()), case("b", "b, never drawn on", marked=())]
    pool_of_cases = [case(p) for p in "abcd"] + unmarked
    for seed in range(20):
        _, drawn = draw_supports(pool_of_cases, case("a"), 3, seed)
        assert sorted(d.name for d in drawn) == ["b", "c", "d"]


@pytest.mark.parametrize("count", [0, 4])
def test_fewer_supports_than_asked_for_are_refused_and_not_drawn(count):
    pool_of_cases = [case(p) for p in "abcd"] + [case("e", marked=())]
    with pytest.raises(
        UsageError, match=f"{count} supports were requested.* 3 other patients of made .* request 1 to 3"
    ):
        draw_supports(pool_of_cases, case("a"), count, 0)


def test_a_pool_in_which_nobody_else_is_marked_is_named():
    with pytest.raises(UsageError, match="only the patient of a has an annotated slice among 2 cases of made"):
        draw_supports([case("a"), case("b", marked=())], case("a"), 1, 0)


def test_a_pair_knows_the_slice_that_it_was_taken_from():
    pool_of_cases = [case(p, marked=(2,)) for p in "abc"]
    support, drawn = draw_supports(pool_of_cases, case("a"), 2, 0)
    assert [pair.slice_index for pair in support.pairs] == [d.slice_index for d in drawn] == [2, 2]
    foreign = foreign_support(pool_of_cases, ("one", "another"), 2, 0)
    assert [pair.slice_index for pair in foreign.pairs] == [2, 2]
    assert foreign.pairs[0].masks.shape[0] == 2


def test_a_support_slice_keeps_the_spacing_and_the_window_of_its_volume():
    given = case("a")
    made = pair_of(given, 1)
    assert made.spacing_mm == (0.5, 1.0)
    np.testing.assert_array_equal(made.image, given.images[1])
    assert made.window == pytest.approx(tuple(np.percentile(given.images, (0.5, 99.5))), rel=1e-5)
