"""The prompt generators that a checkpoint can name: one line for each kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.networks.class_prompt.config import ClassPromptConfig
from ProxyPromptSegmentLib.networks.class_prompt.generator import ClassPromptGenerator
from ProxyPromptSegmentLib.networks.image_prompt.config import ImagePromptConfig
from ProxyPromptSegmentLib.networks.image_prompt.generator import ImagePromptGenerator
from ProxyPromptSegmentLib.networks.proxy_prompt.config import ProxyPromptConfig
from ProxyPromptSegmentLib.networks.proxy_prompt.generator import ProxyPromptGenerator
from ProxyPromptSegmentLib.typed_json import read_object
from ProxyPromptSegmentLib.weights.vocabulary import IMAGE, PROXY

__all__ = ["KINDS", "GeneratorKind", "kind_of_config", "read_config"]


@dataclass(frozen=True)
class GeneratorKind:
    """A kind of prompt generator.

    Attributes:
        config: Its data class of sizes and choices; JSON values in, see `read_config`, and `to_dict` out.
        generator: Makes it, with random weights, from its configuration.
    """

    config: type[Any]
    generator: Callable[[Any], Any]


KINDS: dict[str, GeneratorKind] = {
    PROXY: GeneratorKind(ProxyPromptConfig, ProxyPromptGenerator),
    "class": GeneratorKind(ClassPromptConfig, ClassPromptGenerator),
    IMAGE: GeneratorKind(ImagePromptConfig, ImagePromptGenerator),
}


def read_config(kind: str, values: dict[str, Any]) -> Any:
    """Read the configuration of a generator from a checkpoint's metadata.

    Raises:
        CheckpointError: If the kind or a key is unknown: the checkpoint is from another version.
        JsonError: If a value has another type.
    """
    if kind not in KINDS:
        raise CheckpointError(
            f"the checkpoint has a prompt generator of the kind '{kind}', which this version does not know; it knows "
            f"{', '.join(KINDS)}. Update ProxyPromptSegment."
        )
    made = KINDS[kind].config
    return made.from_dict(values) if hasattr(made, "from_dict") else read_object(made, values)


def kind_of_config(config: object) -> str:
    """Return the name of the kind that a configuration belongs to.

    Raises:
        KeyError: If there is none.
    """
    return next(name for name, kind in KINDS.items() if type(config) is kind.config)
