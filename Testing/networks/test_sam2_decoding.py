"""SAM 2's decoder with proxy prompt tokens: without three habits of the package, for many at once, and in training."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from ProxyPromptSegmentLib.networks.backbones.sam2 import Sam2Backbone
from ProxyPromptSegmentLib.networks.values import Decoded, Prompt
from sam2_package import (
    CHANNELS,
    CLOSE,
    GRID,
    PackageTracker,
    add_to_score,
    assert_same,
    bank,
    clouds,
    decoded,
    discs,
    lively_backbone,
    proxy,
)

# The three habits of the package that would hide what a prompt does.


def gradient_of(backbone, logits):
    backbone.zero_grad()
    logits.square().mean().backward()
    return sum(float(p.grad.square().sum()) for p in backbone.parameters() if p.grad is not None) ** 0.5


def test_a_negative_objectness_neither_hides_the_mask_nor_stops_its_gradient():
    images = clouds(1)
    sure, doubting = lively_backbone(), lively_backbone()
    add_to_score(sure, 20)
    add_to_score(doubting, -20)
    theirs = PackageTracker(doubting, images).step(0, first=True)
    assert theirs["object_score_logits"].max() < 0
    assert (theirs["pred_masks"] == -1024).all()
    assert gradient_of(doubting, theirs["pred_masks"]) == 0
    ours = doubting.decode(doubting.encode(images), proxy())
    assert torch.equal(ours.logits, sure.decode(sure.encode(images), proxy()).logits)
    assert ours.presence.max() < 0
    assert gradient_of(doubting, ours.logits) > 1e-3


def test_the_single_mask_speaks_where_the_package_would_choose_one_of_three(features):
    backbone, images = lively_backbone(), clouds(2)
    add_to_score(backbone, 20)
    frame = features.select([1])
    with torch.inference_mode():
        memories = bank([0], conditioning=[0])
        single = backbone.decode(frame, Prompt(), memories, 1)
        network = backbone.sam2
        # what every official 2.1 YAML sets
        network.multimask_output_in_sam = network.multimask_output_for_tracking = True
        network.multimask_min_pt_num, network.multimask_max_pt_num = 0, 1
        network.sam_mask_decoder.use_multimask_token_for_obj_ptr = True
        ours = backbone.decode(frame, Prompt(), memories, 1)
        package = PackageTracker(backbone, images)
        positions = [backbone._memory_positions(memories[0].spatial).permute(1, 2, 0).unflatten(-1, (GRID, GRID))]
        package.outputs["cond_frame_outputs"][0] = {
            "maskmem_features": memories[0].spatial,
            "maskmem_pos_enc": positions,
            "obj_ptr": memories[0].pointer,
        }
        package.frames[1] = (
            [level.flatten(2).permute(2, 0, 1) for level in (*frame.high_res, frame.top)],
            *package.frames[1][1:],
        )
        theirs = package.step(1)
        network.multimask_output_in_sam = False
        package.outputs["non_cond_frame_outputs"].clear()
        theirs_single = package.step(1)
    assert_same(ours, single, atol=0, rtol=0)
    torch.testing.assert_close(ours.logits, theirs_single["pred_masks"], **CLOSE)
    assert (ours.logits - theirs["pred_masks"]).abs().max() > 1e-2
    assert (ours.pointer[0] - theirs["obj_ptr"]).abs().max() > 1e-2


def test_an_unstable_mask_is_not_exchanged(features):
    backbone, images = lively_backbone(), clouds(1)
    add_to_score(backbone, 20)
    with torch.inference_mode():
        before = backbone.decode(backbone.encode(images), Prompt())
        decoder = backbone.sam2.sam_mask_decoder
        # what build_sam2 sets by default
        decoder.dynamic_multimask_via_stability = True
        decoder.dynamic_multimask_stability_delta, decoder.dynamic_multimask_stability_thresh = 0.05, 0.98
        ours = backbone.decode(backbone.encode(images), Prompt())
        theirs = PackageTracker(backbone, images).step(0, first=True)
    assert_same(ours, before, atol=0, rtol=0)
    assert (theirs["pred_masks"] - ours.logits).abs().max() > 1e-2


def test_training_and_use_decode_alike(backbone, features):
    frame = features.select([0])
    memories = bank([0, 1])
    used = decoded(backbone, frame, proxy(), memories, 2)
    try:
        backbone.train()
        trained = decoded(backbone, frame, proxy(), memories, 2)
    finally:
        backbone.eval()
    assert_same(trained, used, atol=0, rtol=0)


# Several objects and several targets.


@pytest.mark.parametrize("remembering", [False, True])
def test_objects_and_targets_together_are_each_pair_alone(backbone, features, remembering):
    frames, objects = features.select([4, 9]), 3
    chance = torch.Generator().manual_seed(2)
    prompt = replace(
        proxy(2, objects),
        sparse=torch.randn(2, objects, 4, CHANNELS, generator=chance),
        dense=torch.randn(2, objects, CHANNELS, GRID, GRID, generator=chance),
    )
    memories = bank([0, 1, 2], count=2 * objects, conditioning=[0]) if remembering else []
    together = decoded(backbone, frames, prompt, memories, 3)
    assert together.logits.shape == (2, objects, 64, 64)
    assert together.quality.shape == together.presence.shape == (2, objects)
    assert together.pointer.shape == (2, objects, CHANNELS)
    with torch.inference_mode():
        kept = backbone.remember(frames, together, 3)
    for b in range(2):
        for n in range(objects):
            here, row = (slice(b, b + 1), slice(n, n + 1)), slice(b * objects + n, b * objects + n + 1)
            one = Prompt(sparse=prompt.sparse[here], dense=prompt.dense[here], memory=prompt.memory[here])
            past = [replace(m, spatial=m.spatial[row], pointer=m.pointer[row]) for m in memories]
            alone = decoded(backbone, frames.select([b]), one, past, 3)
            pair = Decoded(**{f: getattr(together, f)[here] for f in ("logits", "quality", "presence", "pointer")})
            assert_same(pair, alone, atol=1e-4, rtol=1e-3)
            with torch.inference_mode():
                spatial = backbone.remember(frames.select([b]), alone, 3).spatial
            torch.testing.assert_close(kept.spatial[row], spatial, atol=1e-4, rtol=1e-3)
    flat = together.logits.flatten(0, 1)
    assert min(float((flat[i] - flat[j]).abs().max()) for i in range(6) for j in range(i)) > 1e-2


def test_tracks_without_a_prompt_are_counted_by_their_memories(backbone, features):
    together = decoded(backbone, features.select([4, 9]), Prompt(), bank([0], count=6), 1)
    assert together.logits.shape == (2, 3, 64, 64)
    assert decoded(backbone, features.select([4, 9]), Prompt()).logits.shape == (2, 1, 64, 64)


def test_given_masks_of_objects_and_targets_together_are_each_alone(backbone, features):
    frames, masks = features.select([4, 9]), discs(6).reshape(2, 3, 128, 128)
    with torch.inference_mode():
        together = backbone.remember_mask(frames, masks, 0)
        for b in range(2):
            for n in range(3):
                alone = backbone.remember_mask(frames.select([b]), masks[b : b + 1, n : n + 1], 0)
                torch.testing.assert_close(together.spatial[3 * b + n], alone.spatial[0], atol=1e-4, rtol=1e-3)
                torch.testing.assert_close(together.pointer[3 * b + n], alone.pointer[0], atol=1e-4, rtol=1e-3)


# Training.


def test_prompt_and_every_part_that_follows_a_frame_get_gradients():
    backbone = lively_backbone().train()
    add_to_score(backbone, 20)
    images, prompt = clouds(2), proxy()
    prompt.memory.requires_grad_()
    features = backbone.encode(images)
    first = backbone.decode(features.select([0]), prompt)
    memory = backbone.remember(features.select([0]), first, 0)
    second = backbone.decode(features.select([1]), prompt, [memory], 1)
    (second.logits.square().mean() + second.quality.sum() + second.presence.sum()).backward()
    assert prompt.memory.grad.abs().max() > 0
    silent = {name for name, p in backbone.named_parameters() if p.grad is None or not p.grad.abs().max() > 0}
    # Clicks, given masks and the three masks had no part in it; nothing was absent, and there was a memory.
    unused = ("point_embeddings", "mask_down", "output_hypernetworks_mlps", "no_mem_", "no_obj_")
    assert [name for name in silent if not any(part in name for part in unused)] == []
    assert not any("output_hypernetworks_mlps.0" in name for name in silent)


def test_use_does_not_spoil_later_training():
    backbone, images = Sam2Backbone("sam2-compact"), clouds(1)
    with torch.inference_mode():
        features = backbone.encode(images)
        backbone.decode(features, proxy(), bank([0]), 1)
    backbone.decode(backbone.encode(images), proxy(), bank([0]), 1).logits.sum().backward()
    assert backbone.bridge.project[1].weight.grad.abs().max() > 0
