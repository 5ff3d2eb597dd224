"""PerSAM and PerSAM-F against their definition, written here in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from compared_cases import check_masks, drawn_case, drawn_lesson, tiny_frozen, tiny_tracking
from ProxyPromptSegmentLib.errors import CancelledError, UsageError
from ProxyPromptSegmentLib.evaluation.systems import guided_decoder, persam, persam_f
from ProxyPromptSegmentLib.evaluation.systems.system import Lesson
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.inference.by_hand.decode import COMPACT_LIMIT
from ProxyPromptSegmentLib.networks.values import ImageFeatures
from ProxyPromptSegmentLib.progress import CancelToken


def array(tensor):
    return tensor.detach().double().numpy()


def softmax(values):
    raised = np.exp(values - values.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def linear(layer, x):
    return x @ array(layer.weight).T + array(layer.bias)


def norm(layer, x):
    spread = np.sqrt(x.var(axis=-1, keepdims=True) + layer.eps)
    return (x - x.mean(axis=-1, keepdims=True)) / spread * array(layer.weight) + array(layer.bias)


def attend(layer, q, k, v, guide=None):
    q, k, v = linear(layer.q_proj, q), linear(layer.k_proj, k), linear(layer.v_proj, v)
    wide, out = q.shape[-1] // layer.num_heads, np.zeros_like(q)
    for head in range(layer.num_heads):
        part = slice(head * wide, (head + 1) * wide)
        weights = softmax(q[:, part] @ k[:, part].T / np.sqrt(wide))
        if guide is not None:  # section 3.3, Eq. 6: softmax(softmax(q k) + S)
            weights = softmax(weights + guide)
        out[:, part] = weights @ v[:, part]
    return linear(layer.out_proj, out)


def guided_by_definition(sam, top, tokens, guide, target):
    decoder = sam.mask_decoder
    own = np.concatenate([array(decoder.iou_token.weight), array(decoder.mask_tokens.weight), tokens])
    points = own + target
    keys = top + array(sam.prompt_encoder.no_mask_embed.weight)
    places = array(sam.prompt_encoder.get_dense_pe()[0].flatten(1).T)
    queries = points
    for number, layer in enumerate(decoder.transformer.layers):
        if number:
            queries = queries + target
        placed = queries if number == 0 else queries + points
        self_seen = attend(layer.self_attn, placed, placed, queries)
        queries = norm(layer.norm1, self_seen if number == 0 else queries + self_seen)
        seen = attend(layer.cross_attn_token_to_image, queries + points, keys + places, keys, guide)
        queries = norm(layer.norm2, queries + seen)
        hidden = np.maximum(linear(layer.mlp.lin1, queries), 0)
        queries = norm(layer.norm3, queries + linear(layer.mlp.lin2, hidden))
        back = attend(layer.cross_attn_image_to_token, keys + places, queries + points, queries)
        keys = norm(layer.norm4, keys + back)
    final = attend(decoder.transformer.final_attn_token_to_image, queries + points + target, keys + places, keys)
    queries = norm(decoder.transformer.norm_final_attn, queries + final)
    return queries[1], keys


def package_reading(sam, features, said, before):
    """The best reading with a mask to start from, by the package's own encoder and decoder."""
    points, labels, box = said
    sparse, dense = sam.prompt_encoder(
        points=(torch.tensor([points], dtype=torch.float32), torch.tensor([labels])),
        boxes=None if box is None else torch.tensor([box], dtype=torch.float32),
        masks=before.clamp(-COMPACT_LIMIT, COMPACT_LIMIT)[None, None],
    )
    logits, quality = sam.mask_decoder(
        image_embeddings=features, image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse, dense_prompt_embeddings=dense, multimask_output=True,
    )  # fmt: skip
    return logits[0, int(quality[0].argmax())]


def on_pixels(logits):
    """Logits at the size of the image: a square of 64 pixels, as the network's."""
    return torch.nn.functional.interpolate(logits[None, None], size=(64, 64), mode="bilinear")[0, 0]


def test_persam_is_what_its_paper_and_code_define():
    frozen, support, target = tiny_frozen(), drawn_case(1), drawn_case(2, shift=5)
    segmenter = frozen.segmenter
    sam = segmenter.model.backbone.sam
    found = persam.PerSam(frozen).fit(Lesson(few=(support,))).segment(target)
    check_masks(found, target)
    with torch.inference_mode():
        known = segmenter.encode(support.images, intensity_window(support.images)).features.top
        seen = segmenter.encode(target.images, intensity_window(target.images)).features.top
        small = torch.nn.functional.interpolate(torch.from_numpy(support.masks).float(), size=(8, 8), mode="bilinear")
        for number in range(2):
            features = array(known[0].permute(1, 2, 0))
            feature = features[array(small[0, number]) > 0].mean(axis=0)
            places = array(seen[0].flatten(1).T)
            cosine = places @ feature / np.linalg.norm(feature) / np.linalg.norm(places, axis=1)
            sized = on_pixels(
                torch.nn.functional.interpolate(
                    torch.from_numpy(cosine).float().reshape(1, 1, 8, 8), scale_factor=4, mode="bilinear"
                )[0, 0]
            )
            rows, columns = np.unravel_index([int(sized.argmax()), int(sized.argmin())], (64, 64))
            points, labels = np.stack([columns, rows], axis=1).tolist(), [1, 0]
            even = (sized - sized.mean()) / sized.std()
            guide = 1 / (1 + np.exp(-array(torch.nn.functional.interpolate(even[None, None], (8, 8), mode="bilinear"))))
            sparse, _ = sam.prompt_encoder(
                points=(torch.tensor([points], dtype=torch.float32), torch.tensor([labels])), boxes=None, masks=None
            )
            token, keys = guided_by_definition(sam, places, array(sparse[0]), guide.reshape(1, -1), feature)
            image = torch.from_numpy(keys.T.reshape(1, -1, 8, 8)).float()
            kernel = sam.mask_decoder.output_hypernetworks_mlps[0](torch.from_numpy(token).float())
            first = torch.einsum("c,chw->hw", kernel, sam.mask_decoder.output_upscaling(image)[0])
            drawn = guided_decoder.guided_logits(
                segmenter.model.backbone,
                ImageFeatures(
                    top=seen,
                    positions=segmenter.model.backbone.positions(),
                    valid=torch.ones(1, 8, 8, dtype=torch.bool),
                ),
                sparse,
                torch.from_numpy(guide).float().reshape(1, -1),
                torch.from_numpy(feature).float(),
            )
            torch.testing.assert_close(drawn, first, rtol=1e-4, atol=1e-5)
            second = package_reading(sam, seen, (points, labels, None), first)
            shown = (on_pixels(second) > 0).numpy()
            if shown.any():
                across, down = np.flatnonzero(shown.any(axis=0)), np.flatnonzero(shown.any(axis=1))
                box = [across[0], down[0], across[-1], down[-1]]
                second = package_reading(sam, seen, (points, labels, [float(v) for v in box]), second)
            np.testing.assert_array_equal(found[0, number], (on_pixels(second) > 0).numpy())


def test_the_feature_of_an_object_smaller_than_a_position_is_not_lost():
    frozen, support = tiny_frozen(), drawn_case(1)
    support.masks[0, 1] = 0
    support.masks[0, 1, 16, 16] = 1  # between the pixels that a bilinear step of 8 reads
    fitted = persam.PerSam(frozen).fit(Lesson(few=(support,)))
    assert torch.isfinite(fitted.features).all()


def test_persam_f_weighs_the_readings_by_what_the_support_shows():
    rng = np.random.default_rng(0)
    truth = torch.from_numpy((rng.random(400) > 0.6).astype(np.float32))
    wrong = torch.from_numpy(rng.normal(0, 2, (2, 400)).astype(np.float32))
    logits = torch.stack([wrong[0], 6 * truth - 3, wrong[1]])
    weights = persam_f.learned_weights([(logits, truth)], steps=200)
    assert weights.sum() == pytest.approx(1) and weights[1] > max(weights[0], weights[2])
    # Two steps by hand: AdamW at a constant sign of the gradient moves by the rate.
    once = persam_f.learned_weights([(logits, truth)], steps=1)
    assert once[1] == pytest.approx(1 / 3 * (1 - 1e-3 * 0.01) + 1e-3, abs=2e-6)
    p = 1 / (1 + np.exp(-array(logits[0])))
    g = array(truth)
    dice = 1 - (2 * (p * g).sum() + 1) / (p.sum() + g.sum() + 1)
    right = p * g + (1 - p) * (1 - g)
    focal = ((0.25 * g + 0.75 * (1 - g)) * -np.log(right) * (1 - right) ** 2).mean()
    assert float(persam_f.dice_and_focal(logits[0], truth)) == pytest.approx(dice + focal, rel=1e-5)


def test_persam_f_learns_and_segments_and_can_be_cancelled():
    frozen, target, said = tiny_frozen(), drawn_case(4, side=48), []
    system = persam_f.PerSamF(frozen, steps=50)
    fitted = system.fit(drawn_lesson(2), said.append)
    assert said == [0.5, 1.0] and fitted.weights.shape == (2, 3)
    check_masks(fitted.segment(target), target)
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(CancelledError, match="PerSAM-F"):
        system.fit(drawn_lesson(1), cancel=cancel)


def test_a_model_without_sams_decoder_is_refused():
    with pytest.raises(UsageError, match="choose a model on SAM"):
        persam.PerSam(tiny_tracking()).fit(drawn_lesson())
