"""What a model stores that grew out of another one: only the tensors that the other does not have.

SAM 2 around the compact SAM's encoder shares its encoder, and whatever else stayed as it was; so does a model that was
adapted to a structure. A file of it names the other model by hash, and is completed by that model's tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.errors import CheckpointError

if TYPE_CHECKING:
    import torch

# A generator that reads images begins with the trunk of its base, see `image_prompt`.
OWN_TRUNK, TRUNK = "generator.encoder.trunk.", "backbone.sam.image_encoder.trunk."


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """A model that others add to.

    Attributes:
        name: Its name.
        sha256: Hash of its file.
        tensors: Its tensors in single precision, as in its state dict.
    """

    name: str
    sha256: str
    tensors: dict[str, torch.Tensor]

    def get(self, name: str) -> torch.Tensor | None:
        """Return the tensor that stands for one of a model on this one, a SAM or a SAM 2; None if there is none."""
        if name in self.tensors:
            return self.tensors[name]
        if name.startswith(OWN_TRUNK):
            return self.tensors.get(TRUNK + name.removeprefix(OWN_TRUNK))
        if not name.startswith("backbone.sam2."):
            return None
        from ProxyPromptSegmentLib.networks.backbones.sam2_shared import name_in_base

        found = name_in_base(name)
        return None if found is None else self.tensors.get(found)


def taken_from(base: BaseModel, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors of the base, by their names in a model with this state dict.

    Raises:
        CheckpointError: If one of them has another shape, or the base has no image encoder for it.
    """
    found = {name: tensor for name in state if (tensor := base.get(name)) is not None}
    other = sorted(name for name, tensor in found.items() if tensor.shape != state[name].shape)
    encoder = [name for name in state if ".image_encoder." in name]
    missing = [name for name in encoder if name not in found]
    if other or missing or not encoder:
        first = (other + missing or ["its image encoder"])[0]
        raise CheckpointError(
            f"'{base.name}' is not a model that this one can be built on: {len(other)} tensors have another shape and "
            f"{len(missing)} of the image encoder are missing (first {first}); give the compact SAM of the same size"
        )
    return found


def added_to(base: BaseModel, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors of a model that its base does not have, or has with other values."""
    shared = taken_from(base, state)
    return {name: value for name, value in state.items() if name not in shared or not _same(value, shared[name])}


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool((one.detach().cpu() == other.to(one.dtype).cpu()).all())
