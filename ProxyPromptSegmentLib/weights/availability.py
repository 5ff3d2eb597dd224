"""Whether this Python has what a model's networks need; nothing large is imported to find out."""

from __future__ import annotations

import re
from importlib import metadata

# The oldest PyTorch that a package of networks works with, where that is newer than the program's own oldest one.
OLDEST_TORCH = {"sam2": "2.5.1"}


def torch_version() -> str:
    """Return the version of the installed PyTorch, such as ``2.13.0+cpu``; "" where there is none."""
    try:
        found = metadata.distribution("torch")
    except metadata.PackageNotFoundError:
        return ""
    # `found.version` parses the whole description for it, which takes milliseconds, and a list of models asks often.
    line = re.search(r"^Version: *(\S+)", found.read_text("METADATA") or "", re.MULTILINE)
    return line[1] if line else found.version


def newer_torch_for(package: str) -> str:
    """Return the oldest PyTorch that a package works with, if the installed one is older; "" otherwise.

    Args:
        package: Its name, such as ``sam2``; "" for a model that needs none.
    """
    oldest = OLDEST_TORCH.get(package, "")
    installed = torch_version() if oldest else ""
    return oldest if installed and _numbers(installed) < _numbers(oldest) else ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])
