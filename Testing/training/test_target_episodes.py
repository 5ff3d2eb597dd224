"""Episodes as in the paper: every image is a target once, supports are others, and several objects at once."""

from __future__ import annotations

import dataclasses

import pytest

torch = pytest.importorskip("torch")

from engine_doubles import tiny_model
from ProxyPromptSegmentLib.errors import InputError, UsageError
from ProxyPromptSegmentLib.training.pools import TaskPool
from ProxyPromptSegmentLib.training.recipe import EpisodeRecipe, Recipe, TaskRecipe
from ProxyPromptSegmentLib.training.step import episode_loss
from ProxyPromptSegmentLib.training.target_episodes import TargetSampler

SIZE = 64


def pool(name="only", patients=5, slices=1, objects=1, brightness=0, **options):
    """Images whose grey level tells the image: ``brightness + 4 * number``; the last slice of several is empty."""
    count = patients * slices
    images = torch.zeros(count, SIZE, SIZE, dtype=torch.uint8)
    masks = torch.zeros(count, objects, SIZE, SIZE, dtype=torch.bool)
    for index in range(count):
        images[index] = brightness + 4 * index
        if slices == 1 or index % slices != slices - 1:
            for n in range(objects):
                masks[index, n, 8 + 12 * n : 18 + 12 * n, 8:24] = True
    owner = torch.arange(patients).repeat_interleave(slices)
    names = tuple(f"object {n}" for n in range(objects))
    return TaskPool(task=TaskRecipe(dataset=name, **options), images=images, masks=masks, patients=owner, objects=names)


@pytest.fixture(autouse=True)
def no_augmentation(monkeypatch):
    module = "ProxyPromptSegmentLib.training.episodes"
    monkeypatch.setattr(f"{module}.random_affine", lambda images, masks, *_, **__: (images, masks))
    monkeypatch.setattr(f"{module}.random_intensity", lambda images, *_: images)


def sampler(*pools, seed=1, **changes):
    settings = {"draw": "targets", "unrelated": 0.0, "emptied": 0.0, "max_supports": 15, **changes}
    return TargetSampler(pools or (pool(),), seed, EpisodeRecipe(**settings))


def numbers(images, brightness=0):
    return [round((float(image.amax()) * 255 - brightness) / 4) for image in images]


def test_every_image_is_a_target_once_per_epoch_and_a_support_of_the_others():
    source = sampler(all_supports=True)
    assert source.per_epoch == 5
    for epoch in (0, 1):
        episodes = [source.draw(5 * epoch + n) for n in range(5)]
        assert sorted(numbers([e.images[0] for e in episodes])) == [0, 1, 2, 3, 4]
        for episode in episodes:
            target, *supports = numbers(episode.images)
            assert sorted([target, *supports]) == [0, 1, 2, 3, 4]  # K = M - 1, and nobody supports himself
            assert episode.chosen.tolist() == [[1, 2, 3, 4]] and episode.apart
    orders = [[numbers(source.draw(5 * e + n).images[:1])[0] for n in range(5)] for e in range(4)]
    assert len({tuple(order) for order in orders}) > 1


@pytest.mark.parametrize(("most", "wanted"), [(2, 2), (15, 4)])
def test_as_many_supports_as_there_are_up_to_the_limit_or_a_random_number(most, wanted):
    assert len(sampler(all_supports=True, max_supports=most).draw(0).images) == 1 + wanted
    counts = {len(sampler(max_supports=most).draw(step).images) - 1 for step in range(30)}
    assert counts == set(range(1, wanted + 1))


def test_slices_support_each_other_only_across_patients_and_each_patient_comes_first_once():
    source = sampler(pool(patients=3, slices=5), all_supports=True, max_supports=3)
    for number in range(24):
        target, *supports = numbers(source.draw(number).images)
        patients = [support // 5 for support in supports]
        assert target // 5 not in patients and len(set(patients)) == 2
        assert target % 5 != 4 and all(support % 5 != 4 for support in supports)  # marked slices
    source = sampler(pool(patients=3, slices=5, empty_share=0.5))
    empty = [not source.draw(number).truth.any() for number in range(40)]
    assert 8 < sum(empty) < 32


def test_data_sets_have_steps_as_they_have_images_and_supports_are_of_the_targets_own():
    source = sampler(pool("first", patients=12), pool("second", brightness=128, patients=4), all_supports=True)
    assert source.per_epoch == 16
    orders = []
    for epoch in range(3):
        targets = []
        for number in range(16 * epoch, 16 * epoch + 16):
            images = source.draw(number).images
            second = float(images[0].amax()) > 0.5
            found = numbers(images, 128 * second)
            assert sorted(found) == list(range(4 if second else 12))
            targets.append((second, found[0]))
        assert sorted(targets) == [(False, n) for n in range(12)] + [(True, n) for n in range(4)]
        orders.append([second for second, _ in targets])
    assert orders[0] != orders[1] != orders[2]


@pytest.mark.parametrize(
    ("changes", "images", "objects"),
    [
        ({}, 5, 1),
        ({"objects": "several"}, 5, 4),
        ({"max_supports": 2, "targets": 2}, 4, 1),
        ({"max_supports": 9, "unrelated": 0.5}, 8, 1),
    ],
)
def test_no_episode_is_larger_than_the_largest_and_one_is_as_large(changes, images, objects):
    more = [pool("second", patients=7)] if "unrelated" in changes else []
    source = sampler(pool(objects=3, unions=True, union_share=0.3), *more, **changes)
    assert source.largest == (images, objects)
    sizes = [(len(one.images), one.masks.shape[1]) for one in (source.draw(number) for number in range(150))]
    assert (max(size[0] for size in sizes), max(size[1] for size in sizes)) == (images, objects)


def test_supports_of_another_set_and_emptied_masks_ask_for_nothing():
    foreign = sampler(pool("first"), pool("second", brightness=128), unrelated=1.0)
    for number in range(6):
        episode = foreign.draw(number)
        assert not episode.related.any() and not episode.truth.any() and episode.masks[1:].any()
        assert (float(episode.images[0].amax()) < 0.5) != (float(episode.images[1].amax()) < 0.5)
    emptied = sampler(emptied=1.0).draw(0)
    assert emptied.related.all() and not emptied.masks.any() and not emptied.truth.any()


def test_several_objects_are_asked_for_at_once_half_of_the_time_all_of_them():
    source = sampler(pool(objects=3, unions=True, union_share=0.3), objects="several", all_supports=True)
    counts = [source.draw(number).masks.shape[1] for number in range(60)]
    assert set(counts) == {1, 2, 3, 4}
    assert sum(count >= 3 for count in counts) > 25
    for number in range(20):
        episode = source.draw(number)
        sizes = episode.truth.flatten(2).sum(2)[0].tolist()
        assert set(sizes) <= {160.0, 480.0} and torch.equal(episode.truth, episode.masks[:1])
    one = sampler(pool(objects=3), all_supports=True)
    places = {int(torch.nonzero(one.draw(number).truth[0, 0])[0, 0]) for number in range(20)}
    assert places == {8, 20, 32}  # for the same images another object


def test_several_targets_of_a_step_share_their_supports():
    source = sampler(pool(patients=6), targets=2, all_supports=True)
    assert source.per_epoch == 3
    for number in range(6):
        episode = source.draw(number)
        found = numbers(episode.images)
        assert sorted(found) == list(range(6)) and len(episode.truth) == 2
        assert episode.chosen.tolist() == [[2, 3, 4, 5]] * 2


def test_objects_that_communicate_are_trained_as_they_are_used():
    """With one object the pooled descriptors are never added, and a training would not see what use computes."""
    model = tiny_model(inter_object="pooled").train()
    episode = sampler(pool(objects=2), objects="several", all_supports=True).draw(
        next(n for n in range(9) if sampler(pool(objects=2), objects="several").draw(n).masks.shape[1] == 2)
    )
    recipe = Recipe(name="x")
    loss = episode_loss(model, episode, recipe)[0]
    loss.backward()
    assert model.generator.bridge.attention.channel[2].weight.grad.abs().max() > 0
    alone = [
        dataclasses.replace(episode, masks=episode.masks[:, n : n + 1], truth=episode.truth[:, n : n + 1])
        for n in range(2)
    ]
    apart = sum(float(episode_loss(model, one, recipe)[0]) for one in alone) / 2
    assert abs(apart - float(loss)) > 1e-6
    independent = tiny_model(inter_object="none").train()
    together = float(episode_loss(independent, episode, recipe)[0])
    apart = sum(float(episode_loss(independent, one, recipe)[0]) for one in alone) / 2
    assert apart == pytest.approx(together, rel=1e-5)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"pools": []}, UsageError, "no task to draw from"),
        ({"max_supports": 0}, UsageError, "max_supports is 0"),
        ({"pools": [pool(patients=1, slices=4)]}, InputError, "only has marked images of 1 patient, .* at least 2"),
    ],
)
def test_what_cannot_be_drawn_is_refused(given, error, words):
    recipe = EpisodeRecipe(draw="targets", max_supports=given.get("max_supports", 3))
    with pytest.raises(error, match=words):
        TargetSampler(given.get("pools", [pool()]), 0, recipe)
