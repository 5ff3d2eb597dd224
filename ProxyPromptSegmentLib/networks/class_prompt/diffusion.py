"""The class prompt encoder: a noised image embedding, a shared encoder, and one decoder for each kind of prompt.

References:
    Huang et al., Diffusion-empowered AutoPrompt MedSAM, arXiv:2502.06817, Fig. 3. What its text leaves open is chosen
    here: the schedule, embeddings of class and time step, a grid that is halved twice, and tokens that point.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from ProxyPromptSegmentLib.networks.class_prompt.config import GROUPS, ClassPromptConfig
from ProxyPromptSegmentLib.networks.class_prompt.readout import ClassReadout, places_of_corners
from ProxyPromptSegmentLib.networks.devices import without_autocast

NOISE_SEED = 20502
ATTRACTION = 3.0  # how much the reading of a class draws its tokens, at first
MOST_LOGIT = 8.0  # of the mask prompt, as in the training of the compact SAM
MAP_SIDE = 8  # positions of the map of where a class usually lies


def time_embedding(step: torch.Tensor, channels: int, steps: int) -> torch.Tensor:
    """Return sines and cosines of time steps ``(B,)`` from 0 to ``steps``, ``(B, channels)``."""
    half = channels // 2
    rates = torch.exp(-math.log(1000.0) * torch.arange(half, device=step.device) / half)
    angles = step.float().unsqueeze(1) / steps * 1000.0 * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


@dataclass(frozen=True, kw_only=True)
class ClassPrompts:
    """The prompts of ``N`` classes on ``B`` images.

    Attributes:
        sparse: Tokens ``(B, N, T, C)``.
        dense: ``(B, N, C, g, g)``; None where a mask prompt takes its place.
        presence: Logits ``(B, N)``; None where it is not predicted.
        mask: Logits ``(B, N, 4g, 4g)`` of a mask prompt; None without a reading of the classes.
    """

    sparse: torch.Tensor
    dense: torch.Tensor | None = None
    presence: torch.Tensor | None = None
    mask: torch.Tensor | None = None


class ConditionedBlock(nn.Module):
    """Two convolutions with a residual, scaled and shifted by a condition."""

    def __init__(self, incoming: int, width: int, condition: int) -> None:
        """Create the block.

        Args:
            incoming: Channels of the input.
            width: Channels of the output.
            condition: Channels of the condition.
        """
        super().__init__()
        self.first = nn.Conv2d(incoming, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.norms = nn.ModuleList(nn.GroupNorm(GROUPS, width) for _ in range(2))
        self.condition = nn.Linear(condition, 2 * width)
        self.skip = nn.Conv2d(incoming, width, 1) if incoming != width else nn.Identity()
        nn.init.zeros_(self.condition.weight)
        nn.init.zeros_(self.condition.bias)

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Map ``(M, incoming, h, w)`` with a condition ``(M, c)`` to ``(M, width, h, w)``."""
        scale, shift = self.condition(condition)[..., None, None].chunk(2, dim=1)
        hidden = functional.silu(self.norms[0](self.first(x)) * (1 + scale) + shift)
        return functional.silu(self.norms[1](self.second(hidden)) + self.skip(x))


class Branch(nn.Module):
    """A decoder branch: back to finer grids, with what the encoder saw there."""

    def __init__(self, widths: tuple[int, int, int], condition: int, whole: bool) -> None:
        """Create the branch; ``whole``: up to the grid itself, else to half of it."""
        super().__init__()
        fine, middle, coarse = widths
        self.up = ConditionedBlock(coarse + middle, middle, condition)
        self.last = ConditionedBlock(middle + fine, fine, condition) if whole else None

    def forward(self, levels: tuple[torch.Tensor, torch.Tensor, torch.Tensor], condition: torch.Tensor) -> torch.Tensor:
        """Return ``(M, width, h, w)`` of the encoder's levels, finest first."""
        fine, middle, coarse = levels
        x = self.up(torch.cat([functional.interpolate(coarse, scale_factor=2.0), middle], 1), condition)
        if self.last is None:
            return x
        return self.last(torch.cat([functional.interpolate(x, scale_factor=2.0), fine], 1), condition)


class DiffusionClassEncoder(nn.Module):
    """Maps image embeddings and classes to sparse tokens, a dense embedding and a presence logit.

    The forward diffusion adds noise whose variance grows evenly with the time step. One pass reverses it, told the step
    and the class. In use the step is 0, so that there is nothing to reverse; in training it is drawn, and the noise
    keeps the encoder from learning the few images by heart.

    Attributes:
        trust: Where readings are corrected (``corrects``): whether those of each class are, 1 or 0; fitted on
            validation images after the training.
    """

    def __init__(self, config: ClassPromptConfig) -> None:
        """Create the encoder with random weights."""
        super().__init__()
        self.config = config
        fine, middle, coarse = config.widths
        condition, channels = 2 * config.embedding, config.channels
        self.classes = nn.Embedding(len(config.classes), config.embedding)
        nn.init.normal_(self.classes.weight, std=0.5)
        self.condition = nn.Sequential(nn.Linear(condition, condition), nn.SiLU(), nn.Linear(condition, condition))
        self.place = nn.Linear(config.embedding, MAP_SIDE * MAP_SIDE)
        self.stem = nn.Conv2d(channels, fine, 3, padding=1)
        self.fine = ConditionedBlock(fine + 1 + config.readout, fine, condition)
        self.to_middle = nn.Conv2d(fine, middle, 3, stride=2, padding=1)
        self.middle = ConditionedBlock(middle, middle, condition)
        self.to_coarse = nn.Conv2d(middle, coarse, 3, stride=2, padding=1)
        self.coarse = nn.ModuleList(ConditionedBlock(coarse, coarse, condition) for _ in range(2))
        self.dense = Branch(config.widths, condition, whole=True)
        self.dense_gate = nn.Conv2d(fine + 1, fine, 1)
        self.dense_out = nn.Conv2d(fine, channels, 1)
        self.sparse = Branch(config.widths, condition, whole=False)
        self.sparse_gate = nn.Linear(middle + config.embedding, middle)
        self.pointers = nn.Conv2d(middle, config.tokens, 1)
        self.token_out = nn.Linear(middle, config.tokens * channels)
        self.readout = ClassReadout(len(config.classes), channels) if config.readout else None
        self.correction = nn.Conv2d(fine, 1, 1) if config.readout else None
        self.attraction = nn.Parameter(torch.tensor(ATTRACTION)) if config.readout else None
        if self.correction is not None:
            nn.init.zeros_(self.correction.weight)
            nn.init.zeros_(self.correction.bias)
        self.presence = None
        if config.presence:
            seen = 2 * coarse + 2 * channels + config.embedding
            self.presence = nn.Sequential(nn.Linear(seen, coarse), nn.SiLU(), nn.Linear(coarse, 1))
        self.corners: nn.Parameter | None = None
        self.pointing: nn.Parameter | None = None
        if config.corrects:
            assert self.presence is not None
            self.corners, self.pointing = nn.Parameter(torch.zeros(2, channels)), nn.Parameter(torch.zeros(()))
            self.register_buffer("trust", torch.ones(len(config.classes)))
            for last in (self.dense_out, self.token_out, self.presence[-1]):  # which add nothing to begin with
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)

    def forward(
        self,
        top: torch.Tensor,
        positions: torch.Tensor,
        classes: torch.Tensor,
        drawn: int | None = None,
        steps: torch.Tensor | None = None,
    ) -> ClassPrompts:
        """Return the prompts of ``N`` classes on each of ``B`` images.

        Args:
            top: Image embeddings ``(B, C, g, g)``.
            positions: The backbone's positional encoding ``(C, g, g)``.
            classes: Classes asked for on each image, ``(B, N)``.
            drawn: How many of the classes get a prompt, the first ones; presence is computed for all. None means all.
            steps: Time step of each image, ``(B,)``; by default 0, or in training a random one.
        """
        batch, number = classes.shape
        noised, steps = self._diffused(top, steps)
        known = self.classes(classes.flatten())
        when = time_embedding(steps, self.config.embedding, self.config.steps).to(known.dtype)
        condition = self.condition(torch.cat([known, when.repeat_interleave(number, 0)], 1))
        place = self.place(known).view(-1, 1, MAP_SIDE, MAP_SIDE)
        place = functional.interpolate(place, size=top.shape[-2:], mode="bilinear", align_corners=False)
        fine = self.stem(noised).repeat_interleave(number, 0)
        read, seen = None, None
        maps = [place]
        if self.readout is not None:
            with without_autocast(top.device):  # sums of many terms, which bfloat16 cannot hold
                # What is corrected is the reading of the image itself, which is also what was fitted.
                read, seen = self.readout((top if self.config.corrects else noised).float(), classes)
            read = read.flatten(0, 1).unsqueeze(1)
            maps.append(torch.tanh(read / 4))
        fine = self.fine(torch.cat([fine, *(one.to(fine.dtype) for one in maps)], 1), condition)
        middle = self.middle(self.to_middle(fine), condition)
        coarse = self.to_coarse(middle)
        for block in self.coarse:
            coarse = block(coarse, condition)
        presence = None
        if self.presence is not None:
            pooled = torch.cat([noised.mean((2, 3)), noised.flatten(2).std(2)], 1).repeat_interleave(number, 0)
            features = torch.cat([coarse.mean((2, 3)), coarse.amax((2, 3)), pooled.to(coarse.dtype), known], 1)
            presence = self.presence(features).view(batch, number)
            presence = presence if seen is None else self._trusted(presence.flatten(), classes).view_as(seen) + seen
        parts = [fine, middle, coarse, condition, place, known]
        parts += [] if read is None else [read]
        if drawn is not None and drawn < number:
            parts = [part.unflatten(0, (batch, number))[:, :drawn].flatten(0, 1) for part in parts]
        fine, middle, coarse, condition, place, known = parts[:6]
        read = parts[6] if len(parts) > 6 else None
        levels = (fine, middle, coarse)
        drawn_classes = classes[:, : drawn if drawn is not None else number]
        dense, correction = self._dense(levels, condition, place)
        dense = self._trusted(dense, drawn_classes)
        sparse = self._sparse(levels, condition, known, positions, read, drawn_classes)
        mask = None
        if read is not None and correction is not None:
            if self.config.corrects:
                read, correction = read.clamp(-MOST_LOGIT, MOST_LOGIT), self._trusted(correction, drawn_classes)
            mask = functional.interpolate((read + correction).float(), scale_factor=4.0, mode="bilinear")
            mask = mask.clamp(-MOST_LOGIT, MOST_LOGIT)[:, 0].unflatten(0, (batch, -1))
        return ClassPrompts(
            sparse=sparse.unflatten(0, (batch, -1)),
            dense=dense.unflatten(0, (batch, -1)),
            presence=presence,
            mask=mask,
        )

    def _trusted(self, change: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """Return what is added to the reading of some classes ``(M, ...)``, none of those that are not corrected."""
        if not self.config.corrects:
            return change
        trust: torch.Tensor = self.trust
        return change * trust[classes.flatten()].view(-1, *[1] * (change.ndim - 1))

    def _diffused(self, top: torch.Tensor, steps: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the embeddings at their time steps, and the steps."""
        batch = len(top)
        if steps is None:
            steps = torch.zeros(batch, device=top.device)
            if self.training:  # half of the images without noise, as they are in use
                steps = torch.randint(0, self.config.steps + 1, (batch,), device=top.device).float()
                steps = steps * (torch.rand(batch, device=top.device) < 0.5)
        variance = (self.config.noise_variance * steps / self.config.steps).view(-1, 1, 1, 1)
        if self.training:
            noise = torch.randn_like(top)
        elif self.config.noise == "seeded":
            noise = seeded_noise(top)
        else:
            noise = torch.zeros_like(top)
        return (1 - variance).sqrt() * top + variance.sqrt() * noise, steps

    def _dense(
        self, levels: tuple[torch.Tensor, torch.Tensor, torch.Tensor], condition: torch.Tensor, place: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the dense embedding ``(M, C, g, g)``, gated by its features and the map of the class.

        The second is what is added to the reading of the class, ``(M, 1, g, g)``.
        """
        x = self.dense(levels, condition)
        x = x * self.dense_gate(torch.cat([x, place.to(x.dtype)], 1)).sigmoid()
        return self.dense_out(x), None if self.correction is None else self.correction(x)

    def _sparse(
        self,
        levels: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        condition: torch.Tensor,
        known: torch.Tensor,
        positions: torch.Tensor,
        read: torch.Tensor | None,
        classes: torch.Tensor,
    ) -> torch.Tensor:
        """Return tokens ``(M, T, C)``: what a token says, and the encoding of where it points, as SAM's own clicks."""
        x = self.sparse(levels, condition)
        gate = self.sparse_gate(torch.cat([x.mean((2, 3)), known.to(x.dtype)], 1)).sigmoid()
        x = x * gate[..., None, None]
        pointed = self.pointers(x)
        if read is not None and self.attraction is not None:
            pointed = pointed + self.attraction * functional.avg_pool2d(read.clamp(-MOST_LOGIT, MOST_LOGIT), 2)
        where = pointed.flatten(2).softmax(2)
        said = torch.einsum("mtp,mcp->mtc", where, x.flatten(2))
        weights = self.token_out.weight.view(self.config.tokens, -1, x.shape[1])
        said = torch.einsum("mtc,tdc->mtd", said, weights) + self.token_out.bias.view(1, self.config.tokens, -1)
        said, where = said.float(), where.float()
        half = functional.avg_pool2d(positions.unsqueeze(0).float(), 2)[0].flatten(1)
        pointed = torch.einsum("mtp,cp->mtc", where, half)
        if self.corners is None or self.pointing is None or read is None:
            return said + pointed
        box = self.corners + places_of_corners(read.detach().clamp(-MOST_LOGIT, MOST_LOGIT) > 0, positions)[:, 0]
        return box + self._trusted(said + self.pointing * pointed, classes)


def seeded_noise(like: torch.Tensor) -> torch.Tensor:
    """Return the same noise for each image of ``(B, C, g, g)``, whatever the batch and the device."""
    drawn = torch.randn(like.shape[1:], generator=torch.Generator().manual_seed(NOISE_SEED))
    return drawn.to(like).unsqueeze(0).expand_as(like)
