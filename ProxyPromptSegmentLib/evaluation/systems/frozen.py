"""The model whose weights the compared systems share: loaded once, when the first of them needs it."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.networks.official import load_base
from ProxyPromptSegmentLib.networks.proxy_prompt.config import COMPACT
from ProxyPromptSegmentLib.networks.tensor_hash import tensors_sha256
from ProxyPromptSegmentLib.weights.entry import ModelKind
from ProxyPromptSegmentLib.weights.registry import all_entries

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.networks.backbones.sam import SamBackbone

OFFICIAL_SUFFIXES = (".pth", ".pt")


class Frozen:
    """Weights that no system changes: a model of this project, or official weights without a prompt generator.

    Attributes:
        name: Name or path by which they were asked for.
        device: The device to compute on.
    """

    def __init__(self, model: str, device: str = "cpu", base: Path | None = None, fits: str = "") -> None:
        """Remember what to load.

        Args:
            model: Name or path of a model, or name or ``.pth`` file of official weights.
            device: The device to compute on.
            base: File of the official weights below a prompt generator, if the registry has it elsewhere.
            fits: Backbone that a file of official weights fits.
        """
        self.name, self.device, self._base, self._fits = model, device, base, fits

    @classmethod
    def of(cls, segmenter: Segmenter, name: str = "model") -> Frozen:
        """Return a model that is loaded already."""
        made = cls(name)
        made.__dict__["segmenter"] = segmenter
        return made

    @cached_property
    def segmenter(self) -> Segmenter:
        """The loaded model; whoever trains copies its network first.

        Raises:
            CheckpointError: If there is no such model, or its file is damaged.
        """
        from ProxyPromptSegmentLib.inference.loading import load

        official = next(
            (one for one in all_entries() if one.name == self.name and one.kind == ModelKind.BACKBONE), None
        )
        if official is None and not self.name.lower().endswith(OFFICIAL_SUFFIXES):
            return load(self.name, self.device, self._base).segmenter

        backbone = official.fits if official else self._fits
        weights = load_base(self.name if official else Path(self.name), backbone)
        return _without_generator(backbone, weights.tensors, self.device)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the weights of its backbone, since another file may come to have its name."""
        return tensors_sha256(self.segmenter.model.backbone.state_dict())

    @property
    def backbone(self) -> str:
        """Name of the backbone's architecture."""
        return self.segmenter.model.backbone.name

    @property
    def title(self) -> str:
        """Its name in tables: of a file without its folder and suffix."""
        path = Path(self.name)
        return path.stem if path.suffix.lower() in (*OFFICIAL_SUFFIXES, ".safetensors") else self.name

    @property
    def compact(self) -> bool:
        """Whether it is one of this project's own small backbones."""
        from ProxyPromptSegmentLib.networks.model import COMPACT_NAMES

        return self.backbone in COMPACT_NAMES

    def stands_in(self, published: str) -> str:
        """Return a note for `System.source` where other weights stand in for those that a method is published with."""
        return f"; {self.title} stands in for {published}" if self.compact else ""


def check_sam(segmenter: Segmenter) -> SamBackbone:
    """Return the model's backbone as a SAM.

    Raises:
        UsageError: If it is none.
    """
    from ProxyPromptSegmentLib.networks.backbones.sam import SamBackbone

    backbone = segmenter.model.backbone
    if not isinstance(backbone, SamBackbone):
        raise UsageError(
            f"this system reads the decoder of SAM, and {backbone.name} has another one; choose a model on SAM, such "
            "as sam-compact."
        )
    return backbone


def _without_generator(name: str, tensors: dict[str, Any], device: str) -> Segmenter:
    """Return official weights as a segmenter for SAM's own prompts; its small prompt generator is never asked."""
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.networks.backbones.sam import SAM_NAMES, SamBackbone
    from ProxyPromptSegmentLib.networks.backbones.sam2 import Sam2Backbone
    from ProxyPromptSegmentLib.networks.model import ProxyPromptModel
    from ProxyPromptSegmentLib.networks.proxy_prompt.generator import ProxyPromptGenerator

    made: SamBackbone | Sam2Backbone
    if name in SAM_NAMES:
        made = SamBackbone(name)
        made.sam.load_state_dict(tensors)
    else:
        made = Sam2Backbone(name)
        made.sam2.load_state_dict(tensors)
    config = replace(COMPACT, image_size=made.image_size, grid=made.grid, channels=made.channels)
    generator = ProxyPromptGenerator(config)
    return Segmenter(ProxyPromptModel(made.requires_grad_(False), generator), device)
