"""The weighted mean of checkpoints: the last step of training in stages.

Stages that start from each other's weights lie close together, so that their mean combines them.

References:
    Wortsman et al., Robust Fine-Tuning of Zero-Shot Models (2022): interpolation between weights before and after.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ProxyPromptSegmentLib.errors import CheckpointError, UsageError
from ProxyPromptSegmentLib.networks.checkpoints import read_checkpoint, save_checkpoint
from ProxyPromptSegmentLib.networks.proxy_prompt.config import ProxyPromptConfig
from ProxyPromptSegmentLib.weights.hashing import sha256

if TYPE_CHECKING:
    import torch

# Metadata of the whole checkpoint, not of a part.
_NOT_OF_A_PART = ("format", "version", "model", "kind", "base")


def average_checkpoints(paths: Sequence[Path], weights: Sequence[float], out: Path, name: str | None = None) -> str:
    """Write the mean of checkpoints of one architecture; return its SHA-256.

    Counters and metadata of the whole, such as the recipe, are those of the part with the largest share. ``parts`` in
    the metadata lists file hash, share, recipe and steps of each. The factors of adapters are averaged separately,
    which differs from the mean of their products.

    Args:
        paths: Two or more checkpoints.
        weights: The share of each, above 0; they sum to 1.
        out: The ``.safetensors`` file to write; an existing file is replaced.
        name: Name of the resulting model; by default that of the part with the largest share.

    Raises:
        UsageError: If the shares are not valid.
        CheckpointError: If a file cannot be read, or the parts are from different models.
        OutputError: If the result cannot be written.
    """
    _check_shares(paths, weights)
    tensors, metadata = zip(*(read_checkpoint(path) for path in paths), strict=True)
    for path, state, told in zip(paths[1:], tensors[1:], metadata[1:], strict=True):
        _check_alike((paths[0], tensors[0], metadata[0]), (path, state, told))
    main = max(range(len(paths)), key=lambda number: weights[number])
    mean = {key: _mean([state[key] for state in tensors], weights, main) for key in tensors[main]}
    parts = [
        {"sha256": sha256(path), "share": share, **{k: v for k, v in told.items() if k not in _NOT_OF_A_PART}}
        for path, share, told in zip(paths, weights, metadata, strict=True)
    ]
    whole = {key: value for key, value in metadata[main].items() if key not in ("format", "version")}
    return save_checkpoint(out, mean, {**whole, **({"name": name} if name else {}), "parts": parts})


def _check_shares(paths: Sequence[Path], weights: Sequence[float]) -> None:
    """Reject invalid shares."""
    given = " ".join(f"{share:g}" for share in weights)
    if len(paths) < 2:
        raise UsageError(f"a mean needs two checkpoints or more, not {len(paths)}; give the others too")
    if len(weights) != len(paths):
        raise UsageError(f"{len(paths)} checkpoints were given with the shares {given}; give one share for each")
    # The first comparison is also false for NaN.
    if not all(share > 0 for share in weights) or not math.isclose(sum(weights), 1.0, abs_tol=1e-6):
        raise UsageError(f"the shares {given} sum to {sum(weights):g}; each must be above 0, and their sum 1")


def _check_alike(
    first: tuple[Path, dict[str, torch.Tensor], dict[str, Any]],
    other: tuple[Path, dict[str, torch.Tensor], dict[str, Any]],
) -> None:
    """Reject parts of different architectures."""
    wanted, found = _description(first[0], first[2]), _description(other[0], other[2])
    differing = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
    if differing:
        key = differing[0]
        raise CheckpointError(
            f"{first[0].name} and {other[0].name} are different models: {key} is {wanted.get(key)} in the first and "
            f"{found.get(key)} in the second; a mean needs checkpoints of one architecture"
        )
    shapes = [{key: tensor.shape for key, tensor in state.items()} for state in (first[1], other[1])]
    if shapes[0] != shapes[1]:
        key = min(key for key in shapes[0].keys() | shapes[1].keys() if shapes[0].get(key) != shapes[1].get(key))
        raise CheckpointError(
            f"{first[0].name} and {other[0].name} describe the same model, but differ in the shape of {key}; one of "
            "them is damaged: train it again"
        )


def _description(path: Path, metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that must be equal, flattened; settings missing in old checkpoints get their defaults."""
    try:
        described = metadata["model"]
        generator = ProxyPromptConfig.from_dict(described["generator"]).to_dict()
        return {**described, **generator, "generator": None, **{k: metadata.get(k) for k in ("kind", "base")}}
    except (KeyError, TypeError, AttributeError, UsageError) as error:
        raise CheckpointError(f"{path} does not describe its model ({error}); it is not a model checkpoint") from error


def _mean(parts: list[torch.Tensor], weights: Sequence[float], main: int) -> torch.Tensor:
    """Return the weighted mean, computed in double precision and stored in the main part's precision."""
    if not parts[main].is_floating_point():
        return parts[main]
    total = sum(share * part.double() for share, part in zip(weights, parts, strict=True))
    return total.to(parts[main].dtype)  # type: ignore[union-attr]
