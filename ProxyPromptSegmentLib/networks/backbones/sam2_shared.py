"""SAM 2 around the image encoder of the compact SAM, so that both need one encoder, one decoder and one generator.

The encoder has one level, of stride 8, which already holds the trunk's stride 4; the mask decoder reads no finer one.
So it has the tensors of the compact SAM's decoder, and starts as that, and its logits are as fine. Memories and the
memory attention work at stride 16: at stride 8, six memories would cost more than the encoder. What the memory
attention finds is added to the features, not put in their place: without it the network answers as the compact SAM.

References:
    Ravi et al., SAM 2, 2024; the sizes that are not given here are those of `sam2_architectures`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from sam2.modeling.memory_attention import MemoryAttention, MemoryAttentionLayer
from sam2.modeling.memory_encoder import CXBlock, Fuser, MaskDownSampler, MemoryEncoder
from sam2.modeling.position_encoding import PositionEmbeddingSine
from sam2.modeling.sam.mask_decoder import MaskDecoder
from sam2.modeling.sam.transformer import RoPEAttention, TwoWayTransformer
from sam2.modeling.sam2_base import SAM2Base
from torch import nn
from torch.nn import functional

from ProxyPromptSegmentLib.networks.backbones.pyramid_encoder import PyramidImageEncoder

STRIDE, POOL = 8, 2  # of the features, and of the memory relative to them
CHANNELS, MEMORY_CHANNELS, MEMORY_LAYERS = 128, 64, 2
MLP_DIM, HEADS = 256, 4  # of the compact SAM's decoder
FOUND = 0.3  # scale of what the memory attention adds at first
PRESENT = 1.0  # the decoder's logit that the object is there at first, or no mask would be drawn before it is learned

# Where a tensor of this network is in a compact SAM; the decoders name the layers of their MLPs differently.
_PLACES = (
    ("backbone.sam2.image_encoder.pyramid.", "backbone.sam.image_encoder."),
    ("backbone.sam2.sam_mask_decoder.", "backbone.sam.mask_decoder."),
    ("backbone.sam2.sam_prompt_encoder.", "backbone.sam.prompt_encoder."),
    ("generator.", "generator."),
)
_MLP = ((".mlp.layers.0.", ".mlp.lin1."), (".mlp.layers.1.", ".mlp.lin2."))


def name_in_base(name: str) -> str | None:
    """Return the name that a tensor of this model has in a model on the compact SAM; None for what only SAM 2 has."""
    for mine, other in _PLACES:
        if name.startswith(mine):
            found = other + name[len(mine) :]
            for layer, its in _MLP:
                found = found.replace(layer, its)
            return found
    return None


class _Neck(nn.Module):
    """The two things that the package asks of an encoder's neck.

    Attributes:
        d_model: Channels of the features.
        position_encoding: Their sine encoding.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.d_model = channels
        self.position_encoding = PositionEmbeddingSine(num_pos_feats=channels)


class SharedImageEncoder(nn.Module):
    """The compact SAM's encoder with the interface of the package's."""

    def __init__(self, size: int, channels: int) -> None:
        """Create the encoder with random weights."""
        super().__init__()
        self.pyramid = PyramidImageEncoder(img_size=size, channels=channels)
        self.neck = _Neck(channels)

    def forward(self, sample: torch.Tensor) -> dict[str, Any]:
        """Map normalised images to one level of features and its positions."""
        top = self.pyramid(sample)
        positions = self.neck.position_encoding(top).to(top.dtype)
        return {"vision_features": top, "vision_pos_enc": [positions], "backbone_fpn": [top]}


class PooledMemoryAttention(MemoryAttention):
    """The package's memory attention on pooled features; what it finds is added to them."""

    def __init__(self, **options: Any) -> None:
        """Create the attention; options as of the package's."""
        super().__init__(**options)
        nn.init.constant_(self.norm.weight, FOUND)

    def forward(  # type: ignore[override]
        self,
        curr: torch.Tensor | list[torch.Tensor],
        memory: torch.Tensor,
        curr_pos: torch.Tensor | list[torch.Tensor],
        memory_pos: torch.Tensor,
        num_obj_ptr_tokens: int = 0,
    ) -> torch.Tensor:
        """Return features ``(P, B, C)``; arguments as of the package's, memory at the pooled grid."""
        (top, where) = (part[0] if isinstance(part, list) else part for part in (curr, curr_pos))
        found = super().forward(_pooled(top), memory, _pooled(where), memory_pos, num_obj_ptr_tokens)
        maps = found.permute(1, 2, 0)
        side = math.isqrt(maps.shape[-1])
        fine = functional.interpolate(
            maps.unflatten(-1, (side, side)), scale_factor=POOL, mode="bilinear", align_corners=False
        )
        return top + fine.flatten(2).permute(2, 0, 1)


class PooledMemoryEncoder(MemoryEncoder):
    """The package's memory encoder on pooled features."""

    def forward(  # type: ignore[override]
        self, pix_feat: torch.Tensor, masks: torch.Tensor, skip_mask_sigmoid: bool = False
    ) -> dict[str, Any]:
        """Return a memory and its positions; arguments as of the package's."""
        return super().forward(functional.avg_pool2d(pix_feat, POOL), masks, skip_mask_sigmoid)  # type: ignore


def _pooled(tokens: torch.Tensor) -> torch.Tensor:
    """Average tokens ``(P, B, C)`` of a square grid over squares of `POOL` positions."""
    side = math.isqrt(tokens.shape[0])
    maps = tokens.permute(1, 2, 0).unflatten(-1, (side, side))
    return functional.avg_pool2d(maps, POOL).flatten(2).permute(2, 0, 1)


def build_shared(size: int) -> nn.Module:
    """Build the package's ``SAM2Base`` around the compact SAM's encoder, with random weights.

    Args:
        size: Side of the input in pixels, a multiple of 32.
    """
    grid = size // STRIDE // POOL
    rope = {
        "rope_theta": 10000.0,
        "feat_sizes": [grid, grid],
        "embedding_dim": CHANNELS,
        "num_heads": 1,
        "downsample_rate": 1,
        "dropout": 0.0,
    }
    layer = MemoryAttentionLayer(
        activation="relu",
        cross_attention=RoPEAttention(rope_k_repeat=True, kv_in_dim=MEMORY_CHANNELS, **rope),
        d_model=CHANNELS,
        dim_feedforward=MLP_DIM,
        dropout=0.0,
        pos_enc_at_attn=False,
        pos_enc_at_cross_attn_keys=True,
        pos_enc_at_cross_attn_queries=False,
        self_attention=RoPEAttention(**rope),
    )
    network = SAM2Base(
        image_encoder=SharedImageEncoder(size, CHANNELS),
        memory_attention=PooledMemoryAttention(
            d_model=CHANNELS, pos_enc_at_input=True, layer=layer, num_layers=MEMORY_LAYERS
        ),
        memory_encoder=PooledMemoryEncoder(
            out_dim=MEMORY_CHANNELS,
            in_dim=CHANNELS,
            mask_downsampler=MaskDownSampler(
                embed_dim=CHANNELS, kernel_size=3, stride=2, padding=1, total_stride=STRIDE * POOL
            ),
            # The package's layer scale of 1e-6 is for its long training; from there these blocks would stay idle here.
            fuser=Fuser(CXBlock(CHANNELS, kernel_size=7, padding=3, layer_scale_init_value=0.1), num_layers=2),
            position_encoding=PositionEmbeddingSine(num_pos_feats=MEMORY_CHANNELS),
        ),
        image_size=size,
        backbone_stride=STRIDE,
        sigmoid_scale_for_mem_enc=20.0,
        sigmoid_bias_for_mem_enc=-10.0,
        use_mask_input_as_output_without_sam=True,
        directly_add_no_mem_embed=True,
        use_high_res_features_in_sam=False,
        iou_prediction_use_sigmoid=False,
        use_obj_ptrs_in_encoder=True,
        proj_tpos_enc_in_obj_ptrs=True,
        use_signed_tpos_enc_to_obj_ptrs=True,
        only_obj_ptrs_in_the_past_for_eval=True,
        pred_obj_scores=True,
        pred_obj_scores_mlp=True,
        fixed_no_obj_ptr=True,
        use_mlp_for_obj_ptr_proj=True,
        no_obj_embed_spatial=True,
    )
    nn.init.zeros_(network.no_mem_embed)
    # SAM2Base fixes the decoder's inner width at 2048 and its heads at 8; the compact SAM's has others.
    network.sam_mask_decoder = MaskDecoder(
        num_multimask_outputs=3,
        transformer=TwoWayTransformer(depth=2, embedding_dim=CHANNELS, mlp_dim=MLP_DIM, num_heads=HEADS),
        transformer_dim=CHANNELS,
        iou_head_depth=3,
        iou_head_hidden_dim=CHANNELS,
        pred_obj_scores=True,
        pred_obj_scores_mlp=True,
    )
    nn.init.constant_(network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, PRESENT)
    return network
