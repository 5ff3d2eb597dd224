"""Models of the user's own: one file each, with card and calibration inside, registered under a name."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ProxyPromptSegmentLib.errors import CheckpointError, OutputError
from ProxyPromptSegmentLib.imaging.output_files import safe_output
from ProxyPromptSegmentLib.imaging.paths import same_place
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind
from ProxyPromptSegmentLib.user_folders import user_registry
from ProxyPromptSegmentLib.weights.cache import ModelCache
from ProxyPromptSegmentLib.weights.catalogue import FORMAT, read_entries
from ProxyPromptSegmentLib.weights.describing import TENSORS_OF, revised, with_metadata, words_in
from ProxyPromptSegmentLib.weights.entry import OWN_SUFFIX, SUFFIXES, ModelEntry, ModelKind, check_name
from ProxyPromptSegmentLib.weights.hashing import sha256
from ProxyPromptSegmentLib.weights.publish import read_metadata
from ProxyPromptSegmentLib.weights.registry import all_entries, find, location, with_hash

_OWN_HASH = "this machine, which made or imported the file"
_LOCK_SECONDS = 30.0
_ROOM_BYTES = 100_000_000
"""Free bytes from which an adaptation is begun: the state of a training, and the file of the model."""


def check_free(name: str) -> None:
    """Reject a name under which a model is on this machine, that belongs to the program, or that is that of a file.

    Raises:
        CheckpointError: If it is taken or not allowed.
    """
    check_name(name)
    if name.endswith(SUFFIXES):
        suffix = next(one for one in SUFFIXES if name.endswith(one))
        raise CheckpointError(
            f"'{name}' would be read as the name of a file, not of a model; give a name without {suffix}."
        )
    entry = next((one for one in all_entries() if one.name == name), None)
    if entry is None:
        return
    elsewhere = bool(entry.urls) or entry.hash_source != _OWN_HASH  # it can still be downloaded or imported
    if entry.origin == "shipped" or elsewhere or location(entry).is_file():
        whose = "of the program" if entry.origin == "shipped" else "of your own"
        raise CheckpointError(
            f"'{name}' is the name of a model {whose}, which is never replaced",
            Remedy(kind=RemedyKind.CHOOSE_FREE_NAME),
        )


def entry_in(checkpoint: Path, name: str = "") -> ModelEntry:
    """Build the registry entry of a file from what it says of itself.

    Args:
        checkpoint: A file that an adaptation wrote.
        name: Its new name; by default the one in the file.

    Raises:
        CheckpointError: If the file is none or says something invalid, or the model that completes it is not
            registered.
    """
    said = read_metadata(checkpoint)
    words = said.get("entry")
    if not isinstance(words, dict) or not isinstance(said.get("model"), dict):
        raise CheckpointError(
            f"{checkpoint.name} does not say what it is; only files of adapted models can be imported under a name."
        )
    base, kind = "", str(said.get("kind", ModelKind.MODEL.value))
    if isinstance(said.get("base"), dict):
        digest = str(said["base"].get("sha256", "")).lower()
        known = next(iter(with_hash(digest)), None)
        if known is None:
            raise CheckpointError(
                f"{checkpoint.name} is completed by '{said['base'].get('name')}' (SHA-256 {digest[:12]}...), which is "
                "not known here; import that first, or update ProxyPromptSegment."
            )
        base = known.name
    own = name or str(said.get("name", checkpoint.stem))
    backbone = str(said["model"].get("backbone", ""))
    made = ModelEntry(
        name=own,
        file=f"{own}{OWN_SUFFIX}",
        sha256=sha256(checkpoint),
        bytes=checkpoint.stat().st_size,
        kind=kind,
        fits=backbone,
        package="sam2" if backbone.startswith("sam2") else "segment-anything",
        base=base,
        hash_source=_OWN_HASH,
        calibration=words.get("calibration") or {},
        licence=str(words.get("licence", "")),
        description=str(words.get("description", "")),
        citation=str(words.get("citation", "")),
        trained_on=str(words.get("trained_on", "")),
    )
    return ModelEntry.from_dict(made.to_dict(), str(user_registry()))  # as the list is read: nothing in it may be wrong


def says_what_it_is(path: Path) -> bool:
    """Return whether a file is that of an adapted model, which can be imported without a known hash."""
    try:
        return path.is_file() and isinstance(read_metadata(path).get("entry"), dict)
    except CheckpointError:
        return False


def register(checkpoint: Path, name: str = "") -> ModelEntry:
    """Add a model to the user's registry: its file and its card to the cache, its entry to the list.

    Args:
        checkpoint: A file that an adaptation wrote.
        name: Its new name; by default the one in the file.

    Raises:
        CheckpointError: If the name is taken, or the file is unusable; see `entry_in`.
        OutputError: If something cannot be written.
    """
    return put_in(entry_in(checkpoint, name), checkpoint)


def put_in(entry: ModelEntry, checkpoint: Path, replaced: ModelEntry | None = None) -> ModelEntry:
    """Add a model with its entry; the entry is added last, so that no entry lacks its file.

    Args:
        entry: Its entry.
        checkpoint: Its file.
        replaced: The user's model whose place it takes, under the same name or another; its files are removed last.

    Raises:
        CheckpointError: If the name is taken.
        OutputError: If something cannot be written; what was there is as it was.
    """
    cache = ModelCache()
    with _locked(cache):
        same_name = replaced is not None and replaced.name == entry.name
        if not same_name:
            check_free(entry.name)
        try:
            cache.take(entry, checkpoint)
            write_card(entry, checkpoint)
            _write_without(replaced.name if replaced else entry.name, entry)
        except BaseException:
            with suppress(OutputError):  # nothing that no list names stays
                if same_name and replaced is not None:
                    write_card(replaced, checkpoint)
                else:
                    cache.remove(entry)
                    _remove_card(entry, cache)
            raise
        if replaced is not None and not same_name:
            with suppress(OutputError, OSError):  # the list names the new one; a file that is open elsewhere may stay
                cache.remove(replaced)
                _remove_card(replaced, cache)
    return find(entry.name)


def write_card(entry: ModelEntry, checkpoint: Path) -> None:
    """Write the card that a file brings along beside the registered model, with its name and words.

    Raises:
        OutputError: If it cannot be written.
    """
    with safe_output(card_of(entry)) as partial:
        partial.write_text(str(_said_of(entry, checkpoint).get("card", "")), encoding="utf-8")


def _said_of(entry: ModelEntry, checkpoint: Path) -> dict[str, Any]:
    """Return the metadata of a model's file with the name and the words that the list of models has."""
    said = read_metadata(checkpoint)
    if said.get("name") == entry.name and (said.get("entry") or {}).get("description", "") == entry.description:
        return said
    return revised(said, entry.name, words_in(said, entry.description))


def card_of(entry: ModelEntry, cache: ModelCache | None = None) -> Path:
    """Return the path of a registered model's card."""
    return (cache or ModelCache()).path_of(entry).with_suffix(".md")


def export(entry: ModelEntry, path: Path, *, replace: bool = True) -> None:
    """Copy a model's file, which says everything of itself, with the name and the words that it has here.

    Args:
        entry: The model.
        path: The new file.
        replace: Whether a file of this name may be replaced.

    Raises:
        CheckpointError: If it is not on this machine.
        OutputError: If the copy cannot be written, or would replace a model of this machine.
    """
    source = location(entry)
    if not source.is_file():
        raise CheckpointError(
            f"the weights of '{entry.name}' are not on this machine",
            Remedy(kind=RemedyKind.DOWNLOAD_MODEL, model=entry.name),
        )
    held = next((one.name for one in all_entries() if same_place(location(one)) == same_place(path)), "")
    if held:
        raise OutputError(f"{path} is the file of the model '{held}' itself and is not replaced; choose another name.")
    said = _said_of(entry, source) if is_own(entry) else None
    if said is not None and said != read_metadata(source):
        with_metadata(source, path, {**said, TENSORS_OF: said.get(TENSORS_OF) or entry.sha256}, replace=replace)
        return
    with safe_output(path, replace) as partial:
        shutil.copyfile(source, partial)


def _write_without(name: str, *more: ModelEntry) -> None:
    """Write the user's registry file without the entry of a name, and with others behind the rest.

    Raises:
        CheckpointError: If the file that is there is damaged: it is not replaced.
        OutputError: If it cannot be written.
    """
    path = user_registry()
    kept = [one for one in read_entries(path, str(path)) if one.name != name] if path.is_file() else []
    listed: dict[str, Any] = {"format": FORMAT, "models": [one.to_dict() for one in (*kept, *more)]}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder of {path} cannot be created: {error}; change its permissions.") from None
    with safe_output(path) as partial:
        partial.write_text(json.dumps(listed, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def is_own(entry: ModelEntry) -> bool:
    """Return whether a model was made, or imported under a name, on this machine."""
    return entry.origin != "shipped" and not entry.urls and entry.hash_source == _OWN_HASH


def check_room() -> None:
    """Reject a list of models that cannot be added to, before there is something to add.

    Raises:
        CheckpointError: If the user's list is damaged.
        OutputError: If it, or the folder of the models, cannot be written, or the disk is full.
    """
    path, folder = user_registry(), ModelCache().folder
    if path.is_file():
        read_entries(path, str(path))
    for place in (path.parent, folder):
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"the folder {place} cannot be created: {error}; change its permissions.") from None
        if not os.access(place, os.W_OK | os.X_OK):
            raise OutputError(f"the folder {place} may not be written by this user; change its permissions.")
    free = shutil.disk_usage(folder).free
    if free < _ROOM_BYTES:
        raise OutputError(
            f"{free / 1e6:.0f} MB are free in {folder}, {_ROOM_BYTES / 1e6:.0f} MB are needed; free some space, or set "
            "PROXYPROMPT_CACHE to a folder on another disk."
        )


def forget(entry: ModelEntry) -> bool:
    """Remove entry and card of a model that was registered here; return whether it was one.

    Entries that could be downloaded or imported again stay.
    """
    if not is_own(entry):
        return False
    cache = ModelCache()
    with _locked(cache):
        _write_without(entry.name)
    _remove_card(entry, cache)
    return True


def _remove_card(entry: ModelEntry, cache: ModelCache) -> None:
    """Remove a model's card, and its folder if nothing is left in it."""
    card_of(entry, cache).unlink(missing_ok=True)
    with suppress(OSError):
        cache.path_of(entry).parent.rmdir()


@contextmanager
def _locked(cache: ModelCache) -> Iterator[None]:
    """Hold the user's registry.

    Raises:
        OutputError: If it cannot be held.
    """
    from filelock import FileLock, Timeout

    try:
        (cache.folder / "locks").mkdir(parents=True, exist_ok=True)
        with FileLock(cache.folder / "locks" / "registry.lock", timeout=_LOCK_SECONDS):
            yield
    except Timeout:
        raise OutputError("another program is changing the list of models; try again when it has finished.") from None
