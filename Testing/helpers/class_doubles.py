"""A small generator that needs no support, and models, files and jobs with it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import engine_doubles
from engine_doubles import tiny_backbone, torch
from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom
from ProxyPromptSegmentLib.inference.classes import asked_classes
from ProxyPromptSegmentLib.inference.job import plan_without_support
from ProxyPromptSegmentLib.networks import generators
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel
from ProxyPromptSegmentLib.networks.values import Prompt
from ProxyPromptSegmentLib.networks.vocabulary import VocabularyModule
from ProxyPromptSegmentLib.weights.vocabulary import PromptClass

CLASSES = (
    PromptClass("prostate", code="41216001", meaning="Prostate", color_rgb=(0.9, 0.1, 0.2), one_piece=True),
    PromptClass("bladder", code="89837001", meaning="Urinary bladder", synonyms=("urinary bladder",)),
    PromptClass("polyp", modalities=("endoscopy",)),
)


@dataclass(frozen=True, kw_only=True)
class MarkConfig:
    image_size: int = 64
    grid: int = 8
    channels: int = 32
    classes: tuple[PromptClass, ...] = CLASSES

    def to_dict(self):
        return dataclasses.asdict(self)


class MarkGenerator(VocabularyModule):
    """Marks what is bright, each class with vectors of its own; ``calls`` counts how often it reads images."""

    embeds = True

    def __init__(self, config):
        super().__init__(config)
        self.marks = torch.nn.Parameter(3 * torch.randn(len(config.classes), config.channels))
        self.calls = 0

    def embed(self, images):
        self.calls += 1
        return torch.nn.functional.adaptive_avg_pool2d(images.mean(1), self.config.grid)

    def prompt(self, features, prepared):
        dense = self.marks[prepared.classes][None, :, :, None, None] * features.seen[:, None, None]
        return Prompt(dense=dense, presence=dense.mean((2, 3, 4)) * 0 + 20, names=prepared.names)


KIND = {"marks": generators.GeneratorKind(MarkConfig, MarkGenerator)}


def mark_model(seed=0, **changes):
    """A model that knows `CLASSES`, with random weights on 64 pixels."""
    torch.manual_seed(seed)
    return ProxyPromptModel(tiny_backbone(), MarkGenerator(MarkConfig(**changes))).eval()


def class_job(*names, seed=12, size=(10, 40, 40), **options):
    """A job on a phantom that asks for classes."""
    found = [one for one in CLASSES if one.name in names] if names else CLASSES[:2]
    return plan_without_support(pelvis_phantom(seed, size)[0], asked_classes(found), **options)


__all__ = ["CLASSES", "KIND", "MarkConfig", "MarkGenerator", "class_job", "engine_doubles", "mark_model"]
