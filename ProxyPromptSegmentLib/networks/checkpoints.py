"""Checkpoints: safetensors with their metadata inside; written whole or not at all, read after a hash check.

Two kinds, told apart by ``kind`` in the metadata: a *model* has every tensor in one file, or names under ``base``
another model of this project whose tensors complete it; a *generator* has the prompt generator and the adapters, and
the hash of the official weights that it was trained on. Which prompt generator it is says ``generator_kind`` beside
its configuration, see `generators.KINDS`.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ProxyPromptSegmentLib import __version__
from ProxyPromptSegmentLib.errors import CheckpointError, OutputError, UsageError
from ProxyPromptSegmentLib.networks.additions import BaseModel, added_to, taken_from
from ProxyPromptSegmentLib.networks.official import OfficialWeights, read_official
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind
from ProxyPromptSegmentLib.weights.entry import ModelKind
from ProxyPromptSegmentLib.weights.hashing import sha256, weights_sha256
from ProxyPromptSegmentLib.weights.plausible import check_described
from ProxyPromptSegmentLib.weights.registry import base_file, resolve
from ProxyPromptSegmentLib.weights.vocabulary import PROXY, generator_kind

if TYPE_CHECKING:
    import torch

    from ProxyPromptSegmentLib.networks.model import ProxyPromptModel

logger = logging.getLogger(__name__)

# What layers raise for sizes that do not fit together.
_CANNOT_BE_BUILT = (AttributeError, TypeError, ValueError, AssertionError, RuntimeError, ArithmeticError, LookupError)

# 2: tensors may be stored in 8 bits; 3: a model may be completed by another; 4: its generator may need no support
FORMAT = 4
OLDEST_FULL_FORMAT = 1  # says everything that later ones say
# Modules of a backbone with the official weights; adapters in them, and all other modules, belong to this project.
_BASE_PREFIXES = ("backbone.sam.", "backbone.sam2.")


def save_checkpoint(
    path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, Any], eight_bit: bool = False
) -> str:
    """Write a checkpoint and return its SHA-256.

    Args:
        path: Where it goes; moved into place last.
        tensors: Named tensors.
        metadata: Everything that rebuilds the model; JSON values only.
        eight_bit: Store large tensors in 8 bits per value, see `eight_bit`.

    Raises:
        OutputError: If the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from ProxyPromptSegmentLib.networks.eight_bit import to_eight_bit

    text = json.dumps(
        {"format": _oldest_format(metadata, eight_bit), "version": __version__, **metadata}, sort_keys=True
    )
    if eight_bit:
        tensors = to_eight_bit(tensors)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        temporary = Path(name)
        save_file(
            {key: value.detach().contiguous().cpu() for key, value in tensors.items()}, name, {"proxyprompt": text}
        )
        digest = sha256(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
    except (OSError, SafetensorError) as error:  # a full disk comes as the latter
        raise OutputError(
            f"the checkpoint {path} cannot be written: {error}; free some space or choose another folder"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return digest


def read_checkpoint(path: Path, expected_sha256: str | None = None) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read tensors and metadata, after verifying the hash.

    Raises:
        CheckpointError: If the file is missing, has another hash, is damaged or not of this project.
    """
    from safetensors import SafetensorError, safe_open

    from ProxyPromptSegmentLib.networks.eight_bit import from_eight_bit

    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}; give the path of a .safetensors file")
    if expected_sha256 is not None and (found := weights_sha256(path)) != expected_sha256:
        raise CheckpointError(
            f"the checkpoint {path} has SHA-256 {found[:12]}..., expected {expected_sha256[:12]}...; "
            "it is damaged or another file: fetch it again"
        )
    try:
        with safe_open(str(path), framework="pt") as file:
            raw = (file.metadata() or {}).get("proxyprompt")
            if raw is None:
                raise CheckpointError(f"{path} is not a checkpoint of ProxyPromptSegment: its metadata is missing")
            metadata = json.loads(raw)
            if not (isinstance(metadata, dict) and isinstance(metadata.get("format", 0), int)):
                raise CheckpointError(f"{path} is not a checkpoint of ProxyPromptSegment: its metadata is invalid")
            if metadata.get("format", 0) > FORMAT:
                raise CheckpointError(f"{path} was written by a newer version; update ProxyPromptSegment")
            check_described(metadata, path.name)
            tensors = from_eight_bit({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        if path.is_file() and not os.access(path, os.R_OK):
            raise CheckpointError(f"{path} may not be read by this user; change its permissions.") from None
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {error}") from error
    for name, tensor in tensors.items():
        if tensor.is_complex() or (tensor.is_floating_point() and not tensor.isfinite().all()):
            raise CheckpointError(
                f"{path} has weights that are complex, NaN or infinite ({name}); its training failed, or it is damaged"
            )
    return tensors, metadata


def _oldest_format(metadata: dict[str, Any], eight_bit: bool) -> int:
    """Return the format of a file: the oldest that can say it, so that earlier versions read what they can."""
    if generator_kind(metadata) != PROXY:
        return 4
    if "base" in metadata and metadata.get("kind") != ModelKind.GENERATOR:
        return 3
    return 2 if eight_bit else 1


def own_tensors(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors of a model that are not official base weights: prompt generator, adapters, bridge."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(_BASE_PREFIXES) or "lora_" in name}


def save_generator(
    path: Path,
    model: ProxyPromptModel,
    base: OfficialWeights,
    metadata: dict[str, Any],
    state: dict[str, torch.Tensor] | None = None,
) -> str:
    """Write a prompt generator and its adapters without the official weights; return the file's SHA-256.

    Args:
        path: Where it goes.
        model: On a backbone that was filled with official weights and stayed frozen.
        base: Those weights; their name and hash are kept, not their tensors.
        metadata: ``name``, ``objects`` and the like; JSON values only.
        state: The model's tensors where they are not its own, such as averaged ones.

    Raises:
        OutputError: If the file cannot be written.
    """
    kept = {"name": base.name, "sha256": base.sha256.lower()}
    described = {"kind": ModelKind.GENERATOR.value, "base": kept, "model": model.describe()}
    return save_checkpoint(path, own_tensors(state or model.state_dict()), {**metadata, **described})


def save_addition(
    path: Path,
    model: ProxyPromptModel,
    base: BaseModel,
    metadata: dict[str, Any],
    state: dict[str, torch.Tensor] | None = None,
    eight_bit: bool = False,
) -> str:
    """Write what a model adds to another model of this project; return the file's SHA-256.

    Args:
        path: Where it goes.
        model: On a backbone that shares its encoder with the base.
        base: The other model; its name and hash are kept, not its tensors.
        metadata: ``name``, ``recipe`` and the like; JSON values only.
        state: The model's tensors where they are not its own, such as averaged ones.
        eight_bit: See `save_checkpoint`.

    Raises:
        OutputError: If the file cannot be written.
    """
    added = added_to(base, state or model.state_dict())
    half = {name: value.half() if value.is_floating_point() else value for name, value in added.items()}
    kept = {"name": base.name, "sha256": base.sha256.lower()}
    described = {"kind": ModelKind.MODEL.value, "base": kept, "model": model.describe()}
    return save_checkpoint(path, half, {**metadata, **described}, eight_bit)


def load_base_model(model: Path | str) -> tuple[BaseModel, dict[str, Any]]:
    """Load a model as what another one is built on; return it and its metadata.

    Raises:
        CheckpointError: As `read_checkpoint`, or if it is itself completed by another.
    """
    path, expected = (model, None) if isinstance(model, Path) else resolve(model)
    tensors, metadata = read_checkpoint(path, expected)
    if "base" in metadata:
        raise CheckpointError(f"{path.name} is itself completed by other weights; give a model that is whole")
    whole = {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
    name = str(metadata.get("name", path.stem))
    return BaseModel(name=name, sha256=expected or sha256(path), tensors=whole), metadata


def load_model(
    model: Path | str, expected_sha256: str | None = None, base: Path | None = None
) -> tuple[ProxyPromptModel, dict[str, Any]]:
    """Build the model that a checkpoint describes (backbone, adapters, prompt generator) and load its weights.

    Args:
        model: Path of a checkpoint, or the name of a registered model or prompt generator.
        expected_sha256: Hash of the file; a name brings its own.
        base: File of the weights that the checkpoint names and does not hold; by default the registry's.

    Returns:
        The model in evaluation mode, and the checkpoint's metadata.

    Raises:
        CheckpointError: As `read_checkpoint`, or if names or shapes differ, or the base weights are others.
    """
    if isinstance(model, str):
        path, promised = resolve(model)
        expected_sha256 = expected_sha256 or promised
    else:
        path = model
    tensors, metadata = read_checkpoint(path, expected_sha256)
    if metadata.get("format", 0) < OLDEST_FULL_FORMAT:
        logger.warning(
            "%s was written by an older version of ProxyPromptSegment (format %s, now %s); what it does not say is "
            "taken as it was then. Compare its results, or train it again",
            path.name,
            metadata.get("format", 0),
            FORMAT,
        )
    if metadata.get("kind") == ModelKind.GENERATOR:
        return _fill_generator(path, tensors, metadata, base), metadata
    built = _build(path, metadata)
    if "base" in metadata:
        tensors = _completed(path, built, tensors, metadata, base)
    try:
        built.load_state_dict({key: value.float() for key, value in tensors.items()})
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit its own description: {error}") from error
    return built.eval(), metadata


def _build(path: Path, metadata: dict[str, Any], base: dict[str, torch.Tensor] | None = None) -> ProxyPromptModel:
    """Build the architecture that a checkpoint describes, with random weights."""
    from ProxyPromptSegmentLib.networks.generators import read_config
    from ProxyPromptSegmentLib.networks.model import build_model

    try:
        described = metadata["model"]
        config = read_config(generator_kind(metadata), described["generator"])
        return build_model(described["backbone"], config, described["lora_rank"], base)
    except KeyError as error:
        raise CheckpointError(f"{path} lacks the setting {error}; it is not a model checkpoint") from error
    except (UsageError, *_CANNOT_BE_BUILT) as error:
        raise CheckpointError(f"the model that {path} describes cannot be built: {error}") from error


def check_fits(path: Path) -> None:
    """Compare a file's tensors with the model that it describes, by name and shape; base weights are not needed.

    Raises:
        CheckpointError: As `read_checkpoint`, or if they differ.
    """
    tensors, metadata = read_checkpoint(path)
    state = _build(path, metadata).state_dict()
    if metadata.get("kind") == ModelKind.GENERATOR:
        state = own_tensors(state)
    missing = (
        [] if "base" in metadata and metadata.get("kind") != ModelKind.GENERATOR else state.keys() - tensors.keys()
    )
    unlike = sorted(name for name, value in tensors.items() if name not in state or state[name].shape != value.shape)
    if missing or unlike or not tensors:
        raise CheckpointError(
            f"{path} does not fit its own description: {len(missing)} of {len(state)} tensors are missing, "
            f"{len(unlike)} are unknown or have another shape (first {unlike[:1]})"
        )


def _fill_generator(
    path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, Any], base: Path | None
) -> ProxyPromptModel:
    """Load a prompt generator's tensors and the official weights that it was trained on into a model."""
    model = _build(path, metadata, read_official(*_base_of(path, metadata, base)))
    own = own_tensors(model.state_dict())
    missing, unknown = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if missing or unknown:
        raise CheckpointError(
            f"{path} does not fit its own description: {len(missing)} tensors are missing (first {missing[:1]}), "
            f"{len(unknown)} are unknown (first {unknown[:1]})"
        )
    try:
        model.load_state_dict({key: value.float() for key, value in tensors.items()}, strict=False)
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit its own description: {error}") from error
    return model.eval()


def _completed(
    path: Path, model: ProxyPromptModel, tensors: dict[str, torch.Tensor], metadata: dict[str, Any], base: Path | None
) -> dict[str, torch.Tensor]:
    """Return the tensors of a model that stores only what it adds to another.

    Raises:
        CheckpointError: If the other model is missing or another, or both together do not make the model.
    """
    file, digest = _base_of(path, metadata, base, ModelKind.MODEL)
    stored, _ = read_checkpoint(file, digest)
    other = BaseModel(name=metadata["base"]["name"], sha256=digest, tensors=stored)
    state = model.state_dict()
    whole = {**taken_from(other, state), **tensors}
    if missing := sorted(state.keys() - whole.keys()):
        raise CheckpointError(
            f"{path} does not fit its own description: {len(missing)} tensors are neither in it nor in "
            f"'{other.name}' (first {missing[:1]})"
        )
    return whole


def _base_of(
    path: Path, metadata: dict[str, Any], base: Path | None, kind: ModelKind = ModelKind.BACKBONE
) -> tuple[Path, str]:
    """Return file and hash of the weights that a checkpoint requires: official ones, or another model.

    Raises:
        CheckpointError: If the given file is another, or the registry has none with this hash on this machine.
    """
    wanted = metadata.get("base")
    if not (isinstance(wanted, dict) and all(isinstance(wanted.get(key), str) for key in ("name", "sha256"))):
        raise CheckpointError(
            f"{path} does not state on which weights it was trained; it is not a complete prompt generator or model"
        )
    name, digest = wanted["name"], wanted["sha256"].lower()
    if base is None:
        beside = path.parent / f"{Path(name).name}.safetensors"  # as a training leaves both
        if kind == ModelKind.MODEL and beside.is_file() and weights_sha256(beside) == digest:
            return beside, digest
        return base_file(name, digest, kind=kind)[1], digest
    if not base.is_file():
        raise CheckpointError(f"there are no base weights {base}; give the file of '{name}'")
    if (found := weights_sha256(base)) != digest:
        raise CheckpointError(
            f"{path.name} was trained on the weights '{name}' (SHA-256 {digest[:12]}...), and "
            f"{base.name} is another file ({found[:12]}...): combining them would silently give wrong masks; give the "
            f"file of '{name}'",
            Remedy(kind=RemedyKind.DOWNLOAD_MODEL, model=name),
        )
    return base, digest
