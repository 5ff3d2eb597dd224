"""Training through a clip: gradients pass the memory and reach every parameter that is trained."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sam2")

from ProxyPromptSegmentLib.networks.model import build_model

BY_DESIGN_WITHOUT_GRADIENT = {
    "sam_prompt_encoder.point_embeddings": "there are no clicks",
    "sam_prompt_encoder.mask_downscaling": "a mask is a prompt only where it is given",
    "mask_downsample": "a mask is a prompt only where it is given",
    "output_hypernetworks_mlps.1": "only the single mask is used",
    "output_hypernetworks_mlps.2": "only the single mask is used",
    "output_hypernetworks_mlps.3": "only the single mask is used",
    "no_mem_pos_enc": "the package's own code reads it only without directly_add_no_mem_embed",
    "no_mem_embed": "with a proxy prompt no frame stands alone",
}


def test_gradients_reach_every_trained_parameter_through_a_clip():
    torch.manual_seed(0)
    model = build_model("sam2-compact").train()
    backbone = model.backbone
    clip, pairs = torch.rand(3, 3, 128, 128), torch.rand(2, 3, 128, 128)
    masks = torch.zeros(2, 2, 128, 128)
    masks[:, 0, 20:60, 20:70] = 1
    masks[:, 1, 60:110, 50:100] = 1
    given = model.prepare(pairs, masks, ("a", "b"))
    features = backbone.encode(clip)
    with torch.no_grad():
        # One object present and one absent, because both leave other things in the memory.
        first = features.select([0])
        score = backbone.decode(first, model.generator.prompt(first, given)).presence[0]
        backbone.sam2.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.sub_(score.mean())
    loss, bank = torch.zeros(()), []
    for frame in range(3):
        current = features.select([frame])
        prompt = model.generator.prompt(current, given)
        if frame == 1:  # as training does now and then
            prompt = replace(prompt, dense=None)
        decoded = backbone.decode(current, prompt, bank, frame)
        if frame == 0:
            assert decoded.presence.min() < 0 < decoded.presence.max()
        bank.append(backbone.remember(current, decoded, frame))
        weight = torch.randn_like(decoded.logits)
        loss = loss + (decoded.logits * weight).mean() + decoded.presence.sum() + decoded.quality.sum()
        loss = loss + prompt.prior.square().mean()
    loss.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    unexpected = [name for name in without if not any(part in name for part in BY_DESIGN_WITHOUT_GRADIENT)]
    assert not unexpected, f"no gradient reaches {unexpected}"
    for part in BY_DESIGN_WITHOUT_GRADIENT:
        assert any(part in name for name in without), f"{part} has a gradient; take it off the list"
    # The unused mask tokens share a parameter with the used one, and the decoder's tokens attend to each other.
    assert backbone.sam2.sam_mask_decoder.mask_tokens.weight.grad[0].any()
