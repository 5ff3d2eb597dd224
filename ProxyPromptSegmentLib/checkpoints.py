"""Checkpoints: safetensors with their metadata inside; written whole or not at all, read after a hash check."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ProxyPromptSegmentLib import __version__
from ProxyPromptSegmentLib.errors import CheckpointError, OutputError, UsageError

if TYPE_CHECKING:
    import torch

    from ProxyPromptSegmentLib.model import ProxyPromptModel

FORMAT = 1


def sha256(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def save_checkpoint(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, Any]) -> str:
    """Writes a checkpoint and returns its SHA-256.

    Args:
        path: Where it goes; moved into place last.
        tensors: Named tensors.
        metadata: Everything that rebuilds the model; JSON values only.

    Raises:
        OutputError: If the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    text = json.dumps({"format": FORMAT, "version": __version__, **metadata}, sort_keys=True)
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
    """Reads tensors and metadata, after the hash was found right.

    Raises:
        CheckpointError: If the file is missing, has another hash, is damaged or not of this project.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}; give the path of a .safetensors file")
    if expected_sha256 is not None and (found := sha256(path)) != expected_sha256:
        raise CheckpointError(
            f"the checkpoint {path} has SHA-256 {found[:12]}..., expected {expected_sha256[:12]}...; "
            "it is damaged or another file: fetch it again"
        )
    try:
        with safe_open(str(path), framework="pt") as file:
            raw = (file.metadata() or {}).get("proxyprompt")
            if raw is None:
                raise CheckpointError(f"{path} is no checkpoint of ProxyPromptSegment: its metadata is missing")
            metadata = json.loads(raw)
            if not (isinstance(metadata, dict) and isinstance(metadata.get("format", 0), int)):
                raise CheckpointError(f"{path} is no checkpoint of ProxyPromptSegment: its metadata is no description")
            if metadata.get("format", 0) > FORMAT:
                raise CheckpointError(f"{path} was written by a newer version; update ProxyPromptSegment")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {error}") from error
    return tensors, metadata


def read_official(path: Path, expected_sha256: str | None = None) -> dict[str, torch.Tensor]:
    """Reads a foreign ``.pth`` file as tensors alone; nothing in it is executed.

    Args:
        path: An official SAM or MedSAM checkpoint.
        expected_sha256: Checked before the file is opened.

    Raises:
        CheckpointError: If the file is missing, has another hash or holds anything but named tensors.
    """
    import pickle

    import torch

    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}; give the path of the official .pth file")
    if expected_sha256 is not None and (found := sha256(path)) != expected_sha256:
        raise CheckpointError(f"{path} has SHA-256 {found[:12]}..., expected {expected_sha256[:12]}...; fetch it again")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise CheckpointError(f"{path} is no file of tensors and was not executed: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise CheckpointError(f"{path} holds something else than named tensors; give the official .pth file")
    return content


def load_model(path: Path, expected_sha256: str | None = None) -> tuple[ProxyPromptModel, dict[str, Any]]:
    """Builds the model that a checkpoint describes and fills it.

    Returns:
        The model in evaluation mode, and the checkpoint's metadata.

    Raises:
        CheckpointError: As `read_checkpoint`, or if names or shapes differ.
    """
    from ProxyPromptSegmentLib.model import build_model
    from ProxyPromptSegmentLib.prompting.proxy.config import ProxyPromptConfig

    tensors, metadata = read_checkpoint(path, expected_sha256)
    try:
        described = metadata["model"]
        config = ProxyPromptConfig.from_dict(described["generator"])
        model = build_model(described["backbone"], config, described["lora_rank"])
    except KeyError as error:
        raise CheckpointError(f"{path} lacks the setting {error}; it is no model checkpoint") from error
    except (UsageError, AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(f"the model that {path} describes cannot be built: {error}") from error
    try:
        model.load_state_dict({key: value.float() for key, value in tensors.items()})
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit its own description: {error}") from error
    return model.eval(), metadata
