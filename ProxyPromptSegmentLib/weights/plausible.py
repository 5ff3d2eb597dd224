"""What a checkpoint says of itself, looked at before a network is built of it: no size that no network has.

A file of a few kilobytes can describe a network of terabytes; every number of a description is therefore compared with
what the networks of this project can be.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ProxyPromptSegmentLib.errors import CheckpointError

LONGEST_NAME = 200
_MOST = {"vim_depth": 256, "ccm_blocks": 32, "ccm_heads": 64, "lora_rank": 1024, "grid": 512, "vim_state": 256}
_MOST_OTHERS = 16_384
_AT_LEAST_ONE = ("image_size", "grid", "channels", "vim_dim", "vim_depth", "vim_state", "bridge_width", "ccm_blocks",
                 "ccm_width", "ccm_heads", "ccm_ffn")  # fmt: skip
_MOST_DEPTH = 12


def check_described(metadata: dict[str, Any], file: str) -> None:
    """Refuse a description whose name is no line of text, or whose numbers no network has.

    Raises:
        CheckpointError: Naming the first that is wrong.
    """
    name = metadata.get("name", "")
    if not isinstance(name, str) or len(name) > LONGEST_NAME or (name and not name.isprintable()):
        raise CheckpointError(
            f"{file} gives a name that is not one line of at most {LONGEST_NAME} printable letters; this program "
            "writes none of the kind"
        )
    for key, value in _numbers(metadata.get("model"), "", 0, file):
        most, least = _MOST.get(key, _MOST_OTHERS), 1 if key in _AT_LEAST_ONE else 0
        whole = isinstance(value, int)
        if (whole and not least <= value <= most) or (not whole and not abs(value) <= most):
            said = str(value) if not whole or abs(value) < 10**12 else "a number of more than 12 digits"
            raise CheckpointError(
                f"{file} describes a network with {key} = {said}; {least} to {most} is possible. It is damaged, or was "
                "not written by this program"
            )
        if key == "temperature" and value <= 0:
            raise CheckpointError(f"{file} describes a network with temperature = {value}; it must be above 0")


def _numbers(value: Any, key: str, depth: int, file: str) -> Iterator[tuple[str, int | float]]:
    """Yield every number of a description with its name."""
    if depth > _MOST_DEPTH:
        raise CheckpointError(f"the description in {file} is nested too deeply; it was not written by this program")
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _numbers(inner, str(name), depth + 1, file)
    elif isinstance(value, list):
        for inner in value:
            yield from _numbers(inner, key, depth + 1, file)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield key, value


def says_no_model(path: Path) -> str:
    """Return why a file cannot be a model of this project, judged by its header; "" if it can."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= 100 << 20:
                return "it is not a safetensors file"
            header = json.loads(file.read(length))
        said = json.loads(header["__metadata__"]["proxyprompt"])
        if not isinstance(said, dict) or not isinstance(said.get("model"), dict):
            return "it describes no model of this program"
        check_described(said, path.name)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "it is not a model of this program"
    except CheckpointError as error:
        return str(error)
    return ""
