"""The sam2 package's own way through a sequence, and small SAM 2 networks, for the tests that compare ours with it."""

from __future__ import annotations

import contextlib
from functools import partial

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional

pytest.importorskip("sam2")

from ProxyPromptSegmentLib.networks.backbones.sam2 import Sam2Backbone
from ProxyPromptSegmentLib.networks.values import FrameMemory, Prompt

CHANNELS, NARROW, GRID, TOKENS = 128, 32, 16, 64  # of the compact SAM 2 and its proxy prompt
CLOSE = {"atol": 2e-5, "rtol": 1e-4}  # for values of order 1 that went another way through float32


@contextlib.contextmanager
def without_weights():
    """Modules built in here have shapes and no values: 224 million parameters cost nothing."""
    original = torch.linspace
    torch.linspace = partial(original, device="cpu")  # Hiera reads its drop-path rates out of a tensor
    try:
        with torch.device("meta"):
            yield
    finally:
        torch.linspace = original


def enliven(backbone, scale=2.5):
    """Random weights so large that memories, pointers and their positions all show in the answer."""
    network = backbone.sam2
    with torch.no_grad():
        for part in (network.memory_attention, network.obj_ptr_proj, network.memory_encoder.out_proj):
            for parameter in part.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(scale)
        for parameter in network.sam_mask_decoder.parameters():
            if parameter.ndim > 1:
                parameter.mul_(1.5)
        network.maskmem_tpos_enc.mul_(20)
        network.no_obj_ptr.mul_(20)
        if network.no_obj_embed_spatial is not None:
            network.no_obj_embed_spatial.mul_(20)
    return backbone


def lively_backbone(name="sam2-compact", seed=0, **options):
    torch.manual_seed(seed)
    return enliven(Sam2Backbone(name, **options)).eval()


def add_to_score(backbone, amount):
    """Shifts the decoder's logit that an object is there."""
    with torch.no_grad():
        backbone.sam2.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.add_(amount)


def clouds(count, size=128, seed=0):
    """Smooth random images ``(count, 3, size, size)`` that differ from each other."""
    small = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return functional.interpolate(small, size=size, mode="bilinear")


def discs(count, size=128, radius=0.2):
    """A disc that moves, ``(count, 1, size, size)``; 0 or 1."""
    along = (torch.arange(size) + 0.5) / size
    centers = torch.linspace(0.3, 0.7, count).view(-1, 1, 1)
    inside = (along.view(1, -1, 1) - centers) ** 2 + (along.view(1, 1, -1) - 0.5) ** 2 <= radius**2
    return inside.float().unsqueeze(1)


def proxy(batch=1, objects=1, tokens=TOKENS, seed=5):
    chance = torch.Generator().manual_seed(seed)
    return Prompt(memory=torch.randn(batch, objects, tokens, CHANNELS, generator=chance))


def bank(frames, count=1, conditioning=(), seed=6):
    """Random memories of some frames."""
    chance = torch.Generator().manual_seed(seed)
    return [
        FrameMemory(
            frame=frame,
            spatial=torch.randn(count, NARROW, GRID, GRID, generator=chance),
            pointer=torch.randn(count, CHANNELS, generator=chance),
            conditioning=frame in conditioning,
        )
        for frame in frames
    ]


def decoded(backbone, features, prompt, memories=(), frame=0):
    with torch.inference_mode():
        return backbone.decode(features, prompt, memories, frame)


def assert_same(first, second, **tolerance):
    for field in ("logits", "quality", "presence", "pointer"):
        torch.testing.assert_close(getattr(first, field), getattr(second, field), **(tolerance or CLOSE))


@contextlib.contextmanager
def memory_attention_calls(backbone):
    """A list of what the memory attention is given, by argument, one dictionary for each call."""
    calls = []
    handle = backbone.sam2.memory_attention.register_forward_pre_hook(
        lambda module, positional, named: calls.append(dict(named)), with_kwargs=True
    )
    try:
        yield calls
    finally:
        handle.remove()


class PackageTracker:
    """`SAM2Base.track_step` frame by frame, with the bookkeeping of the package's video predictor."""

    def __init__(self, backbone, images, length=100):
        self.network, self.length = backbone.sam2, length
        normalised = (images - backbone.mean) / backbone.std
        self.frames = [
            self.network._prepare_backbone_features(self.network.forward_image(one[None]))[1:] for one in normalised
        ]
        self.outputs = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}

    def step(self, number, mask=None, points=None, first=False):
        """What the package predicts on a frame; it is remembered."""
        features, positions, sizes = self.frames[number]
        given = first or mask is not None
        out = self.network.track_step(
            frame_idx=number,
            is_init_cond_frame=given,
            current_vision_feats=list(features),
            current_vision_pos_embeds=list(positions),
            feat_sizes=sizes,
            point_inputs=points,
            mask_inputs=mask,
            output_dict=self.outputs,
            num_frames=self.length,
        )
        self.outputs["cond_frame_outputs" if given else "non_cond_frame_outputs"][number] = out
        return out
