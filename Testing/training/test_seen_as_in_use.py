"""Training sees what use sees: colour, proportions, padding that nobody reads, and places along a volume."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engine_doubles import EchoModel, tiny_model
from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.networks.values import Decoded, Prompt
from ProxyPromptSegmentLib.training.augment import middle_of, random_affine
from ProxyPromptSegmentLib.training.episodes import EpisodeSampler, build_pool
from ProxyPromptSegmentLib.training.losses import prediction_loss
from ProxyPromptSegmentLib.training.recipe import EpisodeRecipe, LossWeights, Recipe, TaskRecipe
from ProxyPromptSegmentLib.training.step import encoded, episode_loss

SIZE = 64
TASK = TaskRecipe(dataset="made", per_step=3)


def case(number=0, shape=(2, 30, 64), colour=False, spacing=(3.0, 1.0, 0.5)):
    """Noise, and in colour a vessel that only the green channel shows."""
    rng = np.random.default_rng(number)
    images = rng.normal(100, 20, (*shape, 3) if colour else shape).astype(np.float32)
    masks = np.zeros((shape[0], 1, *shape[1:]), np.uint8)
    masks[:, 0, 10:20, 20:30] = 1
    if colour:
        images[:, 10:20, 20:30, 1] += 150
    return Case(dataset="made", patient=f"p{number}", images=images, masks=masks, objects=("box",), spacing_mm=spacing)


def sampler(colour=False, spacing=(3.0, 1.0, 0.5), shape=(2, 30, 64)):
    pool = build_pool(TASK, [case(n, shape, colour, spacing) for n in range(4)], SIZE)
    return EpisodeSampler([pool], 0, EpisodeRecipe(emptied=0.0))


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("keep_aspect", [False, True])
def test_a_slice_of_training_is_the_slice_of_use_bit_for_bit_but_for_its_rounding(colour, keep_aspect, monkeypatch):
    given = case(colour=colour)
    pool = build_pool(TASK, [given], SIZE, keep_aspect)
    model, seen = EchoModel(), []
    monkeypatch.setattr(type(model.backbone), "keeps_aspect", keep_aspect)
    encode = model.backbone.encode
    monkeypatch.setattr(
        model.backbone, "encode", lambda images, valid=None: seen.append(images) or encode(images, valid)
    )
    encoded = Segmenter(model, "cpu").encode(given.images, intensity_window(given.images), given.spacing_mm[1:])
    assert (torch.cat(seen) - pool.pictures([0, 1]).expand(-1, 3, -1, -1)).abs().max() <= 0.5 / 255 + 1e-6
    assert torch.equal(encoded.features.valid[0], pool.content([0])[0, 0])
    assert pool.filled is None if not keep_aspect else pool.filled[0].tolist() == list(encoded.box.valid)


def test_colour_stays_colour_and_its_channels_change_alike():
    images = sampler(colour=True).draw(0).images
    red, green = images[:, 0], images[:, 1]
    assert (green - red).amax((1, 2)).min() > 0.3  # the vessel, however contrast and brightness were changed
    gray = sampler().draw(0).images
    assert torch.equal(gray[:, 0], gray[:, 1])


def test_grey_and_coloured_sets_are_drawn_together():
    pools = [build_pool(TASK, [case(n, colour=colour) for n in range(4)], SIZE) for colour in (False, True)]
    images = EpisodeSampler(pools, 0).draw(0).images
    assert images.shape == (6, 3, SIZE, SIZE)
    assert (images[3:, 1] - images[3:, 0]).amax((1, 2)).min() > 0.2


def test_padding_is_black_unmarked_and_unread_whatever_the_augmentation():
    for step in range(8):
        episode = sampler().draw(step)
        rows = 60  # 30 rows of 1 mm beside 64 columns of 0.5 mm: 60 of 64
        assert episode.content[:, :, :rows].all() and not episode.content[:, :, rows:].any()
        assert episode.images[:, :, rows:].max() == 0 and episode.masks[:, :, rows:].max() == 0
    wide = sampler(spacing=(3.0, 0.5, 0.5)).draw(0)
    _, support = encoded(tiny_model(), wide, Recipe(name="x").computing)
    read = support.valid.unflatten(1, (8, 8))
    assert read[:, :4].all() and not read[:, 4:].any()


def test_a_change_keeps_the_middle_of_the_picture_not_of_the_square_in_place():
    images = torch.zeros(1, 1, SIZE, SIZE)
    images[:, :, 12:18, 28:36] = 1  # the middle of 30 rows
    content = torch.zeros(1, 1, SIZE, SIZE, dtype=torch.bool)
    content[:, :, :30] = True
    middle = middle_of(content)
    assert middle.tolist() == [[0.0, 30 / SIZE - 1]]
    moved, _ = random_affine(
        images, images, torch.Generator().manual_seed(1), zoom=(2.0, 2.0), shift=0, degrees=0, middle=middle
    )
    where = torch.nonzero(moved[0, 0] > 0.5).float()
    assert where.mean(0).tolist() == pytest.approx([14.5, 31.5], abs=0.3)


def test_what_is_drawn_on_padding_costs_nothing():
    chance = torch.Generator().manual_seed(0)
    content = torch.zeros(2, 1, SIZE, SIZE, dtype=torch.bool)
    content[:, :, :32] = True
    truth = torch.zeros(2, 1, SIZE, SIZE)
    truth[0, :, 4:20, 4:20] = 1
    prior = torch.rand(2, 1, 8, 8, generator=chance)
    losses = []
    for outside in (-30.0, 30.0):
        logits = torch.randn(2, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
        logits[:, :, 32:] = outside
        guess = prior.clone()
        guess[:, :, 4:] = float(outside > 0)
        prompt = Prompt(prior=guess, presence=torch.zeros(2, 1))
        decoded = Decoded(logits=logits, quality=torch.zeros(2, 1))
        related = torch.ones(2, dtype=torch.bool)
        losses.append(prediction_loss(decoded, prompt, truth, related, LossWeights(), 1000, content)[0])
    assert float(losses[0]) == pytest.approx(float(losses[1]), rel=1e-6)
    everywhere = prediction_loss(decoded, prompt, truth, related, LossWeights(), 1000)[0]
    assert float(everywhere) > float(losses[1]) + 0.5


def test_a_full_square_has_the_loss_that_it_had_without_padding():
    episode = sampler(shape=(2, 64, 64), spacing=(3.0, 1.0, 1.0)).draw(0)
    assert episode.content is None
    full = dataclasses.replace(episode, content=torch.ones(3, 1, SIZE, SIZE, dtype=torch.bool))
    model = tiny_model()
    one, other = (float(episode_loss(model, e, Recipe(name="x"))[0]) for e in (episode, full))
    assert one == pytest.approx(other, rel=1e-6)


def test_places_along_a_volume_are_known_in_most_steps_and_reach_the_generator():
    source = sampler(shape=(3, 30, 64))
    episodes = [source.draw(step) for step in range(30)]
    known = [episode for episode in episodes if episode.depth is not None]
    assert 15 < len(known) < 28
    assert all(episode.depth.abs().max() < 1.3 for episode in known)
    features, support = encoded(tiny_model(depth=True), known[0], Recipe(name="x").computing)
    assert torch.equal(features.depth, known[0].depth) and torch.equal(support.depth, known[0].depth)
    single = sampler(spacing=None, shape=(1, 30, 64))
    assert all(single.draw(step).depth is None for step in range(5))
