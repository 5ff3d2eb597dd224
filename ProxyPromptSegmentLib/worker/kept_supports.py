"""Prepared supports on disk, so that a prompt is ready before the next patient comes.

A file holds what one annotated slice contributes to a prompt: numbers that networks computed, in safetensors, under a
name that is a hash of everything that they depend on. It holds no name of a patient, file or object. Files are a cache:
one that is damaged or foreign is ignored and written again, those used least recently are removed beyond a limit, and
nothing is reported where the folder cannot be written.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import torch

from ProxyPromptSegmentLib import __version__
from ProxyPromptSegmentLib.networks.tensor_hash import tensors_sha256
from ProxyPromptSegmentLib.networks.values import PreparedSupport
from ProxyPromptSegmentLib.user_folders import supports_folder

logger = logging.getLogger(__name__)

FORMAT = 1
"""Part of each key: raise it when the same support would be prepared otherwise by the same version of the program."""
LIMIT = 1 << 30  # bytes of all files
_SUFFIX, _UNFINISHED = ".safetensors", ".part"
_BEGUN = "support-"  # of the names of unfinished files: in a folder of the user's, a browser may have its own
_BEGUN_BEFORE = re.compile(r"tmp[a-z0-9_]{8}\.part")  # as the first versions called them, and other programs may
_STALE_SECONDS = 24 * 3600.0
_FIELDS = ("features", "aggregated", "occupancy", "valid")
_TYPES = (torch.float32, torch.float16, torch.bfloat16)


class KeptSupports:
    """The prepared supports of a folder."""

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        """Use a folder, which is created with the first file.

        Args:
            folder: The folder.
            limit: Bytes that its files may take.
        """
        self._folder, self._limit = folder, limit
        self._written = False

    @classmethod
    def of_user(cls) -> KeptSupports | None:
        """Return those of the user; None where they are switched off."""
        folder = supports_folder()
        return None if folder is None else cls(folder)

    def get(self, parts: tuple[object, ...], names: tuple[str, ...], device: torch.device) -> PreparedSupport | None:
        """Return a prepared support; None if there is none, or its file is damaged or of something else.

        Args:
            parts: What it depends on, as for `put`.
            names: The ``N`` objects, which are not in the file.
            device: Where it is wanted.
        """
        key = _key(parts)
        path = self._path(key)
        try:
            tensors = _read(path, key, len(names))
        except FileNotFoundError:
            return None
        except Exception as error:  # noqa: BLE001  # whatever is wrong with a file of a cache, it is computed again
            logger.info("the prepared support %s is ignored: %s", path.name, error)
            return None
        with suppress(OSError):
            os.utime(path)  # used now
        depth = tensors.pop("depth", None)
        there = {name: tensor.to(device) for name, tensor in tensors.items()}
        return PreparedSupport(**there, depth=None if depth is None else depth.to(device), names=names)

    def put(self, parts: tuple[object, ...], prepared: PreparedSupport) -> None:
        """Store one prepared support, ``K`` = 1.

        Args:
            parts: What it depends on: hashes of image, masks and weights, and how the image was brought to the network.
            prepared: The support.
        """
        from safetensors.torch import save

        key = _key(parts)
        tensors = {name: getattr(prepared, name).detach().cpu().contiguous() for name in _FIELDS}
        if prepared.depth is not None:
            tensors["depth"] = prepared.depth.detach().cpu().contiguous()
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(
                dir=self._folder, prefix=_BEGUN, suffix=_UNFINISHED
            )  # nobody else may read it
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(save(tensors, {"key": key, "sha256": tensors_sha256(tensors)}))
                os.replace(name, self._path(key))
            except BaseException:
                with suppress(OSError):
                    os.unlink(name)
                raise
        except OSError as error:
            logger.info("prepared supports are not kept in %s: %s", self._folder, error)
            return
        self._written = True

    def tidy(self) -> None:
        """Remove the files used least recently beyond the limit, if any was written since the last time.

        What a killed process left unfinished is removed after a day.
        """
        if not self._written:
            return
        self._written = False
        with suppress(OSError), os.scandir(self._folder) as entries:
            ours = [one for one in entries if _ours(Path(one.path))]
            found = [(one.stat().st_mtime, one.stat().st_size, Path(one.path)) for one in ours]
            held, oldest = sum(size for _, size, _ in found), time.time() - _STALE_SECONDS
            for used, size, path in sorted(found):
                if held > self._limit or (used < oldest and path.suffix == _UNFINISHED):
                    with suppress(OSError):  # another process was faster
                        path.unlink()
                    held -= size

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}{_SUFFIX}"


def _ours(path: Path) -> bool:
    """Return whether a file is one of this cache, finished or left by a killed process."""
    if _BEGUN_BEFORE.fullmatch(path.name):
        try:
            with path.open("rb") as file:
                start = file.read(9)
        except OSError:
            return False
        return not start or start[8:] == b"{"  # nothing yet, or as safetensors begin
    unfinished = path.name.startswith(_BEGUN) and path.name.endswith(_UNFINISHED)
    return unfinished or (path.name.endswith(_SUFFIX) and len(path.name) == 64 + len(_SUFFIX))


def _key(parts: tuple[object, ...]) -> str:
    return hashlib.sha256(repr((FORMAT, __version__, *parts)).encode()).hexdigest()


def _read(path: Path, key: str, objects: int) -> dict[str, torch.Tensor]:
    """Read a file.

    Raises:
        ValueError: If it is not what was stored under this key.
    """
    from safetensors import safe_open

    if not path.is_file():
        raise FileNotFoundError(path)
    with safe_open(str(path), framework="pt") as file:
        said = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    if said.get("key") != key or not set(_FIELDS) <= tensors.keys() <= {*_FIELDS, "depth"}:
        raise ValueError("it is of something else")
    if said.get("sha256") != tensors_sha256(tensors):
        raise ValueError("it is damaged")
    features, aggregated, occupancy, valid = (tensors[name] for name in _FIELDS)
    channels, positions = features.shape[1:]
    shapes = ((1, channels, positions), (1, objects, channels, positions), (1, objects, positions), (1, positions))
    if tuple(tuple(tensors[name].shape) for name in _FIELDS) != shapes:
        raise ValueError("its shapes do not fit each other")
    if valid.dtype != torch.bool or any(one.dtype not in _TYPES for one in (features, aggregated, occupancy)):
        raise ValueError("its types are others")
    return tensors
