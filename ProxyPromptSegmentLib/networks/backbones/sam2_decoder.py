"""SAM 2's mask decoder for some of its masks: by `token_decoder` where that applies, else by the package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ProxyPromptSegmentLib.networks.backbones.token_decoder import can_decode, decode_tokens


def predict_masks(
    decoder: Any,
    image: torch.Tensor,
    positions: torch.Tensor,
    sparse: torch.Tensor,
    high_res: list[torch.Tensor] | None,
    outputs: Sequence[int],
    few_tokens: bool = True,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Decode ``M`` prompts.

    Args:
        decoder: ``sam2.modeling.sam.mask_decoder.MaskDecoder``.
        image: Image embeddings with dense prompts, ``(M, C, g, g)``; their memory may be overwritten.
        positions: Positional encoding, ``(C, g, g)``.
        sparse: Tokens of the prompts, ``(M, T, C)``.
        high_res: Finer features, of ``M`` each; None where the decoder reads none.
        outputs: Numbers of the masks.
        few_tokens: Whether `token_decoder` may be used.

    Returns:
        Logits ``(M, len(outputs), 4g, 4g)``, estimated IoU ``(M, len(outputs))``, the masks' tokens
        ``(M, len(outputs), C)`` and the logit that the object is there, ``(M, 1)``.
    """
    own = [decoder.iou_token.weight, decoder.mask_tokens.weight]
    if decoder.pred_obj_scores:
        own.insert(0, decoder.obj_score_token.weight)
    count = sum(len(tokens) for tokens in own) + sparse.shape[1]
    fitting = decoder.pred_obj_scores and not decoder.use_high_res_features
    if not (few_tokens and fitting and can_decode(decoder, count, image.device)):
        masks, quality, said, score = decoder.predict_masks(
            image_embeddings=image,
            image_pe=positions.unsqueeze(0),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=image.new_zeros(()),
            repeat_image=False,
            high_res_features=high_res,
        )
        return _some(masks, outputs), _some(quality, outputs), _some(said, outputs), score
    tokens = torch.cat([torch.cat(own).unsqueeze(0).expand(len(sparse), -1, -1), sparse], dim=1)
    masks, hidden = decode_tokens(decoder, image, positions, tokens, outputs, before=1)
    quality = decoder.iou_prediction_head(hidden[:, 1])
    score = decoder.pred_obj_score_head(hidden[:, 0])
    return masks, _some(quality, outputs), _some(hidden[:, 2:], outputs), score


def _some(values: torch.Tensor, outputs: Sequence[int]) -> torch.Tensor:
    """Return the values of some masks; a list as an index would wait for the host."""
    return torch.stack([values[:, n] for n in outputs], dim=1)
