"""What is to be done with a folder of studies, and what became of each; independent of nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.reports.settings import named_settings, settings_of_classes
from ProxyPromptSegmentModule.runs.request import Settings

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.cohort.rows import Row
    from ProxyPromptSegmentLib.cohort.studies import Study
    from ProxyPromptSegmentLib.support.case import SupportCase
    from ProxyPromptSegmentLib.weights.vocabulary import PromptClass


@dataclass(frozen=True, kw_only=True)
class StudyFolder:
    """A folder of studies and that of their results.

    Attributes:
        place: The folder of the studies, or a table of them.
        output: The folder of the results.
    """

    place: Path
    output: Path


@dataclass(frozen=True, eq=False, kw_only=True)
class SupportFiles:
    """A support of a folder of studies.

    Attributes:
        title: Its name, for the names of files.
        case: The support.
        files: The files of image and annotation that the scene has as they are; None if they have to be written.
        slices: The chosen slices, as the options of reports name them; ``auto`` if the program chooses.
    """

    title: str
    case: SupportCase
    files: tuple[Path, Path] | None = None
    slices: str = "auto"


@dataclass(frozen=True, eq=False, kw_only=True)
class FolderRequest:
    """What the studies of a folder are segmented with.

    Attributes:
        folder: The folders.
        supports: The supports; none if the model is asked for classes.
        objects: Objects of the supports; none means all that every support has.
        classes: The classes that the model is asked for.
        settings: The settings; memory from slice to slice is not used.
        left_out: Paths of studies that are not segmented now, because the user has not ticked them.
    """

    folder: StudyFolder
    supports: tuple[SupportFiles, ...] = ()
    objects: tuple[str, ...] = ()
    classes: tuple[PromptClass, ...] = ()
    settings: Settings = Settings()
    left_out: frozenset[Path] = frozenset()

    def named(self, output: Path | None = None) -> dict[str, object]:
        """Return the settings as reports and the command line name them, so that either continues what the other began.

        Args:
            output: The file of a result.
        """
        settings = self.settings
        choices = [one.slices for one in self.supports]
        found = named_settings(
            objects=self.objects,
            axis=settings.axis,
            slices=None,
            support_slices=choices if any(one != "auto" for one in choices) else (),
            output=str(output or ""),
            **settings.computing(),
        )
        classes = [one.name for one in self.classes]
        return found if self.supports else {**found, **settings_of_classes(classes, any_modality=False)}


@dataclass(frozen=True, eq=False, kw_only=True)
class Listing:
    """The studies of a folder, and what became of each as far as that is known.

    Attributes:
        rows: The studies, in the order of their paths.
        about: What made the results; empty if there are none.
        annotations: Number of files that look like annotations of images, which are not studies.
    """

    rows: tuple[Row, ...]
    about: Mapping[str, object]
    annotations: int = 0


@dataclass(frozen=True, eq=False, kw_only=True)
class FolderProgress:
    """How far the studies of a folder are, sent while they are segmented.

    Attributes:
        rows: All studies, at the beginning; None later.
        begins: The study that is being looked at now.
        row: A study that has ended.
        reason: Why it is not segmented now, such as that its files were changed meanwhile; "" if it is.
    """

    rows: tuple[Row, ...] | None = None
    begins: Study | None = None
    row: Row | None = None
    reason: str = ""
