"""SAM 2 with random weights at a size for tests, sequences to follow, and a network that clings to its memory."""

from __future__ import annotations

import gc
from unittest.mock import patch

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sam2")

from torch import nn
from torch.nn import functional

from engine_doubles import EVERYTHING, ReadsSupports, tiny_config
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.networks.backbones import sam2_architectures
from ProxyPromptSegmentLib.networks.backbones.sam2 import Sam2Backbone
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel
from ProxyPromptSegmentLib.networks.proxy_prompt.generator import ProxyPromptGenerator
from ProxyPromptSegmentLib.networks.values import Decoded, FrameMemory, ImageFeatures, PreparedSupport, Prompt
from ProxyPromptSegmentLib.support.pairs import SupportPair, SupportSet
from ProxyPromptSegmentLib.tracking.tracker import Tracker

WINDOW = (0.0, 160.0)
SMALL = {"image_size": 64, "channels": 32, "memory_channels": 8, "memory_layers": 1, "mlp_dim": 32}
FIELDS = ("probability", "presence", "quality")


def tiny_sam2(seed=0, **changes):
    """SAM 2 with random weights on 64 pixels; the objects count as present, or no mask would enter the memory."""
    torch.manual_seed(seed)
    with patch.dict(sam2_architectures.COMPACT, SMALL):
        backbone = Sam2Backbone("sam2-compact", grid_positions=True)
    choices = {**EVERYTHING, "prompt": "memory_and_dense", "ccm_blocks": 2, "presence": False, **changes}
    model = ProxyPromptModel(backbone, ProxyPromptGenerator(tiny_config(**choices)))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(1.5)
        backbone.sam2.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.add_(2.0)
    return model.eval()


def sweep(count=5, shape=(40, 56), seed=0):
    """Frames with a bright box that moves."""
    images = np.random.default_rng(seed).uniform(0, 60, (count, *shape)).astype(np.float32)
    for t in range(count):
        images[t, 8 + t % 8 : 24 + t % 8, 10 : 30 + t % 8] += 100
    return images


def support(pairs=1, seed=7, names=("box", "rest")):
    images = sweep(pairs, seed=seed)
    masks = np.zeros((pairs, 2, 40, 56), np.uint8)
    masks[:, 0, 8:24, 10:30] = 1
    masks[:, 1, 26:38, 34:50] = 1
    masks = masks[:, : len(names)]
    return SupportSet(tuple(SupportPair(i, m, (1.0, 1.0), WINDOW) for i, m in zip(images, masks, strict=True)), names)


def started(segmenter, given, mode="proxy+bank", **options):
    tracker = Tracker(segmenter, mode, **{"check_agreement": False, **options})
    tracker.start(given, WINDOW)
    return tracker


def follow(tracker, images):
    return [tracker.step(image) for image in images]


def assert_same(first, second, **tolerance):
    for name in FIELDS:
        allowed = {"atol": 1e-5, "rtol": 0, **tolerance}
        np.testing.assert_allclose(getattr(first, name), getattr(second, name), **allowed)


def difference(first, second):
    return float(np.abs(first.probability - second.probability).max())


def held(tracker):
    """Bytes that the banks hold, and all tensors that are alive."""
    gc.collect()
    stores = {}
    for bank in tracker._now.banks:
        for memory in bank._predicted + bank._given:
            for tensor in (memory.spatial, memory.pointer):
                stores[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    return sum(stores.values()), sum(type(thing) is torch.Tensor for thing in gc.get_objects())


def growth(tracker, images, at):
    """What is held after some of the frames."""
    embedded = [tracker.segmenter.encode(image[None], tracker._window) for image in images]
    seen = []
    for t in range(max(at) + 1):
        tracker.step(images[t % len(images)], encoded=embedded[t % len(images)])
        if t in at:
            seen.append(held(tracker))
    return seen


class StickyBackbone(nn.Module):
    """Sees bright pixels, object n in colour n; with a memory it repeats what it remembers, whatever it sees."""

    name, image_size, grid, channels, memories, pointers, keeps_aspect = "sticky", 64, 16, 3, 6, 16, True

    def __init__(self):
        super().__init__()
        self.decoded_alone = 0

    def encode(self, images, valid=None):
        top = functional.adaptive_avg_pool2d(images, self.grid)
        return ImageFeatures(top=top, positions=torch.zeros(3, 16, 16), valid=valid, high_res=(images,))

    def decode(self, features, prompt, memories=(), frame=0):
        seen = [m for m in memories if m.spatial.numel() and m.frame < frame]
        if seen:
            logits = max(seen, key=lambda m: m.frame).spatial.unflatten(0, (1, -1))[:, :, 0]
        else:
            self.decoded_alone += 1
            logits = (features.high_res[0][:, prompt.memory[0, :, 0, 0].long()] - 0.5) * 20
        presence = torch.where((logits > 0).flatten(2).any(-1), 8.0, -8.0)
        return Decoded(
            logits=logits, quality=torch.full_like(presence, 0.9), presence=presence, pointer=presence.unsqueeze(-1)
        )

    def prompt_points(self, points, labels):
        return torch.zeros(len(points), 1, self.channels)

    def decode_masks(self, features, prompt, outputs=(0, 1, 2, 3)):
        decoded = self.decode(features, prompt)
        return torch.stack([decoded.logits for _ in outputs], 2), torch.stack([decoded.quality for _ in outputs], 2)

    def remember(self, features, decoded, frame):
        return FrameMemory(frame=frame, spatial=decoded.logits[0].unsqueeze(1), pointer=decoded.pointer[0])

    def remember_mask(self, features, masks, frame):
        return FrameMemory(
            frame=frame, spatial=(masks[0].unsqueeze(1) - 0.5) * 20, pointer=masks[0, :, 0, :1], conditioning=True
        )


class StickyModel(ReadsSupports, nn.Module):
    def __init__(self, prior=lambda seen: seen):
        super().__init__()
        self.backbone, self.generator = StickyBackbone(), StickyGenerator(prior)


class StickyGenerator:
    """Its proxy prompt says which colour to look for; ``prior`` is what the supports' masks seem to say."""

    def __init__(self, prior):
        self.prior = prior

    def prompt(self, features, given, chosen=None):
        tracks = torch.arange(len(given.names), dtype=torch.float32).view(1, -1, 1, 1)
        prior = None if self.prior is None else self.prior(features.top[:, : len(given.names)])
        return Prompt(memory=tracks, prior=prior, names=given.names)


def sticky_support(names=("red", "green")):
    none = torch.zeros(1, len(names), 1, 256)
    shown = torch.full((1, len(names), 256), 16 / 256)
    return PreparedSupport(
        features=torch.zeros(1, 3, 256),
        aggregated=none,
        occupancy=shown,
        valid=torch.ones(1, 256, dtype=torch.bool),
        names=names,
    )


def spots(*places, size=16):
    """Colour frames of 64 pixels: for each frame the upper left corner of the red and of the green spot, or None."""
    images = np.zeros((len(places), 64, 64, 3), np.float32)
    for image, corners in zip(images, places, strict=True):
        for colour, corner in enumerate(corners):
            if corner is not None:
                image[corner[0] : corner[0] + size, corner[1] : corner[1] + size, colour] = 1
    return images


def sticky(prior=lambda seen: seen, names=("red", "green"), **options):
    tracker = Tracker(Segmenter(StickyModel(prior)), **options)
    tracker.start(sticky_support(names), (0.0, 1.0))
    return tracker


STAYS, JUMPS = [((0, 0), (40, 40))] * 2, [((40, 8), (40, 40))] * 2


def corner_mask():
    mask = np.zeros((40, 56), np.uint8)
    mask[26:38, 30:52] = 1
    return mask
