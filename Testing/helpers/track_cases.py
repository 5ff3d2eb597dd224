"""A sweep with a moving vessel, and a double that follows it: what the tests of ``proxyprompt track`` share."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from command_cases import InContextModel
from engine_doubles import EchoBackbone, EchoGenerator
from ProxyPromptSegmentLib.networks.values import Decoded, FrameMemory, Prompt

SIDE, COUNT = 64, 6
SEEN = {"label 1": 160, "label 2": 90}


class FollowingBackbone(EchoBackbone):
    """Finds the pixels that are as bright as the prompt's tokens say; remembers that there was a frame."""

    memories, pointers, memory_channels = 6, 16, 1

    def __init__(self):
        super().__init__()
        self.drift = 0.0

    def decode(self, features, prompt, memories=(), frame=0):
        levels = prompt.memory[..., 0, 0]
        if memories:
            levels = levels + self.drift
        logits = self.logits_at(features, levels)
        there = (logits > 0).flatten(2).any(-1)
        quality = torch.full(there.shape, 0.9) - 0.01 * frame
        return Decoded(
            logits=logits, quality=quality, presence=there.float() * 12 - 6, pointer=torch.zeros(*there.shape, 1)
        )

    @staticmethod
    def logits_at(features, levels):
        return (0.1 - (features.top - levels[..., None, None]).abs()) * 100

    def remember(self, features, decoded, frame):
        count = decoded.logits.shape[0] * decoded.logits.shape[1]
        return FrameMemory(frame=frame, spatial=torch.ones(count, 1, 1, 1), pointer=torch.zeros(count, 1))

    def remember_mask(self, features, masks, frame):
        count = masks.shape[0] * masks.shape[1]
        return FrameMemory(
            frame=frame, spatial=torch.ones(count, 1, 1, 1), pointer=torch.zeros(count, 1), conditioning=True
        )


class FollowingGenerator(EchoGenerator):
    """Its tokens say how bright each object is."""

    def prompt(self, features, support, chosen=None):
        weights = support.occupancy
        levels = (support.features * weights).sum(dim=(0, 2)) / weights.sum(dim=(0, 2)).clamp(min=1e-6)
        memory = levels.reshape(1, -1, 1, 1)
        prior = torch.sigmoid(FollowingBackbone.logits_at(features, memory[..., 0, 0]))
        return Prompt(memory=memory, prior=prior, names=support.names)


class FollowingModel(InContextModel):
    """An in-context model with a memory; ``drift`` makes the memory lead away from the support."""

    def __init__(self):
        super().__init__()
        self.backbone, self.generator = FollowingBackbone(), FollowingGenerator()


def a_frame(n: int, seed: int = 0, shape: tuple[int, int] = (SIDE, SIDE)) -> tuple[np.ndarray, np.ndarray]:
    """A grey frame uint8 ``(H, W)`` and its masks ``(2, H, W)``: a vessel that moves 3 pixels a frame, and its wall."""
    rng = np.random.default_rng(100 * seed + n)
    picture = rng.integers(20, 40, shape).astype(np.uint8)
    picture[:3] = 255
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    distance = np.hypot(rows - 34 - seed, columns - 18 - 3 * n)
    masks = np.stack([distance < 9, (distance >= 9) & (distance < 13)]).astype(np.uint8)
    for mask, level in zip(masks, SEEN.values(), strict=True):
        picture[mask > 0] = level
    return picture, masks


def save(path: Path, array: np.ndarray) -> Path:
    Image.fromarray(array).save(path)
    return path


def write_clip(path: Path, pictures, times_ms=None, codec: str = "mpeg4") -> Path:
    """A video without visible losses, 25 frames a second or at the given times."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], "yuv420p"
        stream.codec_context.bit_rate = 8_000_000
        stream.codec_context.qmax = 2
        base = Fraction(1, 1000) if times_ms else Fraction(1, 25)
        stream.codec_context.time_base = base
        for n, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.repeat(picture[..., None], 3, axis=2), format="rgb24")
            frame.pts, frame.time_base = (times_ms[n] if times_ms else n), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


class TrackDesk:
    """A folder with a support frame and a sweep, and the words that follow the one through the other."""

    def __init__(self, folder: Path, model: str) -> None:
        self.folder, self.model = folder, model
        picture, masks = a_frame(2, seed=1)
        self.support = save(folder / "old.png", picture)
        self.marks = save(folder / "old_mask.png", masks[0] + 2 * masks[1])
        self.target = folder / "sweep"
        self.target.mkdir()
        self.truth = [a_frame(n)[1] for n in range(COUNT)]
        for n in range(COUNT):
            save(self.target / f"frame_{n}.png", a_frame(n)[0])
        self.output, self.table = folder / "found.seq.nrrd", folder / "found.csv"
        self.overlay, self.report = folder / "look.gif", folder / "found.json"

    def words(self, *more: object, **changed: object) -> list[str]:
        support = changed.get("support", (self.support, self.marks))
        words = ["track", *(["--support", *support] if support else []), "--target", changed.get("target", self.target)]
        words += ["--output", changed.get("output", self.output), "--model", changed.get("model", self.model)]
        return [str(word) for word in [*words, "--device", "cpu", *more]]

    def all_words(self, *more: object, **changed: object) -> list[str]:
        """With every output."""
        results = ("--table", self.table, "--overlay", self.overlay, "--report", self.report)
        return self.words(*results, *more, **changed)

    def files(self) -> set[str]:
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*")}


def read_frames(path: Path) -> np.ndarray:
    """The labels ``(T, H, W)`` of a ``.seq.nrrd``, a ``.seg.nrrd`` or label map, or a folder of pictures."""
    import nrrd
    import SimpleITK as sitk

    if path.is_dir():
        return np.stack([np.asarray(Image.open(file)) for file in sorted(path.iterdir())])
    if path.suffix != ".nrrd":
        return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    array = nrrd.read(str(path), index_order="C")[0]
    return array[:, 0] if array.ndim == 4 else array


def labels_of(masks: np.ndarray) -> np.ndarray:
    """Label map ``(H, W)`` of masks ``(N, H, W)``, of which the last wins."""
    labels = np.zeros(masks.shape[1:], np.uint8)
    for n, mask in enumerate(masks):
        labels[mask > 0] = n + 1
    return labels
