"""LoRA on encoder and decoder through `peft`; the recipe and its counts are in ``Docs/method_notes.md``.

References:
    Proxy Prompt, section 3.1 (LoRA on encoder and decoder); SAMed for rank 4 and scale 1.
"""

from __future__ import annotations

from torch import nn

from ProxyPromptSegmentLib.networks.backbones import network_packages

# Full-match patterns: a bare "q_proj" would also catch SAM 2's memory attention.
SAM_ENCODER = r".*image_encoder\.blocks\.\d+\.attn\.qkv"
SAM_DECODER = r".*mask_decoder\.transformer\..*\.(q_proj|v_proj)"
SAM2_ENCODER = r".*image_encoder\.trunk\.blocks\.\d+\.attn\.qkv"
SAM2_DECODER = r".*sam_mask_decoder\.transformer\..*\.(q_proj|v_proj)"


def inject_lora(
    module: nn.Module, rank: int = 4, alpha: int = 4, targets: tuple[str, ...] = (SAM_ENCODER, SAM_DECODER)
) -> None:
    """Add LoRA adapters in place and freeze all other parameters of the module.

    Base weights must be loaded before: afterwards their keys have ``base_layer`` in them.

    Args:
        module: A backbone.
        rank: Rank of the two factors.
        alpha: Scale is ``alpha / rank``.
        targets: Regular expressions that match whole module names.
    """
    peft = network_packages.peft()
    pattern = "|".join(f"(?:{target})" for target in targets)
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=pattern, lora_dropout=0.0)
    peft.inject_adapter_in_model(config, module)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_("lora_" in name)
