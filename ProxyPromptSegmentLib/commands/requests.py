"""Requests of the commands ``segment`` and ``track``: their options, as dataclasses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.imaging.slice_choice import SliceChoice
from ProxyPromptSegmentLib.reports.settings import named_settings, settings_of_classes
from ProxyPromptSegmentLib.tracking.choices import TrackingMode
from ProxyPromptSegmentLib.weights.registry import DEFAULT_MODEL, DEFAULT_TRACKING_MODEL
from ProxyPromptSegmentLib.worker.settings import ComputeSettings

if TYPE_CHECKING:
    Masks = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Request(ComputeSettings):
    """The options of one segmentation; see ``proxyprompt segment --help``.

    Without supports, ``classes`` names what the model looks for; ``points``, ``boxes`` and ``masks`` correct either, or
    say alone what to segment.
    """

    supports: tuple[tuple[Path, Path], ...]
    target: Path
    output: Path
    objects: tuple[str, ...] = ()
    model: str = DEFAULT_MODEL
    slices: str | None = None
    support_slices: tuple[str, ...] = ()
    axis: str = "auto"
    base: Path | None = None
    truth: Path | None = None
    report: Path | None = None
    preview: Path | None = None
    thumbnail: Path | None = None
    classes: tuple[str, ...] = ()
    any_modality: bool = False
    surrogate: bool = False
    points: tuple[str, ...] = ()
    boxes: tuple[str, ...] = ()
    masks: tuple[Path, ...] = ()
    force: bool = False
    keep_supports: bool = True

    @property
    def inputs(self) -> list[Path]:
        """All files and folders that are read."""
        more = [path for path in (self.truth, self.base, *self.masks) if path]
        return [*(path for pair in self.supports for path in pair), self.target, *more]

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that determine the result together with inputs and model, for the report."""
        named = named_settings(
            objects=self.objects,
            axis=self.axis,
            slices=self.slices,
            support_slices=self.support_slices,
            output=str(self.output),
            **self.computing(),
        )
        classes = {} if self.supports else settings_of_classes(self.classes, self.any_modality, self.surrogate)
        return {**named, **classes, **self._hand_settings}

    @property
    def by_hand(self) -> bool:
        """Whether anything is prompted by hand."""
        return bool(self.points or self.boxes or self.masks)

    @property
    def _hand_settings(self) -> dict[str, Any]:
        """What is prompted by hand, as it was written; empty if nothing is."""
        if not self.by_hand:
            return {}
        said = {"points": list(self.points), "boxes": list(self.boxes), "masks": [str(path) for path in self.masks]}
        return {"by_hand": said}

    def support_choices(self) -> list[SliceChoice | None]:
        """Parse the slice choice of each support.

        Raises:
            UsageError: If their number differs from that of the supports.
        """
        given = self.support_slices
        if given and len(given) != len(self.supports):
            raise UsageError(
                f"--support-slices was given {len(given)} times for {len(self.supports)} supports; give it "
                "once for each --support in the same order ('auto' lets the program choose), or omit it."
            )
        return [SliceChoice.parse(text, "--support-slices") for text in given or ("auto",) * len(self.supports)]


@dataclass(frozen=True)
class TrackRequest(Request):
    """The options of tracking through a target; see ``proxyprompt track --help``. ``slices`` are the frames."""

    model: str = DEFAULT_TRACKING_MODEL
    mode: TrackingMode = TrackingMode.PROXY_AND_BANK
    table: Path | None = None
    overlay: Path | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that determine the result together with inputs and model, for the report."""
        settings = {**super().settings, "frames": self.slices, "mode": self.mode}
        for name in ("slices", "across_slices", "tiles", "position", "register", "closer"):  # of `segment` alone
            del settings[name]
        return settings
