"""A folder that describes itself as a data set: pictures with a bright disc each, whose mask is the disc."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image


def write_discs(folder: Path, count: int, side: int = 48, **said: object) -> Path:
    """Write so many pictures of patients of their own, and the description; return the folder."""
    rng = np.random.default_rng(0)
    for sub in ("images", "masks"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[:side, :side]
    for number in range(count):
        middle = rng.uniform(0.35 * side, 0.65 * side, 2)
        disc = (rows - middle[0]) ** 2 + (columns - middle[1]) ** 2 < (0.2 * side) ** 2
        image = np.clip(rng.normal(60, 8, (side, side)) + 90 * disc, 0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / "images" / f"case{number}.png")
        Image.fromarray(disc.astype(np.uint8)).save(folder / "masks" / f"case{number}.png")
    described = {"name": "discs", "objects": {"disc": 1}, **said}
    (folder / "dataset.json").write_text(json.dumps(described), encoding="utf-8")
    return folder
