"""The preview of a result: support slices, target slices with contours, and their probability maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.imaging.drawing import bright, heat, inner_border
from ProxyPromptSegmentLib.imaging.intensity import window_to_unit
from ProxyPromptSegmentLib.imaging.output_files import safe_output
from ProxyPromptSegmentLib.support.matching import slice_names

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

    from ProxyPromptSegmentLib.inference.job import Job
    from ProxyPromptSegmentLib.inference.volume_result import VolumeResult

PREVIEW_SUFFIXES = (".png",)
TILE = 220
GAP = 8
COLUMNS = 6
RESEARCH = "Research use only. Not for diagnosis."
_BACKGROUND, _TEXT, _FAINT, _TRUTH = (24, 24, 26), (235, 235, 235), (165, 165, 170), (255, 255, 255)
U8 = npt.NDArray[np.uint8]


def tile_size(shape: tuple[int, int], spacing_mm: tuple[float, float], side: int = TILE) -> tuple[int, int]:
    """Return height and width of a slice in a square tile, with its physical aspect ratio."""
    height, width = shape[0] * spacing_mm[0], shape[1] * spacing_mm[1]
    factor = side / max(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def picture_of(image: npt.NDArray[np.float32], window: tuple[float, float], size: tuple[int, int]) -> U8:
    """Return a slice ``(H, W[, 3])`` as 8-bit colours of the given height and width."""
    from PIL import Image

    grey = np.round(window_to_unit(image, window) * 255).astype(np.uint8)
    picture = Image.fromarray(grey).convert("RGB").resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return np.array(picture)


def enlarge(values: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Resize a mask or map ``(H, W)`` by linear interpolation."""
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    return np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR))


def contour(mask: npt.NDArray[Any], size: tuple[int, int], width: int = 2) -> npt.NDArray[np.bool_]:
    """Return the inner border of a resized mask, including where it touches the slice's edge."""
    inside = enlarge(mask, size) > 0.5
    if mask.any() and not inside.any():
        inside = enlarge(mask, size) > 0  # smaller than a pixel of the picture
    return inner_border(inside, width)


def choose_slices(masks: U8, done: npt.NDArray[np.bool_], count: int = COLUMNS) -> list[int]:
    """Return slices to show, spread over those on which something was found, or else over those done.

    Args:
        masks: ``(S, N, H, W)``.
        done: Which slices were computed, ``(S,)``.
        count: Largest number of slices.
    """
    found = np.flatnonzero(masks.any(axis=(1, 2, 3)))
    there = found if found.size else np.flatnonzero(done)
    if not there.size:
        return []
    return sorted({int(there[round(p)]) for p in np.linspace(0, there.size - 1, min(count, there.size))})


class _Sheet:
    """A canvas that grows by rows of captioned tiles."""

    def __init__(self, columns: int) -> None:
        from PIL import Image, ImageDraw

        self.width = GAP + columns * (TILE + GAP)
        self.image: Image.Image = Image.new("RGB", (self.width, 4000), _BACKGROUND)
        self.draw: ImageDraw.ImageDraw = ImageDraw.Draw(self.image)
        self.y = GAP

    def line(self, text: str, size: int = 15, color: tuple[int, int, int] = _TEXT) -> None:
        """Write a line of text, truncated at the sheet's edge."""
        font = _font(size)
        while len(text) > 4 and self.draw.textlength(text, font=font) > self.width - 2 * GAP:
            text = text[:-4].rstrip() + "..."
        self.draw.text((GAP, self.y), text, fill=color, font=font)
        self.y += size + 7

    def legend(self, entries: Sequence[tuple[str, tuple[int, int, int]]]) -> None:
        """Draw coloured squares with names, on several lines if necessary."""
        font, x = _font(14), GAP
        for name, color in entries:
            wide = 20 + int(self.draw.textlength(name, font=font)) + 18
            if x + wide > self.width and x > GAP:
                x, self.y = GAP, self.y + 22
            self.draw.rectangle((x, self.y + 3, x + 12, self.y + 15), outline=color, width=3)
            self.draw.text((x + 20, self.y), name, fill=_TEXT, font=font)
            x += wide
        self.y += 26

    def tiles(self, pictures: Sequence[U8], captions: Sequence[str]) -> None:
        """Place a row of tiles with a caption below each."""
        from PIL import Image

        tallest = max(picture.shape[0] for picture in pictures)
        for n, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
            x = GAP + n * (TILE + GAP)
            self.image.paste(Image.fromarray(picture), (x + (TILE - picture.shape[1]) // 2, self.y))
            text, font = caption, _font(12)
            while len(text) > 4 and self.draw.textlength(text, font=font) > TILE:
                text = text[:-4] + "..."
            self.draw.text((x, self.y + tallest + 2), text, fill=_FAINT, font=font)
        self.y += tallest + 24

    def heat_bar(self) -> None:
        """Draw the colour scale of the probability map."""
        from PIL import Image

        bar = heat(np.tile(np.linspace(0, 1, 160, dtype=np.float32), (10, 1)))
        font = _font(12)
        self.draw.text((GAP, self.y - 1), "probability 0", fill=_FAINT, font=font)
        x = GAP + 8 + int(self.draw.textlength("probability 0", font=font))
        self.image.paste(Image.fromarray(bar), (x, self.y + 3))
        self.draw.text((x + 168, self.y - 1), "1, highest of all objects", fill=_FAINT, font=font)
        self.y += 24

    def finished(self) -> Image.Image:
        """Return the sheet without the unused part."""
        return self.image.crop((0, 0, self.width, self.y))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    from PIL import ImageFont

    try:
        return ImageFont.load_default(size)
    except (TypeError, ImportError):  # an old Pillow, or one without FreeType, has a single size
        return ImageFont.load_default()


def draw_preview(
    job: Job, found: VolumeResult, truth: npt.NDArray[np.uint8] | None = None, model: str = ""
) -> Image.Image:
    """Draw the preview of a result.

    Args:
        job: The job.
        found: Its result.
        truth: Reference masks on the target's grid ``(N, K, J, I)``, drawn as thin white contours.
        model: Name of the model, for the title.
    """
    colors = [bright(color) for color in job.support.colors]
    chosen = choose_slices(found.masks, found.result.done)
    sheet = _Sheet(columns=max(4, min(COLUMNS, max(len(chosen), len(job.support)))))
    sources = dict.fromkeys(shown.name for shown in job.shown)
    how = f"as marked on {', '.join(sources)}" if sources else "without a support"
    title = f"{job.name}, segmented {how}" + (f" ({model})" if model else "")
    sheet.line(title, 19)
    sheet.line(RESEARCH, 14, (255, 190, 110))
    entries = list(zip(job.support.objects, colors, strict=True))
    sheet.legend([*entries, *([("truth", _TRUTH)] if truth is not None else [])])
    if job.support.pairs:
        _support_row(sheet, job, colors)
    if not chosen:
        sheet.line("Target: no slice was computed.", 15)
        return sheet.finished()
    _target_rows(sheet, job, found, chosen, colors, truth)
    return sheet.finished()


def _support_row(sheet: _Sheet, job: Job, colors: list[tuple[int, int, int]]) -> None:
    """Draw the support's slices with their masks."""
    sheet.line(f"Support: annotated slices ({len(job.support)} in all)", 15)
    pairs = list(zip(job.support.pairs, job.shown, strict=True))[:COLUMNS]
    pictures, captions = [], []
    for pair, shown in pairs:
        size = tile_size(pair.masks.shape[1:], pair.spacing_mm)
        picture = picture_of(pair.image, pair.window, size)
        for mask, color in zip(pair.masks, colors, strict=True):
            picture[contour(mask, size)] = color
        pictures.append(picture)
        captions.append(shown.title)
    sheet.tiles(pictures, captions)


def _target_rows(
    sheet: _Sheet,
    job: Job,
    found: VolumeResult,
    chosen: list[int],
    colors: list[tuple[int, int, int]],
    truth: npt.NDArray[np.uint8] | None,
) -> None:
    """Draw the rows of the target: contours, then probability maps."""
    images = job.view.take(job.target.array)
    size = tile_size(images.shape[1:3], job.view.spacing_mm)
    shown_on = found.masks.any(axis=(1, 2, 3))
    if shown_on.any():
        count = int(shown_on.sum())
        sheet.line(f"Target: slices on which something was found ({len(chosen)} of {count}), with confidence", 15)
    else:
        sheet.line(f"Target: nothing was found; {len(chosen)} of {int(found.result.done.sum())} slices", 15)
    references = [] if truth is None else [job.view.take(mask) for mask in truth]
    probability = found.result.gated_probability()
    pictures, maps, captions = [], [], []
    names = slice_names(job.target, job.view.axis)
    for n in chosen:
        picture = picture_of(images[n], job.window, size)
        for reference in references:
            picture[contour(reference[n], size, 1)] = _TRUTH
        for mask, color in zip(found.masks[n], colors, strict=True):
            picture[contour(mask, size)] = color
        pictures.append(picture)
        maps.append(heat(enlarge(probability[n].max(axis=0), size)))
        shown = found.masks[n].any(axis=(1, 2))
        sure = found.confidence[n][shown].min() if shown.any() else found.confidence[n].min()
        captions.append(f"{names.name(n)}, {sure:.2f}")
    sheet.tiles(pictures, captions)
    sheet.heat_bar()
    sheet.tiles(maps, [names.name(n) for n in chosen])


def write_preview(
    path: Path,
    job: Job,
    found: VolumeResult,
    truth: npt.NDArray[np.uint8] | None = None,
    model: str = "",
    *,
    replace: bool = True,
) -> None:
    """Write the preview of a result as a PNG, completely or not at all; ``replace`` an existing one or not.

    Raises:
        OutputError: If it cannot be written.
    """
    picture = draw_preview(job, found, truth, model)
    with safe_output(path, replace) as partial:
        picture.save(partial, format="PNG")
