"""A backbone and a prompt generator side by side, and how a named model is built."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import nn

from ProxyPromptSegmentLib.errors import CheckpointError, UsageError
from ProxyPromptSegmentLib.networks.backbones.lora import (
    SAM2_DECODER,
    SAM2_ENCODER,
    SAM_DECODER,
    SAM_ENCODER,
    inject_lora,
)
from ProxyPromptSegmentLib.networks.backbones.sam import COMPACT_NAME as COMPACT_SAM
from ProxyPromptSegmentLib.networks.backbones.sam import SAM_NAMES, SamBackbone
from ProxyPromptSegmentLib.networks.backbones.sam2 import Sam2Backbone
from ProxyPromptSegmentLib.networks.backbones.sam2_architectures import COMPACT_NAME as COMPACT_SAM2
from ProxyPromptSegmentLib.networks.backbones.sam2_architectures import SAM2_NAMES
from ProxyPromptSegmentLib.networks.generators import KINDS, kind_of_config
from ProxyPromptSegmentLib.networks.protocols import AnyGenerator, Backbone, GeneratorConfig, VocabularyGenerator
from ProxyPromptSegmentLib.networks.proxy_prompt.config import COMPACT, COMPACT_MEMORY, PRESETS, ProxyPromptConfig
from ProxyPromptSegmentLib.networks.values import Decoded, ImageFeatures, Prepared, PreparedSupport, Prompt
from ProxyPromptSegmentLib.weights.vocabulary import PROXY

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.networks.backbones.sam2 import Sam2Backbone

COMPACT_NAMES = (COMPACT_SAM, COMPACT_SAM2)
LORA_RANK = 4  # of adapters in official backbones, see `Docs/method_notes.md`
LoraRank: TypeAlias = "int | tuple[int, int]"  # the same in encoder and decoder, or one for each
BACKBONE_NAMES = (*SAM_NAMES, *SAM2_NAMES)


class ProxyPromptModel(nn.Module):
    """A prompt generator on one backbone: tensors in, tensors out; `Segmenter` owns sizes, caches and NumPy.

    Attributes:
        backbone: SAM, or SAM 2, which without memories segments each frame on its own.
        generator: Makes prompts: of supports, or of what it knows itself.
        lora_rank: Rank of the adapters in the backbone, or those of encoder and decoder; 0 where there are none.
    """

    def __init__(self, backbone: Backbone, generator: AnyGenerator, lora_rank: LoraRank = 0) -> None:
        """Combine a backbone and a prompt generator.

        Raises:
            UsageError: If the generator was configured for another grid or width.
        """
        super().__init__()
        wanted = (generator.config.image_size, generator.config.grid, generator.config.channels)
        offered = (backbone.image_size, backbone.grid, backbone.channels)
        if wanted != offered:
            raise UsageError(
                f"the prompt generator is made for size, grid and channels {wanted}, "
                f"the backbone {backbone.name} has {offered}; choose a generator for this backbone"
            )
        self.backbone = backbone
        self.generator: Any = generator
        self.lora_rank = lora_rank

    @property
    def needs_support(self) -> bool:
        """Whether the generator makes prompts of supports; else it knows classes."""
        return not isinstance(self.generator, VocabularyGenerator)

    def encode(self, images: torch.Tensor, valid: torch.Tensor | None = None) -> ImageFeatures:
        """Embed images with everything that depends on them alone; arguments as of `Backbone.encode`."""
        features = self.backbone.encode(images, valid)
        if self.needs_support or not self.generator.embeds:
            return features
        return dataclasses.replace(features, seen=self.generator.embed(images))

    def prepare(
        self,
        images: torch.Tensor,
        masks: torch.Tensor,
        names: tuple[str, ...] = (),
        valid: torch.Tensor | None = None,
    ) -> PreparedSupport:
        """Compute everything that depends on the supports alone.

        Args:
            images: ``(K, 3, size, size)`` in 0..1.
            masks: ``(K, N, size, size)``, 0 or 1.
            names: The ``N`` objects.
            valid: Feature positions that are not padding, bool ``(K, g, g)``.
        """
        return self.generator.prepare(self.backbone.encode(images, valid), images, masks, names)

    def prompt(self, features: ImageFeatures, prepared: Prepared, chosen: torch.Tensor | None = None) -> Prompt:
        """Compute the prompt of ``B`` embedded targets for all objects; ``chosen`` as of `PromptGenerator.prompt`."""
        if isinstance(prepared, PreparedSupport):
            return self.generator.prompt(features, prepared, chosen)
        return self.generator.prompt(features, prepared)

    def predict(
        self, features: ImageFeatures, prepared: Prepared, chosen: torch.Tensor | None = None
    ) -> tuple[Decoded, Prompt]:
        """Prompt and decode ``B`` embedded targets for all objects."""
        prompt = self.prompt(features, prepared, chosen)
        return self.decode(features, prompt), prompt

    def decode(self, features: ImageFeatures, prompt: Prompt) -> Decoded:
        """Decode a prompt of this model's generator."""
        decoded = self.backbone.decode(features, prompt)
        return decoded if self.needs_support else self.generator.finish(decoded, features)

    def describe(self) -> dict[str, Any]:
        """Return the metadata from which `build_model` rebuilds the same architecture."""
        kind = kind_of_config(self.generator.config)
        return {
            "backbone": self.backbone.name,
            "generator": self.generator.config.to_dict(),
            "lora_rank": self.lora_rank,
            **({} if kind == PROXY else {"generator_kind": kind}),
        }


def build_model(
    backbone: str = COMPACT_SAM,
    generator: GeneratorConfig | str | None = None,
    lora_rank: LoraRank | None = None,
    base: dict[str, torch.Tensor] | None = None,
) -> ProxyPromptModel:
    """Build a model; weights that are not given are random.

    Args:
        backbone: A name of `BACKBONE_NAMES`.
        generator: A configuration, or the name of a preset (``paper``, ``robust``, ``compact``; ``-memory`` at its
            end for SAM 2); by default the one that fits the backbone. Its class says which kind of generator is built.
        lora_rank: Rank of the adapters, or one each for image encoder and mask decoder; by default 4 on an official
            backbone, which stays frozen, and 0 on a compact one, which is trained as a whole, and with a generator that
            knows classes.
        base: State dict of ``segment_anything.modeling.Sam`` or ``sam2``'s ``SAM2Base``, as official checkpoints have
            it; it is loaded before the adapters change the names.

    Raises:
        UsageError: If a name is unknown or the two do not fit.
        CheckpointError: If ``base`` does not fit the backbone exactly.
    """
    if backbone not in BACKBONE_NAMES:
        raise UsageError(f"there is no backbone '{backbone}'; choose one of {', '.join(BACKBONE_NAMES)}")
    compact, video = backbone in COMPACT_NAMES, backbone in SAM2_NAMES
    if generator is None:
        generator = ("compact" if compact else "robust") + ("-memory" if video else "")
    if isinstance(generator, str):
        if generator not in PRESETS:
            raise UsageError(f"there is no preset '{generator}'; choose one of {', '.join(PRESETS)}")
        generator = PRESETS[generator]
    proxy = generator if isinstance(generator, ProxyPromptConfig) else None
    if proxy is not None and proxy.for_memory and not video:
        raise UsageError(f"the prompt generator needs a memory, which {backbone} does not have; choose a SAM 2")
    # The size tells which of its two image encoders a checkpoint of a compact model has.
    sized = compact and (generator.grid, generator.channels) != (64, 256)
    made: SamBackbone | Sam2Backbone
    if video:
        size = generator.image_size if sized else None
        bridge = None if proxy is None else proxy.memory_bridge
        made = Sam2Backbone(backbone, bridge, proxy is not None and proxy.reduce == "pair_merge", size)
        modules, targets = made.sam2, (SAM2_ENCODER, SAM2_DECODER)
    else:
        made = SamBackbone(backbone, {"image_size": generator.image_size} if sized else None)
        modules, targets = made.sam, (SAM_ENCODER, SAM_DECODER)
    if base is not None:
        _fill(modules, base, backbone)
    if lora_rank is None:
        lora_rank = 0 if compact or proxy is None else LORA_RANK
    ranks = (lora_rank, lora_rank) if isinstance(lora_rank, int) else (int(lora_rank[0]), int(lora_rank[1]))
    # The bridge into SAM 2's memory belongs to the prompt: it lies outside of these modules and stays trainable.
    adapted = {ranks[0]: targets} if ranks[0] == ranks[1] else {ranks[0]: targets[:1], ranks[1]: targets[1:]}
    for rank, places in adapted.items():
        if rank:
            inject_lora(modules, rank, rank, places)
    if not compact and not any(ranks):
        modules.requires_grad_(False)
    if proxy is not None and compact and (proxy.grid, proxy.channels) == (64, 256):
        # The paper's choices at the compact size, for reproductions that two cores can train.
        small = COMPACT_MEMORY if video else COMPACT
        sizes = ("vim_dim", "vim_depth", "vim_state", "bridge_width", "ccm_width", "ccm_heads", "ccm_ffn")
        generator = dataclasses.replace(
            proxy,
            image_size=made.image_size,
            grid=made.grid,
            channels=made.channels,
            **{key: getattr(small, key) for key in sizes},
        )
    prompts = KINDS[kind_of_config(generator)].generator(generator)
    return ProxyPromptModel(made, prompts, ranks[0] if ranks[0] == ranks[1] else ranks)


def _fill(modules: nn.Module, base: dict[str, torch.Tensor], backbone: str) -> None:
    """Load base weights, which must match exactly.

    Raises:
        CheckpointError: If a name or shape differs; PyTorch's own message would list hundreds of them.
    """
    own = modules.state_dict()
    missing, unknown = sorted(own.keys() - base.keys()), sorted(base.keys() - own.keys())
    other = sorted(name for name in own.keys() & base.keys() if own[name].shape != base[name].shape)
    if missing or unknown or other:
        raise CheckpointError(
            f"these weights are not those of {backbone}: {len(missing)} tensors are missing (first {missing[:1]}), "
            f"{len(unknown)} are unknown (first {unknown[:1]}), {len(other)} have another shape (first {other[:1]}); "
            "give the checkpoint of this very size and version"
        )
    modules.load_state_dict(base)
