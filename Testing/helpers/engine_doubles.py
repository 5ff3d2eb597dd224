"""Small models and doubles that the tests of the engine share."""

from __future__ import annotations

import importlib.util

import pytest

torch = pytest.importorskip("torch")

from torch import nn
from torch.nn import functional

if importlib.util.find_spec("segment_anything") is None:
    pytest.skip("segment_anything is not installed", allow_module_level=True)

from ProxyPromptSegmentLib.networks.backbones.compact_encoder import CompactImageEncoder
from ProxyPromptSegmentLib.networks.backbones.sam import SamBackbone
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel
from ProxyPromptSegmentLib.networks.proxy_prompt.config import ProxyPromptConfig
from ProxyPromptSegmentLib.networks.proxy_prompt.generator import ProxyPromptGenerator
from ProxyPromptSegmentLib.networks.values import Decoded, ImageFeatures, PreparedSupport, Prompt

TINY = {
    "image_size": 64,
    "grid": 8,
    "channels": 32,
    "vim_dim": 16,
    "vim_depth": 1,
    "vim_state": 4,
    "bridge_width": 16,
    "ccm_width": 32,
    "ccm_heads": 4,
    "ccm_ffn": 32,
    "reduce": "pair_merge",
}
EVERYTHING = {"positions": "sam_dense", "prompt": "both", "mask_prior": True, "presence": True, "cbam_residual": True}


def tiny_config(**changes):
    return ProxyPromptConfig(**{**TINY, **changes})


def tiny_backbone():
    """The compact backbone on 64 pixels with a thin encoder."""
    backbone = SamBackbone("sam-compact", {"image_size": 64, "channels": 32, "mlp_dim": 32})
    backbone.sam.image_encoder = CompactImageEncoder(img_size=64, widths=(8, 16, 24, 40), out_channels=32)
    return backbone


def decided_backbone(seed=0):
    """The thin backbone with random weights, whose decoder's answers differ clearly from each other."""
    torch.manual_seed(seed)
    made = tiny_backbone().eval()
    with torch.no_grad():
        for parameter in made.sam.mask_decoder.parameters():
            if parameter.ndim > 1:
                parameter.mul_(2)
    return made


def tiny_model(seed=0, **changes):
    """A model with random weights on 64 pixels, large enough that its answers differ from each other."""
    torch.manual_seed(seed)
    model = ProxyPromptModel(tiny_backbone(), ProxyPromptGenerator(tiny_config(**changes)))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(1.5)
    return model.eval()


def tiny_generator(seed=0, **changes):
    torch.manual_seed(seed)
    return ProxyPromptGenerator(tiny_config(**changes)).eval()


def random_features(count, config, seed=1):
    chance = torch.Generator().manual_seed(seed)
    top = torch.randn(count, config.channels, config.grid, config.grid, generator=chance)
    positions = torch.randn(config.channels, config.grid, config.grid, generator=chance)
    return ImageFeatures(
        top=top, positions=positions, valid=torch.ones(count, config.grid, config.grid, dtype=torch.bool)
    )


def random_support(generator, supports, objects, seed=2):
    """Prepared supports with random images and masks."""
    config = generator.config
    chance = torch.Generator().manual_seed(seed)
    images = torch.rand(supports, 3, config.image_size, config.image_size, generator=chance)
    masks = (torch.rand(supports, objects, config.image_size, config.image_size, generator=chance) > 0.6).float()
    names = tuple(f"object {n}" for n in range(objects))
    return generator.prepare(random_features(supports, config, seed + 1), images, masks, names)


class EchoBackbone(nn.Module):
    """Finds bright pixels: its embedding is the image, its logits are the image above one half."""

    name, image_size, grid, channels, keeps_aspect = "echo", 64, 64, 1, True

    def encode(self, images, valid=None):
        return ImageFeatures(top=images[:, :1], positions=torch.zeros(1, 64, 64), valid=valid)

    def prompt_points(self, points, labels):
        return torch.zeros(len(points), 1, self.channels)

    def decode_masks(self, features, prompt, outputs=(0, 1, 2, 3)):
        decoded = self.decode(features, prompt)
        return torch.stack([decoded.logits for _ in outputs], 2), torch.stack([decoded.quality for _ in outputs], 2)

    def decode(self, features, prompt: Prompt):
        logits = (features.top - 0.5) * 20
        return Decoded(
            logits=logits.expand(-1, len(prompt.names), -1, -1), quality=torch.ones(len(logits), len(prompt.names))
        )


class EchoGenerator(nn.Module):
    """Keeps the supports' embeddings and where their masks are; its prompt says names alone."""

    config = tiny_config(image_size=64, grid=64, channels=1)

    def prepare(self, features, images, masks, names=()):
        occupancy = functional.adaptive_avg_pool2d(masks, features.top.shape[-1]).flatten(2)
        valid = features.valid.flatten(1)
        return PreparedSupport(
            features=features.top.flatten(2),
            aggregated=occupancy.unsqueeze(2),
            occupancy=occupancy,
            valid=valid,
            names=names,
        )

    def prompt(self, features, support, chosen=None):
        return Prompt(names=support.names)

    def why(self, features, support, positions):
        side = features.top.shape[-1]
        return torch.full((len(positions), len(support.features), side, side), 1 / (len(support.features) * side**2))


class ReadsSupports:
    """What the segmenter asks of a model whose prompts come from supports alone."""

    needs_support = True

    def encode(self, images, valid=None):
        return self.backbone.encode(images, valid)


class EchoModel(ReadsSupports, nn.Module):
    """A model that needs no support; it shows where the segmenter puts what a network says."""

    def __init__(self):
        super().__init__()
        self.backbone, self.generator = EchoBackbone(), EchoGenerator()

    def prepare(self, images, masks, names=(), valid=None):
        return self.generator.prepare(self.backbone.encode(images, valid), images, masks, names)

    def predict(self, features, support, chosen=None):
        prompt = self.generator.prompt(features, support, chosen)
        return self.backbone.decode(features, prompt), prompt
