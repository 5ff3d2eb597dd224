"""Builds the official architectures without allocating a single weight; run as a script it writes the kept lists."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import json
import sys
from pathlib import Path

import torch
from torch.overrides import TorchFunctionMode

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "Resources" / "models" / "official_shapes"
WRITTEN_OUT = ("sam-vit-b", "sam2.1-hiera-tiny")  # the others differ in numbers only; their hash says that they do
sys.path.insert(0, str(ROOT))


class _ReadableNumbers(TorchFunctionMode):
    """Hiera reads its drop-path rates out of a tensor while it is built: that one needs values."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.linspace:
            kwargs["device"] = "cpu"
        return func(*args, **kwargs)


def names() -> list[str]:
    from ProxyPromptSegmentLib.networks.backbones.sam import VIT_SIZES
    from ProxyPromptSegmentLib.networks.backbones.sam2_architectures import SAM2_CONFIGS

    return [*VIT_SIZES, *SAM2_CONFIGS]


def state_of(name: str) -> dict[str, torch.Tensor]:
    """The state dict of a backbone's official modules, on the meta device: names, shapes and types alone."""
    from optional_packages import skip_without
    from ProxyPromptSegmentLib.networks.backbones.sam import VIT_SIZES, build_sam_modules
    from ProxyPromptSegmentLib.networks.backbones.sam2_architectures import build_sam2_modules

    skip_without(name)
    with torch.device("meta"), _ReadableNumbers():
        modules = build_sam_modules(name) if name in VIT_SIZES else build_sam2_modules(name)
    return modules.state_dict()


def write_lists() -> None:
    """Writes what the installed packages build; to be compared with the former lists by whoever does it."""
    from ProxyPromptSegmentLib.weights.shapes import lines_of, summary_of

    states = {name: state_of(name) for name in names()}
    summary = {
        "source": "segment-anything 1.0 and sam2 1.1.0, whose builders load the official files strictly",
        "sha256": "of the lines 'name shape type', sorted, each with a line feed",
        "architectures": {name: summary_of(state) for name, state in states.items()},
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    for name in WRITTEN_OUT:
        (FOLDER / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines_of(states[name])), encoding="utf-8")


if __name__ == "__main__":
    write_lists()
