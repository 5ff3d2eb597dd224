"""Official weights: foreign files, read as tensors only and compared with the architecture that they are for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.weights.hashing import sha256, weights_sha256
from ProxyPromptSegmentLib.weights.registry import base_file, with_hash
from ProxyPromptSegmentLib.weights.shapes import check_shapes

if TYPE_CHECKING:
    import torch


def read_official(path: Path, expected_sha256: str | None = None) -> dict[str, torch.Tensor]:
    """Read a foreign ``.pth`` or ``.pt`` file as tensors only; no code in it is executed.

    Args:
        path: An official SAM, MedSAM or SAM 2 checkpoint; SAM 2's files hold their tensors under ``model``.
        expected_sha256: Checked before the file is opened.

    Raises:
        CheckpointError: If the file is missing, has another hash or holds anything but named tensors.
    """
    import pickle

    import torch

    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}; give the path of the official .pth file")
    if expected_sha256 is not None and (found := weights_sha256(path)) != expected_sha256.lower():
        raise CheckpointError(f"{path} has SHA-256 {found[:12]}..., expected {expected_sha256[:12]}...; fetch it again")
    damaged = (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (*damaged, TypeError, AssertionError) as error:  # the last one of old pickles with damaged storages
        raise CheckpointError(f"{path} is not a file of tensors and was not executed: {error}") from error
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise CheckpointError(f"{path} holds something else than named tensors; give the official .pth file")
    return content


def check_official(path: Path, backbone: str, expected_sha256: str | None = None) -> None:
    """Reject a file without exactly the tensors of an official architecture, before a network is built.

    Raises:
        CheckpointError: As `read_official`, or if a name, shape or type differs.
    """
    check_shapes(read_official(path, expected_sha256), backbone)


@dataclass(frozen=True, kw_only=True)
class OfficialWeights:
    """The official weights of a backbone.

    Attributes:
        name: Their name in the registry.
        sha256: Hash of their file.
        tensors: As `model.build_model` takes them.
    """

    name: str
    sha256: str
    tensors: dict[str, torch.Tensor]


def load_base(name: str | Path, backbone: str = "") -> OfficialWeights:
    """Load the official weights of a backbone by their registry name, or from a file.

    Args:
        name: Name of an entry, whose file was downloaded or imported, or the path of an official file.
        backbone: The backbone that they must fit; by default that of the entry.

    Raises:
        CheckpointError: If they are unknown, not on this machine, damaged, or not those of their backbone.
    """
    if isinstance(name, Path):
        state = read_official(name)
        check_shapes(state, backbone)
        digest = weights_sha256(name)
        known = with_hash(digest)
        return OfficialWeights(name=known[0].name if known else backbone, sha256=digest, tensors=state)
    entry, path, expected = base_file(name)
    if backbone and entry.fits != backbone:
        raise CheckpointError(f"'{entry.name}' has the weights of {entry.fits}, not of {backbone}; give those.")
    state = read_official(path, expected)
    check_shapes(state, entry.fits)
    return OfficialWeights(name=entry.name, sha256=expected or sha256(path), tensors=state)
