"""The registry: known models and weights by name, and the paths of their files on this machine."""

from __future__ import annotations

import difflib
from pathlib import Path

from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind
from ProxyPromptSegmentLib.resources import resource_path
from ProxyPromptSegmentLib.user_folders import user_registry
from ProxyPromptSegmentLib.weights.cache import ModelCache
from ProxyPromptSegmentLib.weights.catalogue import read_entries, with_users_own
from ProxyPromptSegmentLib.weights.entry import OWN_SUFFIX, ModelEntry, ModelKind
from ProxyPromptSegmentLib.weights.hashing import weights_sha256

__all__ = [
    "DEFAULT_MODEL",
    "DEFAULT_TRACKING_MODEL",
    "ModelEntry",
    "all_entries",
    "base_file",
    "checkpoint_of",
    "find",
    "location",
    "models_folder",
    "read_registry",
    "registered_name",
    "resolve",
    "with_hash",
]

DEFAULT_MODEL = "sam-compact"
DEFAULT_TRACKING_MODEL = "sam2-compact"
"""The embedded models; they are named like their architectures."""
_MOST_NEAR = 4  # names that a message offers for a misspelt one


def models_folder() -> Path:
    """Return the folder of the registry and of the embedded checkpoints."""
    return resource_path("models")


def read_registry(folder: Path | None = None) -> list[ModelEntry]:
    """Return the embedded models: those whose checkpoints are next to ``registry.json``.

    Raises:
        CheckpointError: If the file is missing, damaged or names a path outside its folder.
    """
    entries = read_entries((folder or models_folder()) / "registry.json")
    return [entry for entry in entries if entry.embedded]


def all_entries(folder: Path | None = None) -> list[ModelEntry]:
    """Return all entries: embedded, downloadable, and those added by the user's file.

    Args:
        folder: Folder of the registry, for tests; the user's file is then not read.

    Raises:
        CheckpointError: If the program's registry is damaged; errors in the user's are only logged as warnings.
    """
    shipped = read_entries((folder or models_folder()) / "registry.json")
    return shipped if folder else with_users_own(shipped, user_registry())


def find(name: str, folder: Path | None = None) -> ModelEntry:
    """Return the entry with the given name.

    Raises:
        CheckpointError: If there is none.
    """
    entries = all_entries(folder)
    entry = next((entry for entry in entries if entry.name == name), None)
    if entry is None:
        names = [entry.name for entry in entries]
        near = difflib.get_close_matches(name.casefold(), names, _MOST_NEAR)
        which = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names) or 'none'}."
        raise CheckpointError(f"there is no model '{name}'; {which} Name one of the list, or give a {OWN_SUFFIX} file.")
    return entry


def base_file(
    name: str, digest: str | None = None, folder: Path | None = None, kind: ModelKind = ModelKind.BACKBONE
) -> tuple[ModelEntry, Path, str | None]:
    """Find weights that others are built on, on this machine.

    Args:
        name: Name of their entry.
        digest: SHA-256 that they must have, e.g. as required by a prompt generator: an entry of another name is
            accepted, one with another hash never.
        folder: Folder of the registry, for tests.
        kind: Official backbone weights, or a whole model.

    Returns:
        Entry, path and expected SHA-256; the hash is not verified yet.

    Raises:
        CheckpointError: If there are none, or they are not on this machine.
    """
    if digest is None:
        entry = find(name, folder)
    else:
        same = with_hash(digest, folder)
        if not same:
            raise CheckpointError(
                f"the base weights '{name}' with SHA-256 {digest[:12]}... are not in the registry, or those of this "
                "name have another hash; give the file that was trained on, or a model for the weights you have.",
                Remedy(kind=RemedyKind.GIVE_BASE, model=name),
            )
        entry = next((entry for entry in same if location(entry, folder).is_file()), same[0])
    if entry.kind != kind:
        wanted = "an image backbone" if kind == ModelKind.BACKBONE else "a whole model"
        raise CheckpointError(f"'{entry.name}' is a {entry.kind}, not {wanted}; give one of those.")
    path = location(entry, folder)
    if not path.is_file():
        raise _missing(entry, path)
    return entry, path, entry.sha256.lower() if entry.sha256 else ModelCache().expected(entry)


def with_hash(digest: str, folder: Path | None = None) -> list[ModelEntry]:
    """Return the entries whose file has a SHA-256: the registry's, or the one recorded when it was imported."""
    cache = ModelCache()
    return [entry for entry in all_entries(folder) if cache.expected(entry) == digest.lower()]


def checkpoint_of(entry: ModelEntry, folder: Path | None = None) -> Path:
    """Return the path of an embedded model's checkpoint; `ModelEntry` guarantees a plain file name."""
    return (folder or models_folder()).resolve() / entry.file


def location(entry: ModelEntry, folder: Path | None = None) -> Path:
    """Return the path of an entry's file, next to the registry or in the cache, whether it exists or not."""
    return checkpoint_of(entry, folder) if entry.embedded else ModelCache().path_of(entry)


def registered_name(model: str, own: str) -> str:
    """Return the name of a model that was asked for: the user's registry may have renamed what its file names.

    Args:
        model: Name or path that was asked for.
        own: Name in its file.
    """
    entry = next((entry for entry in all_entries() if entry.name == model), None)
    return own if entry is None or entry.origin == "shipped" else entry.name


def resolve(model: str, folder: Path | None = None) -> tuple[Path, str | None]:
    """Find a checkpoint by name or path and checks the hash where one is known.

    Args:
        model: Name of a registered model or prompt generator, or path of a ``.safetensors`` file.
        folder: Folder of the registry, for tests.

    Returns:
        Path and expected SHA-256; None for a path, whose hash nobody has promised.

    Raises:
        CheckpointError: If there is no such model or file, or the hash is another, or it cannot segment.
    """
    if model.lower().endswith(OWN_SUFFIX) or "/" in model or "\\" in model:
        path = Path(model)
        if not path.is_file():
            raise CheckpointError(
                f"there is no checkpoint {model}; give the path of a {OWN_SUFFIX} file, or a model's name."
            )
        if path.suffix.lower() != OWN_SUFFIX:
            raise CheckpointError(
                f"{path.name} is not a {OWN_SUFFIX} file; other formats may run code when opened and are refused."
            )
        return path, None
    entry = find(model, folder)
    if entry.kind == ModelKind.BACKBONE:
        raise CheckpointError(
            f"'{model}' is an image backbone alone and cannot segment without a prompt generator",
            Remedy(kind=RemedyKind.CHOOSE_MODEL),
        )
    path, expected = location(entry, folder), entry.sha256
    if not path.is_file():
        raise _missing(entry, path)
    if expected is None and not entry.embedded:
        expected = ModelCache().expected(entry)
    if expected and (found := weights_sha256(path)) != expected.lower():
        kind = RemedyKind.REINSTALL_PROGRAM if entry.embedded else RemedyKind.REPLACE_MODEL
        raise CheckpointError(
            f"the checkpoint {path.name} has SHA-256 {found[:12]}..., expected {expected[:12]}...; it is damaged or "
            "another file",
            Remedy(kind=kind, model=model),
        )
    return path, expected.lower() if expected else None


def _missing(entry: ModelEntry, path: Path) -> CheckpointError:
    if entry.embedded:
        return CheckpointError(
            f"the checkpoint of '{entry.name}' is not installed ({path} is missing)",
            Remedy(kind=RemedyKind.REINSTALL_PROGRAM),
        )
    if entry.replaced_by:
        return CheckpointError(f"the weights of '{entry.name}' are not on this machine. {entry.description}")
    size = f" ({entry.bytes / 1e6:.0f} MB)" if entry.bytes else ""
    return CheckpointError(
        f"the weights of '{entry.name}' are not on this machine{size}",
        Remedy(kind=RemedyKind.DOWNLOAD_MODEL, model=entry.name),
    )
