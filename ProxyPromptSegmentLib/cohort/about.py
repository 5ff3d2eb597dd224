"""What makes a cohort: supports, model and settings with their hashes, from whichever face they come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ProxyPromptSegmentLib.cohort.contents import content_sha256
from ProxyPromptSegmentLib.errors import ProxyPromptError, SupportError

_NOT_COUNTED = ("device", "precision", "output")
"""Settings that do not make another cohort: where and in which precision it is computed, and where it is written."""


def about_of(
    supports: Sequence[Mapping[str, Any]],
    model: str,
    weights: str,
    base: str | None,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what makes a cohort, see `CohortFolder.begin`.

    Args:
        supports: The supports, see `describe_files`.
        model: Name of the model.
        weights: Hash of its weights.
        base: Hash of the weights that it was trained on, if it does not hold them.
        settings: The settings of the report.
    """
    return {
        "supports": list(supports),
        "model": {"name": model, "sha256": weights, "base_sha256": base},
        "settings": {key: value for key, value in settings.items() if key not in _NOT_COUNTED},
    }


def describe_files(pairs: Iterable[tuple[Path, Path]]) -> list[dict[str, Any]]:
    """Describe supports of files: images and their annotations.

    Raises:
        SupportError: If one cannot be read.
    """
    try:
        return [
            {
                "image": str(image),
                "segmentation": str(mask),
                "image_sha256": content_sha256(image),
                "segmentation_sha256": content_sha256(mask),
            }
            for image, mask in pairs
        ]
    except ProxyPromptError as error:
        raise SupportError(str(error)) from None
