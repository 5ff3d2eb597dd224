"""The task that checks the cases of a lesson before anything is trained; independent of nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import ProxyPromptError
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.mending import mended
from ProxyPromptSegmentLib.imaging.segmentations import Segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume, check_intensities
from ProxyPromptSegmentLib.support.case import SupportCase
from ProxyPromptSegmentLib.support.case_files import Unusable
from ProxyPromptSegmentLib.training.adapting.cases import AnnotatedCase, CheckedCases, check_cases
from ProxyPromptSegmentLib.weights.own import check_free, check_room
from ProxyPromptSegmentModule.remedies import worded

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.library.entry import LibraryEntry
    from ProxyPromptSegmentLib.library.store import SupportLibrary
    from ProxyPromptSegmentLib.worker.context import Context
    from ProxyPromptSegmentLib.worker.engine import Engine


@dataclass(frozen=True, eq=False, kw_only=True)
class ReadCase:
    """A case of the scene, copied.

    Attributes:
        title: Its name for messages.
        voxels: Voxels as stored.
        geometry: Its geometry.
        annotation: The segment, on the image's grid.
        patient: What images of its patient have in common; "" for a patient of its own.
    """

    title: str
    voxels: npt.NDArray[np.number]
    geometry: VolumeGeometry
    annotation: Segmentation
    patient: str


@dataclass(frozen=True, eq=False, kw_only=True)
class CheckLessonTask:
    """The task that checks what a model is to learn from; returns `CheckedCases`, or None if it was cancelled.

    Attributes:
        cases: Cases of the scene.
        entries: Cases of the library, with the names that messages give them.
        library: The library; None if no case is from it.
        structure: Name of the structure.
        unusable: What could not be read from the scene.
        name: Name of the new model; "" if only the cases are checked.
        model: Model to start from.
    """

    cases: Sequence[ReadCase]
    entries: Sequence[tuple[str, LibraryEntry]]
    library: SupportLibrary | None
    structure: str
    unusable: Sequence[Unusable]
    name: str
    model: str

    def __call__(self, engine: Engine, context: Context) -> CheckedCases | None:
        """Do the work on the worker thread.

        Raises:
            ProxyPromptError: If nothing can be learned, the name is taken, the starting model is not usable, or the
                result could not be stored.
        """
        if self.name:
            check_free(self.name)
            check_room()
            from ProxyPromptSegmentLib.training.adapting.beginning import check_start

            check_start(self.model)
        found: list[AnnotatedCase] = []
        unusable = list(self.unusable)
        progress = context.progress
        progress.start(len(self.cases) + len(self.entries), "checking the cases")
        every: list[tuple[str, ReadCase | LibraryEntry]] = [(one.title, one) for one in self.cases]
        for title, read in [*every, *self.entries]:
            if context.cancel.cancelled:
                return None
            try:
                found.append(self._read(title, read, context))
            except ProxyPromptError as error:
                unusable.append(Unusable(title, worded(error)))
            progress.step()
        # With a single patient nothing can be tested: the lesson says so, and asks before it trains.
        return check_cases(found, [learned_name(self.structure)], unusable, allow_single=True)

    def _read(self, title: str, read: ReadCase | LibraryEntry, context: Context) -> AnnotatedCase:
        """Return one case; what was replaced in its image is said.

        Raises:
            ProxyPromptError: If it is not usable.
        """
        if not isinstance(read, ReadCase):
            assert self.library is not None  # it has the entries
            case = self.library.load(read)
            return AnnotatedCase(title, replace(case, segmentation=_renamed(case.segmentation)), read.patient)
        array, mending = mended(read.voxels.astype(np.float32), f"'{title}'")
        if mending:
            context.say(mending)
        check_intensities(array, f"'{title}'")
        volume = Volume(array, read.geometry, title)
        return AnnotatedCase(title, SupportCase(volume, _renamed(read.annotation)), read.patient)


def learned_name(structure: str) -> str:
    """Return the name under which a structure is learned; the library reads an equals sign as a union."""
    return structure.replace("=", " ")


def _renamed(segmentation: Segmentation) -> Segmentation:
    segments = [replace(one, name=learned_name(one.name)) for one in segmentation.segments]
    return replace(segmentation, segments=segments)
