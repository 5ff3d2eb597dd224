"""The features of all sheets and their variants: where the image encoder is frozen, each is embedded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ProxyPromptSegmentLib.networks.letterbox import Letterbox, images_to_tensor, masks_to_tensor, valid_tokens
from ProxyPromptSegmentLib.networks.protocols import Backbone
from ProxyPromptSegmentLib.networks.values import ImageFeatures
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.training.adapting.sheets import Sheet
from ProxyPromptSegmentLib.training.adapting.variants import vary
from ProxyPromptSegmentLib.training.broad.step import valid_positions

MOST_BYTES = 2 * 1024**3  # of all variants together
TOGETHER = 4  # variants that are embedded at once; fixed, because a batch of another size rounds differently
LARGE = 512  # pixels from which each is embedded alone: an official encoder takes gigabytes for one


@dataclass(frozen=True, eq=False)
class Variant:
    """A sheet, or a changed one, with its features, as little as a step needs.

    Attributes:
        top: float16 ``(C, g, g)``; of no channels where it is embedded in every step.
        valid: Positions that show the image, bool ``(g, g)``.
        image: uint8 ``(1 or 3, s, s)``; one channel where all are equal.
        masks: bool ``(N, s, s)``.
        content: Pixels that show the image and not its padding, bool ``(s, s)``.
        mirrored: Whether left and right were exchanged.
        high_res: Finer features of SAM 2's decoder, float16.
    """

    top: torch.Tensor
    valid: torch.Tensor
    image: torch.Tensor
    masks: torch.Tensor
    content: torch.Tensor
    mirrored: bool
    high_res: tuple[torch.Tensor, ...] = ()

    @property
    def bytes(self) -> int:
        """Its size in memory."""
        parts = (self.top, self.valid, self.image, self.masks, self.content, *self.high_res)
        return sum(part.numel() * part.element_size() for part in parts)


class FeatureStore:
    """The variants of some sheets; the first of each is the sheet itself.

    Attributes:
        sheets: The sheets.
        variants: For each sheet its variants.
    """

    def __init__(self, backbone: Backbone, sheets: Sequence[Sheet], device: torch.device, seed: int) -> None:
        """Create an empty store; ``backbone`` is in evaluation mode and stays as it is."""
        self.sheets, self.variants = list(sheets), [[] for _ in sheets]  # type: tuple[list[Sheet], list[list[Variant]]]
        self._backbone, self._device, self._seed = backbone, device, seed

    def box(self, sheet: Sheet) -> Letterbox:
        """Return where a sheet lies in the network's square."""
        shape = (int(sheet.image.shape[0]), int(sheet.image.shape[1]))
        return Letterbox(self._backbone.image_size, shape, sheet.spacing_mm, self._backbone.keeps_aspect)

    def most_variants(self) -> int:
        """Return how many variants of each sheet fit into `MOST_BYTES`, judged by the sheets themselves."""
        whole = sum(own[0].bytes for own in self.variants)
        return max(1, int(MOST_BYTES / max(1, whole)))

    def embed_sheets(self, cancel: CancelToken, on_done: Callable[[int], None] | None = None) -> bool:
        """Embed the sheets themselves; return False if cancelled."""
        return self._fill(0, False, cancel, on_done)

    def embed_variants(
        self, count: int, mirror: bool, cancel: CancelToken, on_done: Callable[[int], None] | None = None
    ) -> bool:
        """Embed so many variants of each sheet beside the sheet itself; return False if cancelled.

        Args:
            count: Variants of each sheet.
            mirror: Whether every second one is mirrored.
            cancel: Checked between batches.
            on_done: Called with the number of embedded variants of each batch.
        """
        return all(self._fill(number, mirror and number % 2 == 0, cancel, on_done) for number in range(1, count + 1))

    def _fill(self, number: int, mirrored: bool, cancel: CancelToken, on_done: Callable[[int], None] | None) -> bool:
        """Embed variant ``number`` of each sheet."""
        together = TOGETHER if self._backbone.image_size < LARGE else 1
        for start in range(0, len(self.sheets), together):
            if cancel.cancelled:
                return False
            part = range(start, min(len(self.sheets), start + together))
            made = [self._drawn(place, number, mirrored) for place in part]
            images = torch.stack([one[0] for one in made])
            grid = self._backbone.grid
            if number:
                valid = valid_positions(torch.stack([one[2] for one in made]), grid)
            else:  # exactly as a segmentation has them
                valid = torch.stack([valid_tokens(self.box(self.sheets[place]), grid) for place in part])
            with torch.inference_mode():
                found = self._backbone.encode(images.to(self._device), valid.to(self._device))
            for offset, place in enumerate(part):
                image, masks, content = made[offset]
                grey = bool((image[0] == image[1]).all() and (image[0] == image[2]).all())
                self.variants[place].append(
                    Variant(
                        # Copied, because tensors of an inference cannot enter a graph.
                        found.top[offset].half().cpu().clone(),
                        valid[offset].clone(),
                        (image[:1] if grey else image).mul(255).round().to(torch.uint8),
                        masks > 0,
                        content,
                        mirrored,
                        tuple(level[offset].half().cpu().clone() for level in found.high_res or ()),
                    )
                )
            if on_done:
                on_done(len(part))
        return True

    def _drawn(self, place: int, number: int, mirrored: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return image, masks and content of a variant; number 0 is the sheet itself."""
        sheet = self.sheets[place]
        box = self.box(sheet)
        image = images_to_tensor(sheet.image[None], sheet.window, box)[0]
        masks = masks_to_tensor(sheet.masks[None], box)[0]
        content = torch.zeros(image.shape[1:], dtype=torch.bool)
        content[: box.valid[0], : box.valid[1]] = True
        if not number:
            return image, masks, content
        return vary(image, masks, content, mirrored, (self._seed, place, number))

    def fresh(self, place: int, mirrored: bool, seed: Sequence[int]) -> Variant:
        """Draw a variant of a sheet that is used once, without features."""
        image, masks, content = vary(*self._drawn(place, 0, False), mirrored, seed)
        grid = self._backbone.grid
        return Variant(
            top=torch.zeros(0, grid, grid, dtype=torch.float16),
            valid=valid_positions(content[None], grid)[0],
            image=image.mul(255).round().to(torch.uint8),
            masks=masks > 0,
            content=content,
            mirrored=mirrored,
        )

    def features(self, chosen: Sequence[Variant]) -> ImageFeatures:
        """Return the features of some variants on the device."""
        levels = zip(*(one.high_res for one in chosen), strict=True)
        return ImageFeatures(
            top=torch.stack([one.top for one in chosen]).to(self._device).float(),
            positions=self._backbone.positions(),  # type: ignore[attr-defined]
            valid=torch.stack([one.valid for one in chosen]).to(self._device),
            high_res=tuple(torch.stack(level).to(self._device).float() for level in levels) or None,
        )

    def pictures(self, chosen: Sequence[Variant]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return images ``(B, 3, s, s)`` in 0..1, masks ``(B, N, s, s)`` and content ``(B, s, s)`` on the device."""
        images = torch.stack([one.image.expand(3, -1, -1) for one in chosen]).to(self._device).float() / 255
        masks = torch.stack([one.masks for one in chosen]).to(self._device).float()
        return images, masks, torch.stack([one.content for one in chosen]).to(self._device)


def shown_by(variant: Variant, least: int = 12) -> np.ndarray:
    """Return which objects a variant shows with at least so many pixels, bool ``(N,)``."""
    found: np.ndarray = (variant.masks.sum(dim=(1, 2)) >= least).numpy()
    return found
