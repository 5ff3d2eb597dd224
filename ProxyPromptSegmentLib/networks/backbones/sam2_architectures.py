"""The SAM 2 networks: the package's own modules, by its packaged YAML, and a compact configuration of them.

References:
    Ravi et al., SAM 2: Segment Anything in Images and Videos, 2024; the package's ``configs`` for the official sizes.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

from torch import nn

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.networks.backbones.sam import FIRST_COMPACT_SIZE
from ProxyPromptSegmentLib.weights.availability import newer_torch_for, torch_version

# name: configuration inside the package
SAM2_CONFIGS: dict[str, str] = {
    f"sam{version}-hiera-{size}": f"configs/sam{version}/sam{version}_hiera_{letter}.yaml"
    for version in ("2", "2.1")
    for size, letter in (("tiny", "t"), ("small", "s"), ("base-plus", "b+"), ("large", "l"))
}
COMPACT_NAME = "sam2-compact"
SAM2_NAMES = (*SAM2_CONFIGS, COMPACT_NAME)


def build_sam2_modules(name: str, image_size: int | None = None) -> nn.Module:
    """Build ``sam2.modeling.sam2_base.SAM2Base`` with random weights.

    The package's ``build_sam2`` composes through Hydra's global state and switches on a fallback that was never
    trained (three masks where the single one looks unstable); reading the same YAML directly does neither.

    Args:
        name: One of `SAM2_NAMES`.
        image_size: Side of the compact configuration's input in pixels. Up to that of its first version, it has an
            encoder of its own; above, that of the compact SAM.

    Raises:
        UsageError: If the name is unknown, or PyTorch is too old for SAM 2.
    """
    if name not in SAM2_NAMES:
        raise UsageError(f"there is no SAM 2 backbone '{name}'; choose one of {', '.join(SAM2_NAMES)}")
    if needed := newer_torch_for("sam2"):
        raise UsageError(
            f"'{name}' is not available here: SAM 2 needs PyTorch {needed} or newer, and this is {torch_version()}; "
            "choose a model of the SAM kind, such as sam-compact, or use a newer PyTorch"
        )
    if name == COMPACT_NAME:
        if image_size is not None and image_size > FIRST_COMPACT_SIZE:
            from ProxyPromptSegmentLib.networks.backbones.sam2_shared import build_shared

            return build_shared(image_size)
        return _build_compact()
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    text = resources.files("sam2").joinpath(SAM2_CONFIGS[name]).read_text(encoding="utf-8")
    return instantiate(OmegaConf.create(text).model, _recursive_=True)


# Sizes of the first compact configuration: 128 pixels, a 16 x 16 grid, and SAM 2's proportions of 4 between the width
# of the features and of the memory.
COMPACT: dict[str, Any] = {
    "image_size": 128,
    "stride": 8,
    "channels": 128,
    "memory_channels": 32,
    "memory_layers": 2,
    "mlp_dim": 256,
    "heads": 4,
}


def _build_compact() -> nn.Module:
    """Build SAM 2 at a size that two CPU cores can train: its own modules around a convolutional trunk."""
    from sam2.modeling.backbones.image_encoder import ImageEncoder
    from sam2.modeling.memory_attention import MemoryAttention, MemoryAttentionLayer
    from sam2.modeling.memory_encoder import CXBlock, Fuser, MaskDownSampler, MemoryEncoder
    from sam2.modeling.position_encoding import PositionEmbeddingSine
    from sam2.modeling.sam.mask_decoder import MaskDecoder
    from sam2.modeling.sam.transformer import RoPEAttention, TwoWayTransformer
    from sam2.modeling.sam2_base import SAM2Base

    from ProxyPromptSegmentLib.networks.backbones.compact_encoder import CompactTrunk
    from ProxyPromptSegmentLib.networks.backbones.compact_neck import CompactNeck

    size, channels, narrow = COMPACT["image_size"], COMPACT["channels"], COMPACT["memory_channels"]
    grid = size // COMPACT["stride"]
    trunk = CompactTrunk(size)
    rope = {
        "rope_theta": 10000.0,
        "feat_sizes": [grid, grid],
        "embedding_dim": channels,
        "num_heads": 1,
        "downsample_rate": 1,
        "dropout": 0.0,
    }
    layer = MemoryAttentionLayer(
        activation="relu",
        cross_attention=RoPEAttention(rope_k_repeat=True, kv_in_dim=narrow, **rope),
        d_model=channels,
        dim_feedforward=COMPACT["mlp_dim"],
        dropout=0.0,
        pos_enc_at_attn=False,
        pos_enc_at_cross_attn_keys=True,
        pos_enc_at_cross_attn_queries=False,
        self_attention=RoPEAttention(**rope),
    )
    network = SAM2Base(
        image_encoder=ImageEncoder(
            trunk=trunk,
            neck=CompactNeck(
                position_encoding=PositionEmbeddingSine(num_pos_feats=channels),
                d_model=channels,
                backbone_channel_list=trunk.channel_list,
                fpn_top_down_levels=[2, 3],
                fpn_interp_model="nearest",
            ),
            scalp=1,
        ),
        memory_attention=MemoryAttention(
            d_model=channels, pos_enc_at_input=True, layer=layer, num_layers=COMPACT["memory_layers"]
        ),
        memory_encoder=MemoryEncoder(
            out_dim=narrow,
            in_dim=channels,
            mask_downsampler=MaskDownSampler(
                embed_dim=channels, kernel_size=3, stride=2, padding=1, total_stride=COMPACT["stride"]
            ),
            # The package's layer scale of 1e-6 is for its long training; from there these blocks would stay idle here.
            fuser=Fuser(CXBlock(channels, kernel_size=7, padding=3, layer_scale_init_value=0.1), num_layers=2),
            position_encoding=PositionEmbeddingSine(num_pos_feats=narrow),
        ),
        image_size=size,
        backbone_stride=COMPACT["stride"],
        sigmoid_scale_for_mem_enc=20.0,
        sigmoid_bias_for_mem_enc=-10.0,
        use_mask_input_as_output_without_sam=True,
        directly_add_no_mem_embed=True,
        use_high_res_features_in_sam=True,
        iou_prediction_use_sigmoid=True,
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
    # SAM2Base fixes the decoder's inner width at 2048, eight times the rest of this network.
    network.sam_mask_decoder = MaskDecoder(
        num_multimask_outputs=3,
        transformer=TwoWayTransformer(
            depth=2, embedding_dim=channels, mlp_dim=COMPACT["mlp_dim"], num_heads=COMPACT["heads"]
        ),
        transformer_dim=channels,
        iou_head_depth=3,
        iou_head_hidden_dim=channels,
        use_high_res_features=True,
        iou_prediction_use_sigmoid=True,
        pred_obj_scores=True,
        pred_obj_scores_mlp=True,
    )
    return network
