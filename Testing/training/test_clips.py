"""Clips: frames in their order, supports of other patients, and a loss that trains the memory."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sam2")

from ProxyPromptSegmentLib.errors import InputError, UsageError
from ProxyPromptSegmentLib.networks.model import build_model
from ProxyPromptSegmentLib.training.clips import (
    OWN_MASK,
    PROXY,
    SUPPORT_MASK,
    ClipSampler,
    click_tokens,
    clip_loss,
    made_clip,
)
from ProxyPromptSegmentLib.training.episodes import TaskPool
from ProxyPromptSegmentLib.training.recipe import ClipRecipe, Recipe, TaskRecipe

SIZE, FRAMES = 128, 3


def pool(name, clips=0, patients=4, slices=7, brightness=0):
    """Frames whose grey level tells patient and time: ``brightness + 20 * patient + time``; a square that wanders."""
    images = torch.zeros(patients * slices, SIZE, SIZE, dtype=torch.uint8)
    masks = torch.zeros(patients * slices, 1, SIZE, SIZE, dtype=torch.bool)
    owner = torch.arange(patients).repeat_interleave(slices)
    for index in range(patients * slices):
        time = index % slices
        images[index] = brightness + 20 * int(owner[index]) + time
        masks[index, 0, 30 + 4 * time : 60 + 4 * time, 40:80] = True
    task = TaskRecipe(dataset=name, per_step=2, clips=clips)
    return TaskPool(task=task, images=images, masks=masks, patients=owner, objects=("square",))


@pytest.fixture
def no_augmentation(monkeypatch):
    module = "ProxyPromptSegmentLib.training.clips"
    monkeypatch.setattr(f"{module}.random_affine", lambda images, masks, *_, **__: (images, masks))
    monkeypatch.setattr(f"{module}.random_intensity", lambda images, *_: images)


def sampler(**options):
    recipe = ClipRecipe(frames=FRAMES, **options)
    return ClipSampler([pool("first", 2), pool("second", 1, brightness=128)], seed=3, recipe=recipe)


def levels(images):
    """Task, patient and time of each image, from its grey level."""
    gray = np.rint(images.amax(dim=(-2, -1)).numpy() * 255).astype(int)
    return gray // 128, gray % 128 // 20, gray % 128 % 20


def test_a_step_is_drawn_again_exactly_and_another_step_is_another():
    first = sampler().draw(4)
    again = sampler().draw(4)
    for item in dataclasses.fields(first):
        a, b = getattr(first, item.name), getattr(again, item.name)
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
    assert not torch.equal(sampler().draw(5).frames, first.frames)


def test_frames_are_of_one_patient_in_order_and_supports_are_of_others(no_augmentation):
    source, directions, gaps, begins, related = sampler(), set(), set(), set(), set()
    for step in range(60):
        episode = source.draw(step)
        task, patient, time = levels(episode.frames[:, :, 0])
        support_task, support_patient, _ = levels(episode.images[:, 0])
        assert episode.frames[:, :, 0].shape == episode.truth.shape == (3, FRAMES, SIZE, SIZE)
        begins.add(episode.begin)
        for clip in range(3):
            assert len(set(patient[clip])) == 1
            steps = np.diff(time[clip])
            assert len(set(steps)) == 1
            directions.add(int(np.sign(steps[0])))
            gaps.add(abs(int(steps[0])))
            own = bool(episode.related[clip])
            related.add(own)
            for support in episode.chosen[clip].tolist():
                assert (support_task[support] == task[clip, 0]) == own
                assert (support_task[support], support_patient[support]) != (task[clip, 0], patient[clip, 0])
            assert bool(episode.truth[clip].any()) == (own or episode.begin == OWN_MASK)
    assert directions == {-1, 1}
    assert gaps == {1, 2}
    assert related == {True, False}
    assert begins == {PROXY, OWN_MASK, SUPPORT_MASK}


def test_augmentation_moves_the_frames_of_a_clip_together():
    """A clip of one frame repeated stays the same in place: what is moved is the clip."""
    frozen = pool("first", 2)
    frozen = dataclasses.replace(frozen, masks=frozen.masks[:1].expand(28, -1, -1, -1))
    episode = ClipSampler([frozen], seed=0, recipe=ClipRecipe(frames=FRAMES)).draw(0)
    assert torch.equal(episode.truth[:, 0], episode.truth[:, 1])
    assert not torch.equal(episode.truth[0], episode.truth[1])


def test_a_made_clip_follows_whatever_was_marked_and_sometimes_nothing():
    source, rng, kinds = pool("first"), np.random.default_rng(0), {"empty": 0, "object": 0, "disc": 0}
    for _ in range(60):
        made = made_clip(source, FRAMES, rng)
        frames, masks = made.images[:, 0], made.masks
        assert frames.shape == masks.shape == (FRAMES, SIZE, SIZE)
        assert len({bool(mask.any()) for mask in masks}) == 1
        if not masks.any():
            kinds["empty"] += 1
            continue
        assert not torch.equal(masks[0], masks[1])  # it moves
        overlap = (masks[0] * masks[1]).sum() / masks[0].sum()
        assert overlap > 0.3  # and not far
        middle = torch.nonzero(masks[0]).float().mean(0)
        kinds["object" if abs(float(middle[1]) - 60) < 8 else "disc"] += 1
    assert kinds["empty"] in range(3, 20)
    assert min(kinds["object"], kinds["disc"]) > 10


def test_made_clips_begin_with_their_own_mask_and_belong_to_no_other_task():
    episodes = [sampler(given=1.0, made=1.0).draw(step) for step in range(10)]
    assert {episode.begin for episode in episodes} == {OWN_MASK}
    assert all(bool(episode.related.all()) for episode in episodes)
    assert not all(bool(episode.truth.flatten(1).any(1).all()) for episode in episodes)


def test_too_few_patients_or_frames_and_no_clips_are_refused():
    with pytest.raises(InputError, match=r"first has 4 patients; 4 clips and a support of another patient require 5"):
        ClipSampler([pool("first", 4)], seed=0)
    with pytest.raises(InputError, match=r"first has at most 7 frames of a patient; a clip needs 8"):
        ClipSampler([pool("first", 1)], seed=0, recipe=ClipRecipe(frames=8))
    with pytest.raises(UsageError, match="no task of the recipe has clips"):
        ClipSampler([pool("first")], seed=0)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model("sam2-compact").train()


def losses_of(model, begin):
    recipe = Recipe(name="clips", clips=ClipRecipe(frames=FRAMES))
    episode = dataclasses.replace(sampler().draw(1), begin=begin)
    return clip_loss(model, episode, recipe)


@pytest.mark.parametrize("begin", [PROXY, OWN_MASK, SUPPORT_MASK])
def test_the_loss_reaches_memory_encoder_and_memory_attention(model, begin):
    model.zero_grad(set_to_none=True)
    loss, parts = losses_of(model, begin)
    loss.backward()
    assert {"dice", "bce", "presence", "quality"} <= parts.keys()
    assert ("prior" in parts) == (begin == PROXY)
    for part in (model.backbone.sam2.memory_encoder, model.backbone.sam2.memory_attention):
        assert all(p.grad is not None and bool(p.grad.any()) for p in part.parameters())
    generator = [p.grad is not None for p in model.generator.parameters()]
    assert all(generator) if begin == PROXY else not any(generator)


def test_memories_carry_no_history_of_masks_and_features(model, monkeypatch):
    seen = []
    keep = model.backbone.remember

    def spy(features, decoded, frame):
        seen.append((features.top.requires_grad, decoded.logits.requires_grad, decoded.pointer.requires_grad))
        return keep(features, decoded, frame)

    monkeypatch.setattr(model.backbone, "remember", spy)
    losses_of(model, PROXY)
    assert seen == [(False, False, True)] * (FRAMES - 1)


def test_a_later_frame_reads_what_the_earlier_one_left(model, monkeypatch):
    """Without the memories of earlier frames the loss is another one."""
    torch.manual_seed(1)
    whole, _ = losses_of(model, PROXY)
    monkeypatch.setattr(model.backbone, "readable", lambda memories, frame: [])
    alone, _ = losses_of(model, PROXY)
    assert float(whole.detach()) != float(alone.detach())


def test_a_click_is_inside_where_it_says_so(model):
    truth = torch.zeros(6, 1, SIZE, SIZE)
    truth[:4, 0, 10:20, 50:60] = 1
    told = {}

    def spy(points, labels):
        told["points"], told["labels"] = points, labels
        return torch.zeros(len(points), 2, 128)

    original = model.backbone.prompt_points
    model.backbone.prompt_points = spy
    try:
        labels = set()
        for seed in range(8):
            assert click_tokens(model, truth, np.random.default_rng(seed)).shape == (6, 1, 2, 128)
            for mask, point, label in zip(truth[:, 0], told["points"][:, 0], told["labels"][:, 0], strict=True):
                assert mask[int(point[1]), int(point[0])] == int(label)
                labels.add(int(label))
            assert told["labels"][4:].tolist() == [[0], [0]]  # nothing is there to click on
    finally:
        model.backbone.prompt_points = original
    assert labels == {0, 1}


@pytest.mark.slow
def test_a_few_steps_on_one_clip_lower_its_loss(model):
    recipe = Recipe(name="clips", clips=ClipRecipe(frames=FRAMES))
    episode = dataclasses.replace(sampler().draw(1), begin=PROXY)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    history = []
    for _ in range(8):
        loss, _ = clip_loss(model, episode, recipe)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        history.append(float(loss.detach()))
    assert np.mean(history[-2:]) < 0.85 * history[0]
