"""Masks of the first targets of a table, kept while rows are measured, and shown side by side in its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.errors import OutputError
from ProxyPromptSegmentLib.evaluation.report.page import Panels
from ProxyPromptSegmentLib.evaluation.report.panels import Panel, slice_with_masks, telling_slice
from ProxyPromptSegmentLib.imaging.intensity import intensity_window

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.data.cases import Case
    from ProxyPromptSegmentLib.evaluation.paper.protocol import Row

MOST_TARGETS = 4  # of each data set whose masks are kept
IMAGE, TRUTH, WINDOW, NAME, ROW = "image", "truth", "window", "name", "row "


@dataclass(frozen=True)
class KeptMasks:
    """The masks of some targets in a folder, a file for each target.

    Attributes:
        folder: The folder; None keeps nothing.
    """

    folder: Path | None

    def keep(self, row: Row, case: Case, number: int, masks: np.ndarray) -> None:
        """Keep a row's masks on the slice of a target that shows most; later targets of a data set are left out.

        Raises:
            OutputError: If they cannot be written.
        """
        if self.folder is None or number >= MOST_TARGETS:
            return
        index = telling_slice(case.masks, case.masks)
        stored = {
            IMAGE: case.images[index],
            TRUTH: case.masks[index],
            WINDOW: np.array(intensity_window(case.images)),
            NAME: np.array(case.name),
            ROW + row.title: np.asarray(masks[index], np.uint8),
        }
        path = self.folder / f"{case.dataset}-{number}.npz"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if path.is_file():
                with np.load(path, allow_pickle=False) as before:
                    # With another number of targets, another one may have had this number.
                    if NAME in before.files and str(before[NAME]) == case.name:
                        stored = {**{key: before[key] for key in before.files}, **stored}
            partial = path.with_suffix(".partial.npz")
            np.savez_compressed(partial, **stored)  # type: ignore[arg-type]
            partial.replace(path)
        except (OSError, ValueError) as error:
            raise OutputError(f"masks cannot be kept in {self.folder}: {error}; choose another folder.") from None

    def forget(self) -> None:
        """Remove the masks of an earlier measurement.

        Raises:
            OutputError: If they cannot be removed.
        """
        try:
            for path in self.folder.glob("*-?.npz") if self.folder is not None else ():
                path.unlink()
        except OSError as error:
            raise OutputError(f"masks cannot be kept in {self.folder}: {error}; choose another folder.") from None

    def shown(self, titles: Sequence[str], most: int) -> list[Panels]:
        """Return the panels of a report: of each target its picture with the truth, then with each row's masks.

        Args:
            titles: Titles of the rows, in their order.
            most: Largest number of targets of each data set.
        """
        found = []
        for path in sorted(self.folder.glob("*-?.npz")) if self.folder is not None else []:
            if int(path.stem.rsplit("-", 1)[1]) >= most:
                continue
            with np.load(path, allow_pickle=False) as stored:
                image, truth = stored[IMAGE], stored[TRUTH]
                window = (float(stored[WINDOW][0]), float(stored[WINDOW][1]))
                nothing = np.zeros_like(truth)
                panels = [Panel(slice_with_masks(image, truth, nothing, window), "the truth, in white in all pictures")]
                panels += [
                    Panel(slice_with_masks(image, truth, stored[ROW + title], window), title)
                    for title in titles
                    if ROW + title in stored.files
                ]
            found.append(Panels(f"{path.stem.rsplit('-', 1)[0]}, target {path.stem.rsplit('-', 1)[1]}", panels))
        return found
