"""Which models come with the program, and where their checkpoints lie."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ProxyPromptSegmentLib.checkpoints import sha256
from ProxyPromptSegmentLib.errors import CheckpointError

DEFAULT_MODEL = "sam-compact"
_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class ModelEntry:
    """One model of the registry.

    Attributes:
        name: What ``--model`` takes.
        file: File name beside the registry.
        sha256: The file's hash in hexadecimal; None is not checked (a model that is still being made).
        bytes: Its size.
        licence: Licence of the weights.
        description: One sentence: what it is, trained on what.
        citation: What to cite.
    """

    name: str
    file: str
    sha256: str | None = None
    bytes: int | None = None
    licence: str = ""
    description: str = ""
    citation: str = ""


def models_folder() -> Path:
    """The folder of the registry and of the embedded checkpoints."""
    from ProxyPromptSegmentLib.resources import resource_path

    return resource_path("models")


def read_registry(folder: Path | None = None) -> list[ModelEntry]:
    """The models of a folder's ``registry.json``: ``{"format": 1, "models": [entry, ...]}``.

    Raises:
        CheckpointError: If the file is missing or damaged.
    """
    file = (folder or models_folder()) / "registry.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return [ModelEntry(**entry) for entry in content["models"]]
    except OSError as error:
        raise CheckpointError(
            f"the list of models {file} cannot be read: {error}; install the program again."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"the list of models {file} is damaged: {error}; install the program again.") from error


def checkpoint_of(entry: ModelEntry, folder: Path | None = None) -> Path:
    """Where an entry's checkpoint lies.

    Raises:
        CheckpointError: If the entry points outside of the folder.
    """
    folder = (folder or models_folder()).resolve()
    path = (folder / entry.file).resolve()
    if path.parent != folder:
        raise CheckpointError(
            f"the model '{entry.name}' points to {entry.file}, outside of {folder}; checkpoints lie beside "
            "the list of models. Install the program again."
        )
    return path


def resolve(model: str, folder: Path | None = None) -> tuple[Path, str | None]:
    """Finds a checkpoint by name or path and checks the hash where one is known.

    Args:
        model: Name of a registered model, or path of a ``.safetensors`` file.
        folder: Folder of the registry, for tests.

    Returns:
        Path and expected SHA-256; None for a path, whose hash nobody has promised.

    Raises:
        CheckpointError: If there is no such model or file, or the hash is another.
    """
    if model.lower().endswith(_SUFFIX) or "/" in model or "\\" in model:
        path = Path(model)
        if not path.is_file():
            raise CheckpointError(
                f"there is no checkpoint {model}; give the path of a {_SUFFIX} file, or a model's name."
            )
        if path.suffix.lower() != _SUFFIX:
            raise CheckpointError(
                f"{path.name} is no {_SUFFIX} file; other formats may run code when opened and are refused."
            )
        return path, None
    entries = read_registry(folder)
    entry = next((e for e in entries if e.name == model), None)
    if entry is None:
        known = ", ".join(e.name for e in entries) or "none"
        raise CheckpointError(f"there is no model '{model}'; there are {known}. Name one, or give a {_SUFFIX} file.")
    path = checkpoint_of(entry, folder)
    if not path.is_file():
        raise CheckpointError(
            f"the checkpoint of '{model}' is not installed ({path} is missing); install the program again, "
            f"or give a {_SUFFIX} file."
        )
    if entry.sha256 and (found := sha256(path)) != entry.sha256.lower():
        raise CheckpointError(
            f"the checkpoint {path.name} has SHA-256 {found[:12]}..., expected {entry.sha256[:12]}...; it is "
            "damaged or another file. Install the program again."
        )
    return path, entry.sha256.lower() if entry.sha256 else None
