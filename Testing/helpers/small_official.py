"""SAM with its own ViT at a fraction of the size: as official weights are, frozen and with adapters."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from engine_doubles import tiny_config
from ProxyPromptSegmentLib.networks.backbones.lora import SAM_DECODER, SAM_ENCODER, inject_lora
from ProxyPromptSegmentLib.networks.backbones.network_packages import segment_anything_modeling
from ProxyPromptSegmentLib.networks.backbones.sam import SamBackbone
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel
from ProxyPromptSegmentLib.networks.proxy_prompt.generator import ProxyPromptGenerator


def small_vit_model(seed: int = 0, **changes: object) -> ProxyPromptModel:
    """A model on 64 pixels whose encoder is SAM's ViT with three blocks, one of them global."""
    torch.manual_seed(seed)
    backbone = SamBackbone("sam-compact", {"image_size": 64, "channels": 32, "mlp_dim": 32})
    backbone.sam.image_encoder = segment_anything_modeling().ImageEncoderViT(
        img_size=64, patch_size=8, embed_dim=16, depth=3, num_heads=2, out_chans=32, use_rel_pos=True, window_size=3,
        global_attn_indexes=(2,),
    )  # fmt: skip
    inject_lora(backbone.sam, 2, 2, (SAM_ENCODER, SAM_DECODER))
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return ProxyPromptModel(backbone, ProxyPromptGenerator(tiny_config(**changes)), 2).train()
