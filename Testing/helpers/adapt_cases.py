"""Small annotated cases on disk and a small model to adapt to them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation, write_segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume, write_volume
from ProxyPromptSegmentLib.networks.checkpoints import save_checkpoint
from ProxyPromptSegmentLib.networks.model import build_model
from ProxyPromptSegmentLib.networks.proxy_prompt.config import COMPACT
from ProxyPromptSegmentLib.support.case import SupportCase
from ProxyPromptSegmentLib.support.case_files import find_cases
from ProxyPromptSegmentLib.training.adapting.cases import AnnotatedCase, CheckedCases, check_cases, read_cases
from ProxyPromptSegmentLib.training.adapting.settings import ALL, AdaptSettings
from ProxyPromptSegmentLib.weights.cache import ModelCache
from ProxyPromptSegmentLib.weights.hashing import sha256

SIDE, SLICES = 48, 5
TINY = replace(
    COMPACT, image_size=64, grid=8, vim_depth=1, vim_dim=16, bridge_width=16, ccm_width=16, ccm_heads=2, ccm_ffn=16
)
QUICK = AdaptSettings(model="small", steps=2, variants=1, trained=ALL, targets=4, threads=1, shares=(1.0,))
CALIBRATION = {
    "presence": {"offset": 3.0, "presence": 0.1},
    "quality": {"offset": 0.1, "overlap": 0.1, "agreement": 0.1, "iou": 0.1, "presence": 0.1},
    "unlike": 1000.0,
}


def use_folder(patch, folder):
    """Let a folder be the user's, with an empty cache and registry."""
    patch.setenv("PROXYPROMPT_CACHE", str(folder / "cache"))
    patch.setenv("PROXYPROMPT_REGISTRY", str(folder / "own.json"))


def register_small_model(home: Path, seed: int = 0) -> Path:
    """Write a small model with random weights and register it as 'small' in the user's registry; return its file."""
    torch.manual_seed(seed)
    model = build_model("sam-compact", TINY)
    path = home / "small.safetensors"
    half = {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()}
    save_checkpoint(path, half, {"name": "small", "model": model.describe()})
    entry = {"name": "small", "file": path.name, "sha256": sha256(path), "bytes": path.stat().st_size}
    entry |= {"fits": "sam-compact", "urls": [path.as_uri()], "licence": "Apache-2.0", "calibration": CALIBRATION}
    own = home / "own.json"
    own.write_text(json.dumps({"format": 2, "models": [entry]}), encoding="utf-8")
    from ProxyPromptSegmentLib.weights import registry

    assert ModelCache().take(registry.find("small"), path)
    return path


def picture(seed: int, objects: tuple[str, ...] = ("gland",), slices: int = SLICES) -> tuple[Volume, Segmentation]:
    """A volume with bright squares on its inner slices, the first object brightest."""
    rng = np.random.default_rng(seed)
    array = rng.normal(100, 4, (slices, SIDE, SIDE))
    geometry = VolumeGeometry((SIDE, SIDE, slices), (1.0, 1.0, 3.0), (0.0, 0.0, 0.0))
    segments = []
    for number, name in enumerate(objects):
        mask = np.zeros((slices, SIDE, SIDE), np.uint8)
        row, column = (int(n) for n in rng.integers(4, 12, 2))
        inner = slice(1, -1) if slices > 2 else slice(None)
        mask[inner, row + 18 * number : row + 18 * number + 12, column : column + 14] = 1
        array[mask > 0] += 400 - 150 * number
        segments.append(Segment(name, mask))
    return Volume(array.astype(np.float32), geometry, f"case{seed}"), Segmentation(segments, geometry)


def write_case(folder: Path, name: str, seed: int, objects: tuple[str, ...] = ("gland",), slices: int = SLICES) -> None:
    """Write a case as NAME.nrrd and NAME.seg.nrrd."""
    folder.mkdir(parents=True, exist_ok=True)
    volume, segmentation = picture(seed, objects, slices)
    write_volume(folder / f"{name}.nrrd", volume)
    write_segmentation(folder / f"{name}.seg.nrrd", segmentation)


def write_cases(folder: Path, count: int, objects: tuple[str, ...] = ("gland",), slices: int = SLICES) -> Path:
    """Write several cases; return the folder."""
    for number in range(count):
        write_case(folder, f"patient{number}", number, objects, slices)
    return folder


def checked(folder: Path, objects: list[str] | None = None, allow_single: bool = False) -> CheckedCases:
    """Find, read and check the cases of a folder."""
    files, left = find_cases(folder)
    cases, unread = read_cases(files)
    return check_cases(cases, objects, [*left, *unread], allow_single)


def thin(seed: int) -> AnnotatedCase:
    """A picture of lines that are too thin for whole slices."""
    rng = np.random.default_rng(seed)
    array = rng.normal(100, 5, (1, 192, 192)).astype(np.float32)
    mask = np.zeros((1, 192, 192), np.uint8)
    for row in range(10, 180, 24):
        mask[0, row + int(rng.integers(3)), 8:184] = 1
    array[mask > 0] += 200
    grid = VolumeGeometry((192, 192, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    case = SupportCase(Volume(array, grid, f"t{seed}"), Segmentation([Segment("vessel", mask)], grid))
    return AnnotatedCase(f"t{seed}", case)
