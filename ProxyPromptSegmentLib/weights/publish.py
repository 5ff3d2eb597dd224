"""The release folder of the project's own weights, as a maintainer uploads it; reproducible byte for byte.

It contains the checkpoint and the card of each model, ``registry.json`` with entries that can be added to any
registry, and ``SHA256SUMS`` for ``sha256sum -c``; no dates, machine names or file system order.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ProxyPromptSegmentLib.errors import CheckpointError, OutputError
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind
from ProxyPromptSegmentLib.weights.catalogue import FORMAT
from ProxyPromptSegmentLib.weights.entry import OWN_SUFFIX, ModelEntry, ModelKind, check_url
from ProxyPromptSegmentLib.weights.hashing import sha256

# Not stored in the checkpoint; from a JSON file of the same name, or from the registry entry.
_WORDS = ("licence", "description", "citation", "trained_on")


@dataclass(frozen=True)
class Release:
    """A model to be published.

    Attributes:
        checkpoint: A ``.safetensors`` file of this project.
        card: Its model card in Markdown.
        words: Licence, description, citation and training data.
        name: Name of the model; "" means the name in the checkpoint, which is that of its recipe.
        calibration: Coefficients of presence and confidence, see `ModelEntry`.
    """

    checkpoint: Path
    card: Path
    words: dict[str, str]
    name: str = ""
    calibration: dict[str, Any] = field(default_factory=dict)


def release_of_file(checkpoint: Path) -> Release:
    """Build a release from a checkpoint with its card (``.md``) and its words (``.json``) next to it.

    Raises:
        CheckpointError: If one of them is missing or damaged.
    """
    card, words = checkpoint.with_suffix(".md"), checkpoint.with_suffix(".json")
    for path in (checkpoint, card, words):
        if not path.is_file():
            raise CheckpointError(
                f"{path} is missing; a release needs the checkpoint {checkpoint.name}, its card {card.name}, and "
                f"{words.name} with {', '.join(_WORDS)} (and the name, if it differs from the checkpoint's)."
            )
    try:
        content = json.loads(words.read_text(encoding="utf-8"))
        return Release(checkpoint, card, {key: str(content[key]) for key in _WORDS}, str(content.get("name", "")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{words} cannot be used ({error}); it needs {', '.join(_WORDS)}.") from None


def release_of_entry(entry: ModelEntry, checkpoint: Path, card: Path) -> Release:
    """Build a release of a registered model, with the words of its entry.

    Raises:
        CheckpointError: If the card is missing.
    """
    if not card.is_file():
        raise CheckpointError(f"the model card {card} is missing; write what the model can and cannot do.")
    words = {key: getattr(entry, key) for key in _WORDS}
    return Release(checkpoint, card, words, entry.name, entry.calibration)


def entry_of(release: Release, address: str = "") -> ModelEntry:
    """Build the registry entry of a release from the metadata of its checkpoint.

    Args:
        release: The release.
        address: Address of the uploaded folder, ending with ``/``; "" if not known yet.

    Raises:
        CheckpointError: If the checkpoint is not a model or prompt generator of this project, or a word is missing.
    """
    empty = [key for key in _WORDS if not release.words.get(key)]
    if empty:
        raise CheckpointError(f"{release.checkpoint.name} cannot be published without {', '.join(empty)}.")
    said = read_metadata(release.checkpoint)
    try:
        kind, backbone = said.get("kind", ModelKind.MODEL.value), said["model"]["backbone"]
        name = release.name or said["name"]
        base = said["base"]["name"] if kind == ModelKind.GENERATOR or "base" in said else ""
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{release.checkpoint} does not state its {error}; it cannot be published.") from None
    words = release.words
    entry = ModelEntry(
        name=name,
        file=release.checkpoint.name,
        sha256=sha256(release.checkpoint),
        bytes=release.checkpoint.stat().st_size,
        kind=kind,
        fits=backbone,
        package="sam2" if backbone.startswith("sam2") else "segment-anything",
        base=base,
        hash_source="this project, which made the file",
        licence=words["licence"],
        description=words["description"],
        citation=words["citation"],
        trained_on=words["trained_on"],
        calibration=release.calibration,
    )
    return dataclasses.replace(entry, urls=(f"{address}{entry.file}",)) if address else entry


def publish(releases: Sequence[Release], folder: Path, address: str = "") -> list[ModelEntry]:
    """Create the release folder, completely or not at all.

    Args:
        releases: The releases.
        folder: The folder; it must not exist yet, or be empty.
        address: Address of the uploaded folder.

    Returns:
        The entries, in the order of the manifest.

    Raises:
        CheckpointError: If a release is not complete, or two have the same name or file.
        OutputError: If the folder cannot be created.
    """
    if address:
        address = address if address.endswith("/") else f"{address}/"
        check_url(address, "release")
    entries = [entry_of(release, address) for release in releases]
    order = sorted(range(len(entries)), key=lambda number: entries[number].name)
    for key in ("name", "file"):
        if len({getattr(entry, key) for entry in entries}) < len(entries):
            raise CheckpointError(f"two models of the release have the same {key}; publish them one by one.")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise OutputError(
            f"{folder} exists and is not empty; nothing in it is replaced", Remedy(kind=RemedyKind.CHOOSE_FOLDER)
        )
    staged = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        files = []
        for number in order:
            name, release = entries[number].file, releases[number]
            shutil.copyfile(release.checkpoint, staged / name)
            (staged / f"{entries[number].name}.md").write_bytes(release.card.read_bytes())
            files += [name, f"{entries[number].name}.md"]
        listed = {"format": FORMAT, "models": [entries[number].to_dict() for number in order]}
        _write(staged / "registry.json", json.dumps(listed, indent=2, ensure_ascii=False) + "\n")
        sums = [f"{sha256(staged / name)}  {name}\n" for name in sorted([*files, "registry.json"])]
        _write(staged / "SHA256SUMS", "".join(sums))
        for path in staged.iterdir():
            path.chmod(0o644)
        staged.chmod(0o755)
        if folder.exists():
            folder.rmdir()
        os.replace(staged, folder)
    except OSError as error:
        raise OutputError(
            f"the release folder {folder} cannot be created ({error.strerror or error}); free some space or change its "
            "permissions.",
            Remedy(kind=RemedyKind.CHOOSE_FOLDER),
        ) from None
    finally:
        if staged is not None:
            shutil.rmtree(staged, ignore_errors=True)
    return [entries[number] for number in order]


def _write(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8"))  # the same line endings everywhere


def read_metadata(checkpoint: Path) -> dict[str, Any]:
    """Read the metadata of a checkpoint, without its tensors.

    Raises:
        CheckpointError: If it is not a checkpoint of this project.
    """
    from safetensors import SafetensorError, safe_open

    if checkpoint.suffix.lower() != OWN_SUFFIX:
        raise CheckpointError(f"{checkpoint.name} is not a {OWN_SUFFIX} file; only those are published.")
    try:
        with safe_open(str(checkpoint), framework="np") as file:
            said = json.loads((file.metadata() or {})["proxyprompt"])
        if not isinstance(said, dict):
            raise TypeError("its metadata is invalid")
        return said
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{checkpoint} is not a checkpoint of ProxyPromptSegment ({error}).") from None
