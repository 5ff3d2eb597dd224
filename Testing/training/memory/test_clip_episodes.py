"""Clips for training: frames in their order, supports of others, and a truth that fits what was asked for."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from pool_cases import CPU, picture, pool
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.resources import resource_path
from ProxyPromptSegmentLib.training.broad.pools import SIDE, build_pool
from ProxyPromptSegmentLib.training.memory.episodes import ALONE, GIVEN, PROMPTED, ClipEpisode, ClipSampler
from ProxyPromptSegmentLib.training.memory.groups import real_clip
from ProxyPromptSegmentLib.training.memory.recipe import MemoryRecipe, read_memory_recipe

SMALL = MemoryRecipe(
    name="tiny", groups=2, group_size=3, region_groups=1, region_views=3, drawn_groups=1, drawn_images=3, frames=4,
    weight_decay=0.0, warmup_steps=1, given=0.0,
)  # fmt: skip
QUIET = dataclasses.replace(SMALL, covered=0.0, shadow=0.0, leaving=0.0, twin=0.0, unrelated=0.0, emptied=0.0)


def sweeps():
    """Three patients with a sweep of seven frames each, whose grey level tells patient and time."""
    items, patients, volumes = [], [], []
    for patient in range(3):
        for time in range(7):
            image = np.full((SIDE, SIDE, 3), 20 + 60 * patient + 4 * time, np.uint8)
            bits = np.zeros((SIDE, SIDE), np.uint8)
            bits[60 + 5 * time : 120 + 5 * time, 60:140] = 1
            items.append((image, bits, None))
            patients.append(f"p{patient}")
            volumes.append(f"v{patient}")
    return build_pool("sweeps", items, patients, volumes, CPU)


def draw(recipe: MemoryRecipe = SMALL, seed: int = 0, pools=None) -> ClipEpisode:
    torch.manual_seed(seed)
    return ClipSampler(pools or [pool(), pool("second")], recipe).draw(np.random.default_rng(seed))


def test_frames_of_a_volume_are_in_order_and_supports_are_of_other_patients():
    made, strides = sweeps(), set()
    recipe = dataclasses.replace(QUIET, volumes=1.0, whole=("sweeps",))
    for seed in range(30):
        clip = real_clip(made, recipe, np.random.default_rng(seed))
        levels = (clip.group.images.amax((1, 2, 3)) * 255).round().long() - 20
        patient, time = levels // 60, levels % 60 // 4
        assert not clip.still and len(levels) == recipe.frames + recipe.group_size - 1
        assert len(set(patient[:4].tolist())) == 1 and not set(patient[:4].tolist()) & set(patient[4:].tolist())
        steps = set(np.diff(time[:4].numpy()).tolist())
        assert len(steps) == 1
        strides |= steps
        assert np.diff(clip.group.depth[:4]).any() or not clip.group.depth.any()
    assert strides == {-2, -1, 1, 2}


def test_a_still_clip_repeats_one_image_and_short_volumes_are_still():
    for made in (pool(), pool(volumes=True), sweeps()):
        recipe = dataclasses.replace(QUIET, volumes=0.0 if made.name == "sweeps" else 1.0)
        clip = real_clip(made, recipe, np.random.default_rng(1))
        assert clip.still
        assert all(torch.equal(frame, clip.group.images[0]) for frame in clip.group.images[:4])
        assert len(set(clip.group.patients[:4])) == 1 and clip.group.patients[0] not in clip.group.patients[4:]


def test_an_episode_is_drawn_again_exactly_and_always_has_the_same_shapes():
    first, again, other = draw(seed=3), draw(seed=3), draw(seed=4)
    for one, same, third in zip(first.tensors(), again.tensors(), other.tensors(), strict=True):
        assert torch.equal(one, same) and one.shape == third.shape
    assert first.frames.shape == (4, 4, 3, SIDE, SIDE) and first.truth.shape == (4, 4, 2, SIDE, SIDE)
    assert first.images.shape == (8, 3, SIDE, SIDE) and first.targets == 4 * 4 * 2
    assert not first.frames[~first.content.unsqueeze(2).expand_as(first.frames)].any()
    assert not torch.equal(first.frames, other.frames)


def test_the_frames_of_a_moving_picture_differ_little_and_share_their_intensities():
    episode = draw(QUIET, seed=2)
    frames = episode.frames[:2]
    change = (frames[:, 1:] - frames[:, :-1]).abs().mean((1, 2, 3, 4))
    apart = (frames[0, 0] - frames[1, 0]).abs().mean()
    assert (change > 0).all() and float(change.max()) < float(apart)
    both = episode.truth[:, 0] * episode.truth[:, 1]
    shown = episode.truth[:, 0].sum((1, 2, 3)) > 200
    assert shown.any() and (both.sum((1, 2, 3))[shown] / episode.truth[:, 0].sum((1, 2, 3))[shown] > 0.5).all()


def test_supports_are_of_the_clips_own_group_unless_unrelated():
    episode = draw(QUIET, seed=5)
    owner = torch.arange(8) // 2
    for clip, chosen in enumerate(episode.chosen):
        assert len(chosen[chosen >= 0]) and (owner[chosen[chosen >= 0]] == clip).all()
    foreign = draw(dataclasses.replace(QUIET, unrelated=1.0), seed=5)
    assert foreign.related.tolist() == [0, 0, 1, 1] and not foreign.truth[:2].any() and foreign.truth[2:].any()
    assert (owner[foreign.chosen[0][foreign.chosen[0] >= 0]] == 1).all()
    emptied = draw(dataclasses.replace(QUIET, emptied=1.0), seed=5)
    assert not emptied.masks[:4].any() and not emptied.truth[:2].any() and emptied.truth[2:].any()


def test_a_given_mask_alone_says_what_is_asked_for():
    for seed, begin in enumerate((GIVEN, ALONE)):
        recipe = dataclasses.replace(QUIET, given=1.0, unprompted=float(begin == ALONE), unrelated=1.0, emptied=1.0)
        episode = draw(recipe, seed)
        assert episode.begin == begin
        assert episode.related.all()
        given = episode.truth[:, 0].amax((-2, -1)) > 0
        assert given.any()
        assert not episode.truth[:, 1:].amax((1, 3, 4))[~given].any()
    assert draw(dataclasses.replace(QUIET, groups=1)).begin == PROMPTED


@pytest.mark.parametrize("event", ["covered", "shadow", "leaving", "twin"])
def test_each_event_happens_and_changes_what_it_should(event):
    recipe = dataclasses.replace(QUIET, **{event: 1.0}, frames=6, groups=1, drawn_groups=0, region_groups=0)
    plain = dataclasses.replace(recipe, **{event: 0.0})
    gone = 0
    for seed in range(1 if event in ("shadow", "covered") else 2):
        changed, usual = draw(recipe, seed), draw(plain, seed)
        assert changed.frames.shape == usual.frames.shape
        area = changed.truth[:, :, 0].sum((-2, -1))
        if event == "leaving":
            gone += int(((area[:, 0] > 0) & (area[:, 3] == 0) & (area[:, -1] > 0)).sum())
            assert not changed.content[:, 3].all()
        if event == "covered":
            gone += int((area.amin(1) < 0.7 * area.amax(1)).sum())
        if event in ("shadow", "twin"):
            gone += int((changed.frames - usual.frames).abs().amax() > 0.1)
    assert gone


def test_a_recipe_is_read_with_its_own_keys_and_refused_with_impossible_ones(tmp_path):
    recipe = read_memory_recipe(resource_path("recipes") / "memory.json")
    assert recipe.training == "memory" and recipe.base == "sam-compact" and "drive" in recipe.whole
    assert recipe.dense_dropout >= 0.35 and recipe.twin > 0
    path = tmp_path / "x.json"
    for text, sentence in (
        ('{"training": "memory", "frames": 1}', "clips of 1 frames"),
        ('{"training": "memory", "covered": 0.6, "twin": 0.6}', "sum to 1.5"),
        ('{"training": "memory", "group_size": 1}', "group_size is 1"),
        ('{"training": "memory", "groups": 0, "region_groups": 0, "drawn_groups": 0}', "has no clips"),
        ('{"training": "broad"}', "is invalid"),
        ('{"training": "memory", "framess": 3}', "is invalid"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UsageError, match=sentence):
            read_memory_recipe(path)


def test_regions_that_are_not_there_are_missed_with_a_sentence():
    image, bits, _ = picture(0)
    bare = build_pool("bare", [(image, bits, None)] * 3, ["a", "b", "c"], [None] * 3, CPU)
    with pytest.raises(UsageError, match="no regions to draw from"):
        draw(SMALL, pools=[bare])
