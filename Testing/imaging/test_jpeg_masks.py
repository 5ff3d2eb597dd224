"""Masks in JPEG files: one bright object is read, all else is refused, because it would become one object unseen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.imaging.segmentations import read_segmentation

ROWS, COLUMNS = np.mgrid[:96, :96]
LEFT = (ROWS - 48) ** 2 + (COLUMNS - 28) ** 2 < 18**2
SPOT = (ROWS - 80) ** 2 + (COLUMNS - 80) ** 2 < 7**2
LARGE = (ROWS < 90) & (COLUMNS < 90) & ((ROWS - 80) ** 2 + (COLUMNS - 80) ** 2 > 12**2)
RIGHT = (ROWS - 48) ** 2 + (COLUMNS - 70) ** 2 < 12**2


def saved(folder: Path, values: np.ndarray, quality: int = 75) -> Path:
    Image.fromarray(values.astype(np.uint8)).save(folder / "m.jpg", quality=quality)
    return folder / "m.jpg"


@pytest.mark.parametrize("quality", [50, 75, 95])
@pytest.mark.parametrize("colour", [255, (255, 0, 0), (255, 128, 0), (255, 255, 255)])
def test_one_object_in_one_colour_is_read(tmp_path: Path, colour, quality: int) -> None:
    values = LEFT * colour if isinstance(colour, int) else LEFT[..., None] * np.array(colour)
    [segment] = read_segmentation(saved(tmp_path, values, quality)).segments
    assert 2 * (segment.mask[0] & LEFT).sum() / (segment.mask.sum() + LEFT.sum()) > 0.97


def test_soft_edges_are_no_second_shade(tmp_path: Path) -> None:
    large = np.array(Image.fromarray((LEFT * 255).astype(np.uint8)).resize((400, 400)))
    assert len(read_segmentation(saved(tmp_path, large)).segments) == 1


def photograph() -> np.ndarray:
    return 40 + 150 * np.exp(-((ROWS - 48) ** 2 + (COLUMNS - 48) ** 2) / 900.0)


@pytest.mark.parametrize(
    "values",
    [
        LEFT[..., None] * np.array((255, 0, 0)) + RIGHT[..., None] * np.array((0, 255, 0)),
        LEFT * 255 + RIGHT * 120,
        LEFT * 1 + RIGHT * 2,
        photograph(),
        LARGE[..., None] * np.array((255, 0, 0)) + SPOT[..., None] * np.array((0, 255, 0)),
        LARGE * 255 + SPOT * 128,
        LARGE * 255 + SPOT * 100,
    ],
    ids=["two colours", "two shades", "label numbers", "the image itself"]
    + ["a spot of another colour", "a brighter and", "a darker spot of another shade"],
)
def test_what_would_be_joined_or_lost_is_refused(tmp_path: Path, values: np.ndarray) -> None:
    with pytest.raises(InputError, match="m.jpg has several colours or shades.* export the mask as PNG"):
        read_segmentation(saved(tmp_path, values))
