"""Every choice that the paper leaves open is one key here; the presets are named sets of choices."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from ProxyPromptSegmentLib.errors import CheckpointError, UsageError
from ProxyPromptSegmentLib.typed_json import read_object

CHOICES = {
    "encoder": ("vim", "vit_b", "resnet50", "vit_compact", "resnet_compact"),
    "reduce": ("token_linear", "pair_merge"),
    "positions": ("none", "sam_dense"),
    "inter_object": ("none", "pooled"),
    "selection": ("map", "mean"),
    "prompt": ("sparse", "dense", "both", "memory", "memory_and_dense", "memory_and_both"),
    "memory_bridge": ("linear", "split4"),
}


@dataclass(frozen=True, kw_only=True)
class ProxyPromptConfig:
    """Sizes and choices of a Proxy Prompt generator.

    Attributes:
        image_size: Side of the square input in pixels.
        grid: Side ``g`` of the backbone's feature grid.
        channels: Channels ``C`` of the backbone.
        encoder: Contextual encoder: Vision Mamba (``vim``), or what the paper's Table 5 compares it with: ``vit_b``
            (768 channels) and ``resnet50`` without its last stage (1024 channels), which have one size each, and
            ``vit_compact`` and ``resnet_compact``, which have ``vim_dim`` channels.
        vim_dim: Channels ``C^V`` of Vision Mamba and of the compact encoders.
        vim_depth: Blocks of Vision Mamba and of ``vit_compact``.
        vim_state: Vision Mamba's state size.
        vim_cls: Vision Mamba's class token: ``none`` or ``middle``.
        bridge_width: Channels inside the Bridge Unit; its output has ``channels``.
        cbam_residual: Whether the Bridge's second block sees its first block's output too, as in XMem.
        inter_object: Communication between objects in the Bridge: none, or pooled descriptors.
        selection: ``map`` (the Selective Map), or ``mean`` over supports (the paper's ablation).
        temperature: Divides the similarity before the softmax; 1 is the paper.
        ccm: Whether the Contextual Colorization Module is used (False: the paper's ablation).
        ccm_blocks: Blocks of the CCM, each halves the tokens.
        ccm_width: Channels inside the CCM.
        ccm_heads: Attention heads.
        ccm_ffn: Hidden units of its feed-forward layers.
        reduce: How a block halves the tokens.
        positions: Whether the CCM is given SAM's positional encoding.
        prompt: What reaches the decoder: sparse tokens, a dense prompt or both (SAM); tokens for the memory
            attention, or those and a dense prompt or both (SAM 2).
        memory_bridge: How SAM 2's memory attention is given the tokens, see `MemoryBridge`.
        mask_prior: Whether the supports' masks are read through the map as well.
        presence: Whether a presence logit is predicted.
        key_pool: Side in positions of the squares over which keys and values of the Selective Map are averaged; 1 is
            the paper.
        ccm_pool: The same for the tokens that enter the CCM.
        depth: Whether the relative position of a slice along its volume is one more coordinate of Eq. 6.
        merge_keys: Whether in use, not in training, keys far from every border are averaged, see `MergedKeys`.
        kinship: Whether presence also sees if target and support are images of one kind, see `Kinship`.
    """

    image_size: int = 1024
    grid: int = 64
    channels: int = 256
    encoder: str = "vim"
    vim_dim: int = 192
    vim_depth: int = 24
    vim_state: int = 16
    vim_cls: str = "none"
    bridge_width: int = 256
    cbam_residual: bool = False
    inter_object: str = "none"
    selection: str = "map"
    temperature: float = 1.0
    ccm: bool = True
    ccm_blocks: int = 4
    ccm_width: int = 256
    ccm_heads: int = 8
    ccm_ffn: int = 1024
    reduce: str = "token_linear"
    positions: str = "none"
    prompt: str = "sparse"
    memory_bridge: str = "linear"
    mask_prior: bool = False
    presence: bool = False
    key_pool: int = 1
    ccm_pool: int = 1
    depth: bool = False
    merge_keys: bool = False
    kinship: bool = False

    def __post_init__(self) -> None:
        """Reject values that are not among the choices.

        Raises:
            UsageError: If a key has another value.
        """
        for key, allowed in CHOICES.items():
            if getattr(self, key) not in allowed:
                raise UsageError(f"{key} is '{getattr(self, key)}'; allowed are {', '.join(allowed)}")
        for key in ("key_pool", "ccm_pool"):
            if getattr(self, key) < 1 or self.grid % getattr(self, key):
                raise UsageError(f"{key} is {getattr(self, key)}; it must divide the grid of {self.grid}")
        if self.merge_keys and (self.grid // self.key_pool) % 2:
            raise UsageError(f"keys are merged two by two; a grid of {self.grid // self.key_pool} is not even")
        if self.kinship and not self.presence:
            raise UsageError("kinship is a part of presence; ask for presence as well, or for neither.")

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as in a checkpoint."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ProxyPromptConfig:
        """Read a checkpoint's configuration.

        Raises:
            CheckpointError: If a key is unknown: the checkpoint is from another version.
            JsonError: If a value has another type.
        """
        unknown = values.keys() - {field.name for field in dataclasses.fields(cls)}
        if unknown:
            raise CheckpointError(
                f"the checkpoint has settings that this version does not know: {', '.join(sorted(unknown))}; "
                "update ProxyPromptSegment"
            )
        return read_object(cls, values)

    @property
    def for_memory(self) -> bool:
        """Whether the tokens are made for SAM 2's memory attention."""
        return self.prompt.startswith("memory")


PAPER = ProxyPromptConfig()
ROBUST = dataclasses.replace(PAPER, reduce="pair_merge", positions="sam_dense", cbam_residual=True)
# Scaled down to 256 pixels and a 32x32 grid; every departure from the paper is named in the model card.
COMPACT = ProxyPromptConfig(
    image_size=256,
    grid=32,
    channels=128,
    vim_dim=96,
    vim_depth=2,
    vim_state=8,
    bridge_width=96,
    cbam_residual=True,
    ccm_width=128,
    ccm_heads=4,
    ccm_ffn=256,
    reduce="pair_merge",
    positions="sam_dense",
    prompt="both",
    mask_prior=True,
    presence=True,
    ccm_pool=2,
    depth=True,
    merge_keys=True,
    kinship=True,
)
# For SAM 2: the tokens go into memory attention and keep an 8x8 grid; presence is the decoder's own score.
COMPACT_MEMORY = dataclasses.replace(
    COMPACT,
    image_size=128,
    grid=16,
    vim_dim=64,
    bridge_width=64,
    ccm_width=96,
    ccm_ffn=128,
    ccm_blocks=2,
    prompt="memory_and_dense",
    presence=False,
    ccm_pool=1,
    depth=False,
    merge_keys=False,
    kinship=False,
)
# For SAM 2 around the compact SAM's encoder: its generator, whose tokens go into memory attention as well. A frame
# without memories is so segmented as the compact SAM segments it, its presence included.
COMPACT_SHARED = dataclasses.replace(COMPACT, prompt="memory_and_both")
PAPER_MEMORY = dataclasses.replace(PAPER, prompt="memory")
ROBUST_MEMORY = dataclasses.replace(ROBUST, prompt="memory")
PRESETS = {
    "paper": PAPER,
    "robust": ROBUST,
    "compact": COMPACT,
    "paper-memory": PAPER_MEMORY,
    "robust-memory": ROBUST_MEMORY,
    "compact-memory": COMPACT_MEMORY,
    "compact-shared": COMPACT_SHARED,
}
