"""Drawn trees of thin vessels, and a network that is right wherever its grid allows."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("torch")

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from engine_doubles import EchoGenerator, ReadsSupports, tiny_config
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.inference.job import plan
from ProxyPromptSegmentLib.networks.values import Decoded, ImageFeatures, Prompt
from ProxyPromptSegmentLib.support.case import SupportCase
from ProxyPromptSegmentLib.support.pairs import SupportPair, SupportSet

FUNDUS = (584, 565)


def vessel_tree(seed=0, shape=FUNDUS, widest=4.0, branches=4):
    """A mask of vessels that branch and become thinner, uint8 ``(H, W)``."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(shape, np.uint8)
    side = max(shape)
    stack = [(0.5 * shape[0], 0.1 * shape[1], angle, widest, 0) for angle in rng.uniform(-1.2, 1.2, 4)]
    while stack:
        row, column, angle, width, depth = stack.pop()
        for _ in range(int(rng.uniform(0.08, 0.16) * side)):
            angle += rng.normal(0, 0.06)
            row, column = row + math.sin(angle), column + math.cos(angle)
            top, left = round(row - width / 2), round(column - width / 2)
            if top >= 0 and left >= 0:  # a negative index would count from the end
                mask[top : round(row + width / 2), left : round(column + width / 2)] = 1
        if depth < branches:
            stack += [(row, column, angle + turn, max(1.0, 0.8 * width), depth + 1) for turn in (-0.5, 0.5)]
    return mask


def picture_of(mask, seed=0, channels=()):
    """An image in which the vessels are bright, float32 ``(H, W)`` or ``(H, W, 3)``."""
    noise = np.random.default_rng(seed).uniform(0, 20, (*mask.shape, *channels))
    bright = mask.reshape(*mask.shape, *(1,) * len(channels))
    return (noise + 200.0 * bright).astype(np.float32)


def vessel_pair(seed=1, shape=FUNDUS, channels=(), **options):
    mask = vessel_tree(seed, shape, **options)
    return SupportPair(picture_of(mask, seed, channels), mask[None], (1.0, 1.0), (0.0, 220.0))


def vessel_support(seeds=(1,), **options):
    return SupportSet(tuple(vessel_pair(seed, **options) for seed in seeds), ("vessel",))


SMALL = (300, 280)
ORGAN = np.zeros(SMALL, np.uint8)
ORGAN[100:200, 90:200] = 1


def vessel_case(seeds, objects=("vessel",)):
    """A volume of drawn pictures with vessels that are too thin for 128 positions, and a square organ."""
    trees = np.stack([vessel_tree(seed, SMALL, widest=2.2) for seed in seeds])
    geometry = VolumeGeometry((SMALL[1], SMALL[0], len(seeds)), (0.5, 0.5, 2.0))
    volume = Volume(np.stack([picture_of(tree, seed) for tree, seed in zip(trees, seeds, strict=True)]), geometry)
    masks = {"vessel": trees, "organ": np.stack([ORGAN] * len(seeds))}
    return volume, Segmentation([Segment(name, masks[name]) for name in objects], geometry)


def vessel_job(objects=("vessel",), supports=((1, 2),), slices=None):
    """Three slices of vessels, with a support for each pair of seeds."""
    cases = [SupportCase(*vessel_case(seeds, objects)) for seeds in supports]
    return plan(cases, vessel_case((11, 12, 13))[0], slices=slices)


class PerfectBackbone(nn.Module):
    """Its logits are the truth at the decoder's resolution, because its images are the truth.

    Attributes:
        seen: How many images were embedded in each call.
    """

    name, channels, keeps_aspect = "perfect", 1, True

    def __init__(self, image_size=256, grid=32):
        super().__init__()
        self.image_size, self.grid, self.seen = image_size, grid, []

    def encode(self, images, valid=None):
        self.seen.append(len(images))
        return ImageFeatures(
            top=functional.adaptive_avg_pool2d(images[:, :1], self.grid),
            positions=torch.zeros(1, self.grid, self.grid),
            valid=valid,
            high_res=(functional.adaptive_avg_pool2d(images[:, :1], 4 * self.grid),),
        )

    def prompt_points(self, points, labels):
        return torch.zeros(len(points), 1, self.channels)

    def decode(self, features, prompt: Prompt):
        logits = (features.high_res[0] - 0.5) * 40
        return Decoded(
            logits=logits.expand(-1, len(prompt.names), -1, -1), quality=torch.ones(len(logits), len(prompt.names))
        )


class PerfectModel(ReadsSupports, nn.Module):
    """Right wherever its grid allows; absent where nothing is bright.

    Attributes:
        read: Which supports each target read, of every call.
    """

    def __init__(self, image_size=256, grid=32):
        super().__init__()
        self.backbone, self.generator, self.read = PerfectBackbone(image_size, grid), EchoGenerator(), []
        self.generator.config = tiny_config(image_size=image_size, grid=grid, channels=1)

    def prepare(self, images, masks, names=(), valid=None):
        return self.generator.prepare(self.backbone.encode(images, valid), images, masks, names)

    def predict(self, features, support, chosen=None):
        self.read.append(None if chosen is None else chosen.tolist())
        decoded = self.backbone.decode(features, Prompt(names=support.names))
        there = (decoded.logits > 0).flatten(2).any(-1)
        return decoded, Prompt(presence=there.float() * 12 - 6, names=support.names)
