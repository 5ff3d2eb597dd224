"""What is to be learned, and from what: the cases of the scene and of the library, and the choices of the panel."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import slicer

from ProxyPromptSegmentLib.errors import ProxyPromptError
from ProxyPromptSegmentLib.training.adapting.places import is_begun
from ProxyPromptSegmentLib.training.adapting.settings import AdaptSettings
from ProxyPromptSegmentLib.user_folders import user_registry
from ProxyPromptSegmentLib.weights.entry import ModelKind
from ProxyPromptSegmentLib.weights.own import check_free
from ProxyPromptSegmentLib.weights.registry import DEFAULT_MODEL
from ProxyPromptSegmentLib.weights.revising import free_name, plain_name
from ProxyPromptSegmentModule.panel.chosen_model import ChosenModel
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.runs.lesson import LessonCase, LessonRequest
from ProxyPromptSegmentModule.runs.lesson_tasks import learned_name
from ProxyPromptSegmentModule.scene.annotated import AnnotatedSegment, annotated_segments, identity_of, patient_of
from ProxyPromptSegmentModule.supports.saved import same_name
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import explained

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.library.entry import LibraryEntry
    from ProxyPromptSegmentModule.models.rows import ModelRow
    from ProxyPromptSegmentModule.runs.lesson import Lesson, Said
    from ProxyPromptSegmentModule.runs.pump import Pump

_GREY = (0.6, 0.6, 0.6)
_WORD = re.compile(r"[^\W\d_]{3,}|\d{4,}")
"""Words that may be a patient's name or number."""


class Teaches(Protocol):
    """The part of `SegmentationLogic` that begins lessons."""

    pump: Pump

    def teach(self, request: LessonRequest) -> Lesson:
        """Begin a lesson."""


@dataclass(frozen=True, kw_only=True)
class CaseRow:
    """An annotated case, as the list shows it.

    Attributes:
        key: Identifier of the case while the scene is open.
        title: Name that tells it from the others.
        case: The case; None if it cannot be used.
        ticked: Whether it is learned from.
        remark: What to know about it, or why it cannot be used; "" for nothing.
        color_rgb: Red, green, blue in 0..1 of the structure.
    """

    key: str
    title: str
    case: LessonCase | None
    ticked: bool
    remark: str = ""
    color_rgb: tuple[float, float, float] = _GREY


@dataclass(kw_only=True)
class _Library:
    """The cases of the library, read again only after a change of its folder."""

    stamp: object = None
    entries: list[LibraryEntry] = field(default_factory=list)


class ChosenLesson:
    """The choices of a lesson, derived from the state.

    Attributes:
        more: Settings of the adaptation beyond those of the panel, for scripts.
        agreed: What was said about the cases before the user pressed the button again.
    """

    def __init__(self, state: PanelState, model: ChosenModel) -> None:
        """Derive everything from the panel's state."""
        self._state, self._model = state, model
        self._ticks: dict[str, bool] = {}
        self._known = _Library()
        self._found: list[AnnotatedSegment] | None = None
        self._names: tuple[object, dict[tuple[str, Callable[[str], str]], str]] = (None, {})
        self.more: dict[str, object] = {}
        self.agreed: frozenset[Said] = frozenset()

    def look_again(self) -> None:
        """Forget what was read of the scene, because it may have changed."""
        self._found = None

    def forget(self) -> None:
        """Forget what belongs to a scene."""
        self._ticks, self.agreed, self._found = {}, frozenset(), None

    def follow(self, lesson: Lesson) -> None:
        """Make a lesson the one that the panel shows."""
        self._state.lesson = lesson
        lesson.observe(self._on_lesson)

    def _on_lesson(self, lesson: Lesson) -> None:
        if lesson is not self._state.lesson:
            return
        if lesson.ended and lesson.said:  # pressing the button again means that the user agrees
            self.agreed = frozenset(lesson.said)
        self._state.lesson_changed.emit()
        if lesson.ended and lesson.result is not None and lesson.result.kept:
            self._state.models_changed.emit()
        if lesson.ended:
            self._state.changed.emit()

    # --- structures and cases -----------------------------------------------------------------------------------

    def structures(self) -> list[tuple[str, int]]:
        """Return the names of all annotated structures and in how many cases each is, the most frequent first."""
        names = [one.name for one in self._segments() if one.volume is not None]
        names += [one.name for entry in self._entries() for one in entry.objects]
        spelled: dict[str, str] = {}
        for name in names:
            spelled.setdefault(name.strip().casefold(), name.strip())
        counts = Counter(name.strip().casefold() for name in names)
        return [(spelled[key], count) for key, count in counts.most_common() if key]

    def structure(self) -> str:
        """Return the chosen structure, or the most frequent one; "" if nothing is annotated."""
        names = [name for name, _count in self.structures()]
        wanted = self._state.parameters.teachStructure
        return next((name for name in names if same_name(name, wanted)), names[0] if names else "")

    def rows(self) -> list[CaseRow]:
        """Return all annotated cases; those that cannot be used say why."""
        structure = self.structure()
        found = [self._scene_row(group, structure) for group in self._by_segmentation()]
        rows = [row for row in found if row is not None]
        rows += [self._library_row(entry, structure) for entry in self._entries()]
        return _numbered(rows)

    def tick(self, keys: Sequence[str]) -> None:
        """Store which cases are ticked."""
        self._ticks = {row.key: row.key in keys for row in self.rows()}

    def cases(self) -> list[LessonCase]:
        """Return the ticked cases."""
        return [row.case for row in self.rows() if row.ticked and row.case is not None]

    def _segments(self) -> list[AnnotatedSegment]:
        if self._found is None:
            self._found = annotated_segments(slicer.mrmlScene)
        return self._found

    def _by_segmentation(self) -> list[list[AnnotatedSegment]]:
        """Return the segments of each segmentation and image."""
        groups: dict[tuple[str, str], list[AnnotatedSegment]] = {}
        for one in self._segments():
            image = one.volume.GetID() if one.volume is not None else ""
            groups.setdefault((one.segmentation.GetID(), image), []).append(one)
        return list(groups.values())

    def _scene_row(self, group: list[AnnotatedSegment], structure: str) -> CaseRow | None:
        """Return the row of one image with one annotation; None for a result without the structure."""
        named = [one for one in group if same_name(one.name, structure)]
        first = named[0] if named else group[0]
        volume, node = first.volume, first.segmentation
        key = f"{node.GetID()} {first.segment_id}"
        if volume is None:
            told = _("it is not clear on which image it was drawn; set the source geometry in the Segment Editor")
            return CaseRow(key=key, title=node.GetName(), case=None, ticked=False, remark=told)
        title = volume.GetName() or volume.GetID()
        if not named:
            if first.made:
                return None
            told = _("has no “{name}”").format(name=structure)
            return CaseRow(key=key, title=title, case=None, ticked=False, remark=told)
        if len(named) > 1:
            told = _("has {count} segments named “{name}”; rename them").format(count=len(named), name=structure)
            return CaseRow(key=key, title=title, case=None, ticked=False, remark=told)
        remark = _("result of a model; tick it if you have corrected it") if first.made else ""
        if volume is self._state.parameters.targetVolume and not first.made:
            remark = _("also the target")
        red, green, blue = node.GetSegmentation().GetSegment(first.segment_id).GetColor()
        return CaseRow(
            key=key,
            title=title,
            case=LessonCase(
                title=title,
                volume=volume,
                segmentation=node,
                segment_id=first.segment_id,
                patient=self._patient_of(volume),
            ),
            ticked=self._ticks.get(key, not first.made),
            remark=remark,
            color_rgb=(red, green, blue),
        )

    def _patient_of(self, volume: slicer.vtkMRMLVolumeNode) -> str:
        """Return the token by which the library knows the patient of an image, or what the scene alone tells."""
        library = self._state.library
        return (library.token_of(identity_of(volume)) if library is not None else "") or patient_of(volume)

    def _library_row(self, entry: LibraryEntry, structure: str) -> CaseRow:
        key, title = f"library {entry.id}", entry.title or entry.id
        own = next((one for one in entry.objects if same_name(one.name, structure)), None)
        if entry.problem or own is None:
            told = entry.problem or _("has no “{name}”").format(name=structure)
            return CaseRow(
                key=key, title=title, case=None, ticked=False, remark=_("library; {reason}").format(reason=told)
            )
        case = LessonCase(title=title, entry=entry, patient=entry.patient)
        ticked = self._ticks.get(key, False)
        return CaseRow(key=key, title=title, case=case, ticked=ticked, remark=_("library"), color_rgb=own.color)

    def _entries(self) -> list[LibraryEntry]:
        library = self._state.library
        if library is None:
            return []
        try:
            stamp: object = os.stat(library.folder).st_mtime_ns
        except OSError:
            return []
        if stamp != self._known.stamp:
            try:
                self._known = _Library(stamp=stamp, entries=library.entries())
            except ProxyPromptError as error:  # the section of the library shows it
                explained(error)
                self._known = _Library(stamp=stamp)
        return self._known.entries

    # --- model and name -----------------------------------------------------------------------------------------

    def starts(self) -> list[ModelRow]:
        """Return the models that can be started from: also official weights, which get a new prompt generator."""
        return [
            row
            for row in self._model.rows
            if not row.follows and (row.usable or (row.kind == ModelKind.BACKBONE and row.here))
        ]

    def knows(self, name: str) -> bool:
        """Return whether there is a model of this name."""
        return any(row.name == name for row in self._model.rows)

    def start(self) -> str:
        """Return the name of the model to start from."""
        return self._state.parameters.teachModel or DEFAULT_MODEL

    def name(self) -> str:
        """Return the name of the new model: the chosen one, or a free one after the structure."""
        return self._state.parameters.teachName.strip() or self.usual_name()

    def usual_name(self) -> str:
        """Return a free name after the structure."""
        structure = plain_name(self.structure())
        return self._remembered(f"my-{structure}" if structure else "my-model", free_name)

    def name_reason(self) -> str:
        """Return why the name cannot be that of the new model; "" if it can."""
        return self._remembered(self.name(), _why_not)

    def _remembered(self, name: str, look: Callable[[str], str]) -> str:
        """Return what ``look`` says of a name; it reads the lists of models, and is asked again when they change."""
        try:
            stamp: object = os.stat(user_registry()).st_mtime_ns
        except OSError:
            stamp = None
        if stamp != self._names[0]:
            self._names = (stamp, {})
        key = (name, look)
        if key not in self._names[1]:
            self._names[1][key] = look(name)
        return self._names[1][key]

    def revealing(self) -> list[str]:
        """Return words of the model's name and structure that are in the names of cases, as a patient's would be.

        A word of the structure that all cases have in their names, such as that of a study, tells none of them.
        """
        titles = [_words_of(case.title) for case in self.cases()]
        if not titles:
            return []
        structure = _words_of(self.structure())
        named = _words_of(self.name()) | structure
        return sorted(named & frozenset().union(*titles) - (structure & frozenset.intersection(*titles)))

    def can_resume(self) -> bool:
        """Return whether a lesson of this name was begun and not ended."""
        name = self.name()
        return not self.name_reason() and is_begun(name)

    # --- the request --------------------------------------------------------------------------------------------

    def reason(self) -> str:
        """Return why nothing can be taught, as a sentence that says what to do; "" if it can."""
        state = self._state
        if state.obstacle or state.catalog is None:
            return state.obstacle or _("Some packages are not installed yet.")
        if state.running:
            return _("A segmentation is in progress; wait for it or cancel it.")
        if state.segmenting:
            return state.segmenting
        if not self.structure():
            return _("Nothing is annotated: load annotated cases, or draw a structure in the Segment Editor.")
        if not self.cases():
            return _(
                "Tick at least one case with “{name}”; with two of different patients each can be tested with a model "
                "that has not seen it."
            ).format(name=self.structure())
        if self.start() not in [row.name for row in self.starts()]:
            return _("The model to start from is not usable here; choose another one.")
        return self.name_reason()

    def settings(self) -> AdaptSettings:
        """Return the settings of the adaptation."""
        plain = AdaptSettings(model=self.start(), minutes=max(1.0, self._state.parameters.teachMinutes))
        return replace(plain, **self.more)  # type: ignore[arg-type]

    def request(self, only_check: bool = False, keep_anyway: bool = False, restart: bool = False) -> LessonRequest:
        """Return the request that the button starts; only valid if `reason` returns "".

        Args:
            only_check: Whether nothing is trained.
            keep_anyway: Whether the model is kept even if it is not better.
            restart: Whether what an earlier lesson of this name left is removed first.
        """
        return LessonRequest(
            cases=tuple(self.cases()),
            structure=learned_name(self.structure()),
            name="" if only_check else self.name(),
            settings=self.settings(),
            device=self._state.parameters.device,
            library=self._state.library,
            keep_anyway=keep_anyway,
            restart=restart,
            known=self.agreed,
        )


def _why_not(name: str) -> str:
    """Return why a name cannot be that of a new model, and one that can; "" if it can."""
    try:
        check_free(name)
    except ProxyPromptError as error:
        return f"{explained(error).rstrip('.')}. " + _("“{name}” is free.").format(name=free_name(name))
    return ""


def _words_of(text: str) -> frozenset[str]:
    """Return the words of a text that may identify a patient, as names of models spell them: without umlauts."""
    words = _WORD.findall(unicodedata.normalize("NFC", text))
    return frozenset(plain_name(word) or word.casefold() for word in words)


def _numbered(rows: list[CaseRow]) -> list[CaseRow]:
    """Add numbers to repeated titles, so that messages tell the cases apart."""
    counts, seen, result = Counter(row.title for row in rows), Counter[str](), []
    for row in rows:
        if counts[row.title] > 1:
            seen[row.title] += 1
            title = f"{row.title} ({seen[row.title]})"
            case = None if row.case is None else replace(row.case, title=title)
            row = replace(row, title=title, case=case)
        result.append(row)
    return result
