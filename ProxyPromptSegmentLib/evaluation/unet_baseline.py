"""The specialist baseline: MONAI's 2D U-Net, trained only on the PROMISE12 training patients.

It sees all slices of its patients and learns one organ; the in-context model gets a few slices instead.
Training is limited by time and resumes with the seconds already used. The last averaged weights are the
result; nothing is selected on the validation patients, so they may be used for training as well
(``parts``), as in the last stages of the compact model.

References:
    Ronneberger et al. 2015, U-Net; the residual variant of Kerfoot et al. 2019 as MONAI implements it.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from ProxyPromptSegmentLib.data.cases import Case, load_dataset
from ProxyPromptSegmentLib.data.splits import split
from ProxyPromptSegmentLib.errors import CheckpointError, InputError
from ProxyPromptSegmentLib.evaluation.clock import training_clock
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.imaging.metrics import dice

LOG = logging.getLogger(__name__)

WEIGHTS = "unet.safetensors"
STATE = "unet_state.safetensors"
BATCH = 16
PEAK_RATE = 1e-3
FINAL_FRACTION = 0.01
WARM_UP_STEPS = 50
WEIGHT_DECAY = 0.01
EMA_DECAY = 0.998
CHECKPOINT_EVERY_S = 60.0
VALIDATE_EVERY_S = 300.0


def build_unet(channels: int = 1, objects: int = 1) -> nn.Module:
    """Build the network with 1.6 M parameters, for sides divisible by 16.

    MONAI's U-Net ends in a normalised layer with as many channels as its output. A single channel would keep
    the logits of every slice near zero mean (loss 1.65 after 90 steps, 0.41 with the head), so it has 16
    output channels here, and a 1 x 1 convolution computes the logits.

    Args:
        channels: Channels of an image.
        objects: Number of logits for each pixel.
    """
    from monai.networks.nets import UNet

    body = UNet(
        spatial_dims=2,
        in_channels=channels,
        out_channels=16,
        channels=(16, 32, 64, 128, 256),
        strides=(2, 2, 2, 2),
        num_res_units=2,
        norm="batch",
    )
    return nn.Sequential(body, nn.Conv2d(16, objects, kernel_size=1))


def windowed(images: np.ndarray) -> np.ndarray:
    """Map a volume's 0.5-99.5 percentiles to 0..1 and clip; float32, same shape."""
    low, high = intensity_window(images)
    return np.clip((images - low) / (high - low), 0.0, 1.0).astype(np.float32)


def load_unet(weights: Path) -> nn.Module:
    """Load averaged weights written by ``train_unet``; return the network in evaluation mode.

    Raises:
        CheckpointError: If the file is missing or contains another network.
    """
    if not Path(weights).is_file():
        raise CheckpointError(f"{weights}, the U-Net's weights, is missing. Train it with train_unet.")
    model = build_unet()
    try:
        model.load_state_dict(load_file(weights))
    except (RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{weights} does not contain this U-Net: {reason}. Train it again.") from error
    return model.eval()


def describe_unet(weights: Path) -> str:
    """Return the name of the table row, with the number of training patients and the training time."""
    try:
        with safe_open(weights, framework="pt") as stored:
            about = stored.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{weights}, the U-Net's weights, cannot be read: {error}. Train it again.") from error
    trained_on = about.get("training", "promise12").split(", ")[-1]
    return f"U-Net (monai), {trained_on}, {float(about.get('minutes', 'nan')):g} min"


@torch.no_grad()
def predict_volume(model: nn.Module, images: np.ndarray, batch: int = 16) -> np.ndarray:
    """Segment every slice of a volume.

    Args:
        model: The network in evaluation mode.
        images: Raw intensities of the whole volume; shape ``(S, H, W)``, H and W divisible by 16. The window
            is taken over this volume, as in training.
        batch: Number of slices per forward pass.

    Returns:
        Mask, uint8, shape ``(S, H, W)``.
    """
    slices = torch.from_numpy(windowed(images))[:, None]
    logits = torch.cat([model(part) for part in slices.split(batch)])
    return (logits[:, 0] > 0).to(torch.uint8).numpy()


def augment(images: Tensor, masks: Tensor, generator: torch.Generator, flip: bool = True) -> tuple[Tensor, Tensor]:
    """Apply a random affine map, left-right flip, gamma, contrast and noise to each slice.

    Args:
        images: In 0..1, float32, shape ``(B, C, H, W)``.
        masks: 0 or 1, float32, shape ``(B, N, H, W)``.
        generator: Source of all randomness.
        flip: Whether slices are mirrored.

    Returns:
        Images and masks of the same shapes; rotation within 15 degrees, scale 0.8-1.25, shift within 10 % of
        the side. Never upside down: anterior stays anterior.
    """
    count = len(images)

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(count, generator=generator) * (high - low) + low

    angle = uniform(-math.pi / 12, math.pi / 12)
    scale = torch.exp(uniform(-math.log(1.25), math.log(1.25)))
    mirror = torch.where((uniform(0, 1) < 0.5) & flip, -1.0, 1.0)
    cosine, sine = torch.cos(angle) / scale, torch.sin(angle) / scale
    # The grid spans -1..1, so this is 10 % of the side.
    shift_x, shift_y = uniform(-0.2, 0.2), uniform(-0.2, 0.2)
    row_x = torch.stack([cosine * mirror, -sine, shift_x], dim=1)
    row_y = torch.stack([sine * mirror, cosine, shift_y], dim=1)
    grid = functional.affine_grid(torch.stack([row_x, row_y], 1), list(images.shape), align_corners=False)
    images = functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    masks = functional.grid_sample(masks, grid, mode="nearest", padding_mode="zeros", align_corners=False)

    def per_slice(values: Tensor) -> Tensor:
        return values[:, None, None, None]

    images = images.clamp(0, 1) ** per_slice(torch.exp(uniform(-0.4, 0.4)))
    images = images * per_slice(uniform(0.85, 1.15)) + per_slice(uniform(-0.08, 0.08))
    noise = torch.randn(images.shape, generator=generator)
    return images + noise * per_slice(uniform(0.0, 0.05)), masks


def segmentation_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Return soft Dice over the whole batch (so that false positives on empty slices count) plus cross-entropy."""
    probability = torch.sigmoid(logits)
    overlap = 2.0 * (probability * masks).sum() + 1.0
    dice = 1.0 - overlap / (probability.sum() + masks.sum() + 1.0)
    return dice + functional.binary_cross_entropy_with_logits(logits, masks)


def learning_rate(step: int, fraction: float) -> float:
    """Return the learning rate: warm-up over steps, cosine over the elapsed fraction of the training time."""
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(fraction, 1.0)))
    warm_up = min(1.0, (step + 1) / WARM_UP_STEPS)
    return PEAK_RATE * warm_up * (FINAL_FRACTION + (1.0 - FINAL_FRACTION) * cosine)


class TrainingState:
    """Network, average and optimiser, with the steps and training seconds spent; kept as plain tensors."""

    def __init__(self, seed: int) -> None:
        """Initialise with random weights that depend only on the seed."""
        torch.manual_seed(seed)
        self.seed, self.steps, self.seconds = seed, 0, 0.0
        self.model = build_unet()
        self.average = build_unet().eval()
        self.average.load_state_dict(self.model.state_dict())
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=PEAK_RATE, weight_decay=WEIGHT_DECAY)
        self.generator = torch.Generator().manual_seed(seed)

    def step(self, images: Tensor, masks: Tensor, fraction: float) -> float:
        """Train on one batch of windowed slices and masks; return the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.steps, fraction)
        images, masks = augment(images, masks, self.generator)
        self.model.train()
        loss = segmentation_loss(self.model(images), masks)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.steps += 1
        decay = min(EMA_DECAY, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            values = self.model.state_dict()  # with the running statistics of the batch norm
            for name, mean in self.average.state_dict().items():
                if mean.is_floating_point():
                    mean.lerp_(values[name], 1.0 - decay)
                else:
                    mean.copy_(values[name])
        return float(loss.detach())

    def save(self, folder: Path, minutes: float, patients: int) -> None:
        """Save the averaged weights and the state for resuming; each file is replaced atomically."""
        counts = {"steps": str(self.steps), "seconds": repr(self.seconds), "seed": str(self.seed)}
        weights = {name: value.contiguous() for name, value in self.average.state_dict().items()}
        tensors = {f"average/{name}": value for name, value in weights.items()}
        tensors |= {f"model/{name}": value.contiguous() for name, value in self.model.state_dict().items()}
        for index, entries in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{name}": value.contiguous() for name, value in entries.items()}
        tensors["generator"] = self.generator.get_state()
        _replace(tensors, folder / STATE, counts)
        about = {
            "architecture": "monai UNet 16-256, batch norm, 1 x 1 head",
            "training": f"promise12, {patients} patients",
            "minutes": str(minutes),
        }
        _replace(weights, folder / WEIGHTS, counts | about)

    def resume(self, folder: Path) -> bool:
        """Resume from a saved state if there is one; return whether it did."""
        if not (folder / STATE).is_file():
            return False
        with safe_open(folder / STATE, framework="pt") as stored:
            counts = stored.metadata()
            names = stored.keys()
            tensors = {name: stored.get_tensor(name) for name in names}
        self.steps, self.seconds = int(counts["steps"]), float(counts["seconds"])
        self.seed = int(counts["seed"])
        self.model.load_state_dict(_under(tensors, "model/"))
        self.average.load_state_dict(_under(tensors, "average/"))
        entries: dict[int, dict[str, Tensor]] = {}
        for name, value in _under(tensors, "optimizer/").items():
            index, field = name.split("/")
            entries.setdefault(int(index), {})[field] = value
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": entries})
        self.generator.set_state(tensors["generator"])
        return True


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _replace(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write to a temporary file first, so that an interruption leaves the old file intact."""
    beside = path.with_suffix(".part")
    save_file(tensors, beside, metadata)
    os.replace(beside, path)


def mean_dice(model: nn.Module, cases: Sequence[Case]) -> float:
    """Return the mean Dice per volume of the first object."""
    return float(np.mean([dice(c.masks[:, 0], predict_volume(model, c.images)) for c in cases]))


def train_unet(
    root: Path,
    out_dir: Path,
    minutes: float,
    seed: int = 0,
    threads: int = 1,
    parts: Sequence[str] = ("train",),
) -> Path:
    """Train for ``minutes`` of training time, resuming from ``out_dir`` if interrupted before.

    Args:
        root: Folder of the data sets, see ``load_dataset``.
        out_dir: Folder for state, weights and ``unet.json``.
        minutes: Training time; loading, validation and checkpoints do not count.
        seed: Seed of weights, order and augmentation.
        threads: CPU threads of torch.
        parts: Parts of the split to train on, ``"train"`` and ``"validation"``; never the test patients.

    Returns:
        The file of the averaged weights after the last step.

    Raises:
        InputError: If ``parts`` names another part, or none.
    """
    if not parts or not set(parts) <= {"train", "validation"}:
        raise InputError(f"The parts to train on are {', '.join(parts) or 'none'}; allowed: train, validation.")
    torch.set_num_threads(threads)
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    divided = split(load_dataset(Path(root), "promise12"), "promise12")
    cases = [case for part in dict.fromkeys(parts) for case in getattr(divided, part)]
    patients = sorted({case.patient for case in cases})
    images = torch.from_numpy(np.concatenate([windowed(case.images) for case in cases]))[:, None]
    masks = torch.from_numpy(np.concatenate([case.masks[:, :1] for case in cases])).float()
    state = TrainingState(seed)
    resumed = state.resume(out_dir)
    parameters = sum(p.numel() for p in state.model.parameters())
    LOG.info("%d slices, %d parameters, step %d, %.0f s", len(images), parameters, state.steps, state.seconds)
    LOG.info("resuming from %s" if resumed else "starting in %s", out_dir)
    limit = minutes * 60.0
    saved = validated = state.seconds
    recent: list[float] = []
    while state.seconds < limit:
        began = training_clock(torch.device("cpu"))
        chosen = torch.randperm(len(images), generator=state.generator)[:BATCH]
        recent.append(state.step(images[chosen], masks[chosen], state.seconds / limit))
        state.seconds += training_clock(torch.device("cpu")) - began
        if state.steps % 10 == 0:
            LOG.info("step %d, %.0f s, loss %.4f", state.steps, state.seconds, np.mean(recent))
            recent.clear()
        if state.seconds - saved >= CHECKPOINT_EVERY_S:
            saved = state.seconds
            state.save(out_dir, minutes, len(patients))
        if state.seconds - validated >= VALIDATE_EVERY_S:
            validated = state.seconds
            score = mean_dice(state.average, divided.validation)
            LOG.info("step %d, %.0f s, validation Dice %.4f", state.steps, state.seconds, score)
    state.save(out_dir, minutes, len(patients))
    result = {
        "parameters": parameters,
        "steps": state.steps,
        "training_seconds": round(state.seconds, 1),
        "batch": BATCH,
        "seed": state.seed,
        "threads": threads,
        "train_patients": patients,
        "validation_was_trained_on": "validation" in parts,
        "validation_dice": mean_dice(state.average, divided.validation),
    }
    (out_dir / "unet.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    LOG.info("finished: step %d, validation Dice %.4f", state.steps, result["validation_dice"])
    return out_dir / WEIGHTS


def main(arguments: Sequence[str] | None = None) -> None:
    """Train from the command line; the log goes to standard error."""
    parser = argparse.ArgumentParser(description="Train the U-Net baseline on PROMISE12.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--output", dest="out", type=Path, required=True, help="folder for state and weights")
    parser.add_argument("--minutes", type=float, default=45.0, help="training time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--parts", nargs="+", default=["train"], choices=["train", "validation"])
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train_unet(options.data, options.out, options.minutes, options.seed, options.threads, options.parts)


if __name__ == "__main__":
    main()
