"""Assembly of the panel: shared state, choices, sections, and the connections between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, TypeVar

from ProxyPromptSegmentModule.install.installer import Requirements
from ProxyPromptSegmentModule.models.own_models import OwnModels
from ProxyPromptSegmentModule.panel.apply_section import ApplySection
from ProxyPromptSegmentModule.panel.cases_section import CasesSection
from ProxyPromptSegmentModule.panel.chosen_cases import ChosenCases
from ProxyPromptSegmentModule.panel.chosen_classes import ChosenClasses
from ProxyPromptSegmentModule.panel.chosen_folder import ChosenFolder
from ProxyPromptSegmentModule.panel.chosen_lesson import ChosenLesson
from ProxyPromptSegmentModule.panel.chosen_model import ChosenModel
from ProxyPromptSegmentModule.panel.chosen_objects import ChosenObjects
from ProxyPromptSegmentModule.panel.chosen_target import ChosenTarget
from ProxyPromptSegmentModule.panel.correct_section import CorrectSection
from ProxyPromptSegmentModule.panel.export_section import ExportSection
from ProxyPromptSegmentModule.panel.folder_section import FolderSection
from ProxyPromptSegmentModule.panel.hand_section import HandSection
from ProxyPromptSegmentModule.panel.hint_section import HintSection
from ProxyPromptSegmentModule.panel.install_section import InstallSection
from ProxyPromptSegmentModule.panel.lesson_section import LessonSection
from ProxyPromptSegmentModule.panel.library_section import LibrarySection
from ProxyPromptSegmentModule.panel.marking import Marking
from ProxyPromptSegmentModule.panel.model_section import ModelSection
from ProxyPromptSegmentModule.panel.objects_section import ObjectsSection
from ProxyPromptSegmentModule.panel.own_models_section import OwnModelsSection
from ProxyPromptSegmentModule.panel.prompt_section import PromptSection
from ProxyPromptSegmentModule.panel.requests import Requests
from ProxyPromptSegmentModule.panel.result_section import ResultSection
from ProxyPromptSegmentModule.panel.review_section import ReviewSection
from ProxyPromptSegmentModule.panel.saved_section import SavedSection
from ProxyPromptSegmentModule.panel.section import Section
from ProxyPromptSegmentModule.panel.shortcuts import Key, add_shortcuts
from ProxyPromptSegmentModule.panel.shown_result import ShownResult
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.panel.studies_section import StudiesSection
from ProxyPromptSegmentModule.panel.support_section import SupportSection
from ProxyPromptSegmentModule.panel.supports_table import SupportsTable
from ProxyPromptSegmentModule.panel.target_section import Observers, TargetSection
from ProxyPromptSegmentModule.panel.teach_section import TeachSection
from ProxyPromptSegmentModule.panel.why_section import WhySection
from ProxyPromptSegmentModule.panel.widgets import (
    ApplyWidgets,
    CasesWidgets,
    LibraryWidgets,
    ModelWidgets,
    PromptWidgets,
    ResultWidgets,
    ReviewWidgets,
    SupportWidgets,
    TargetWidgets,
    TeachWidgets,
    TopWidgets,
    WhyWidgets,
    Widgets,
)
from ProxyPromptSegmentModule.scene.hand_editor import HandEditor

if TYPE_CHECKING:
    from types import SimpleNamespace

    from ProxyPromptSegmentModule.logic import SegmentationLogic

W = TypeVar("W", bound=Widgets)

FILES: tuple[type[Widgets], ...] = (
    TopWidgets,
    PromptWidgets,
    SupportWidgets,
    TargetWidgets,
    ApplyWidgets,
    CasesWidgets,
    ResultWidgets,
    ReviewWidgets,
    WhyWidgets,
    LibraryWidgets,
    ModelWidgets,
    TeachWidgets,
)
"""The .ui files, from top to bottom: what every run needs comes first, so that Apply is in sight."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The choices that are derived from the state."""

    cases: ChosenCases
    folder: ChosenFolder
    classes: ChosenClasses
    objects: ChosenObjects
    target: ChosenTarget
    model: ChosenModel
    requests: Requests
    lesson: ChosenLesson
    result: ShownResult


@dataclass(frozen=True, kw_only=True)
class Sections:
    """The sections in the order in which they are refreshed."""

    install: InstallSection
    hint: HintSection
    prompt: PromptSection
    hand: HandSection
    support: SupportSection
    supports_table: SupportsTable
    objects: ObjectsSection
    library: LibrarySection
    target: TargetSection
    model: ModelSection
    apply: ApplySection
    result: ResultSection
    export: ExportSection
    review: ReviewSection
    correct: CorrectSection
    cases: CasesSection
    studies: StudiesSection
    folder: FolderSection
    saved: SavedSection
    why: WhySection
    teach: TeachSection
    lesson: LessonSection
    own_models: OwnModelsSection

    def __iter__(self) -> Iterator[Section]:
        """Iterate over all sections."""
        return iter([getattr(self, field.name) for field in fields(self)])


def choose(state: PanelState) -> Chosen:
    """Create the derived choices."""
    target, model = ChosenTarget(state), ChosenModel(state)
    classes = ChosenClasses(state, model)
    objects = ChosenObjects(state, classes)
    requests = Requests(state, objects, target, model, classes)
    lesson = ChosenLesson(state, model)
    cases = ChosenCases(state, target)
    return Chosen(
        cases=cases,
        folder=ChosenFolder(state, cases, requests, objects, classes),
        classes=classes,
        objects=objects,
        target=target,
        model=model,
        requests=requests,
        lesson=lesson,
        result=ShownResult(state),
    )


def build(
    found: dict[str, SimpleNamespace], state: PanelState, chosen: Chosen, logic: SegmentationLogic, observers: Observers
) -> Sections:
    """Make the sections and connect the signals of the state.

    Args:
        found: The widgets of each .ui file by their object names.
        state: The shared state.
        chosen: The derived choices.
        logic: The logic that runs the jobs.
        observers: The observer functions of the host widget.
    """

    def widgets(kind: type[W]) -> W:
        return kind(found[kind.FILE])

    top, result, review = widgets(TopWidgets), widgets(ResultWidgets), widgets(ReviewWidgets)
    prompt, cases = widgets(PromptWidgets), widgets(CasesWidgets)
    support, target, teach = widgets(SupportWidgets), widgets(TargetWidgets), widgets(TeachWidgets)
    settings = chosen.requests.settings
    marking = Marking(state, chosen.requests, chosen.target, logic)
    sections = Sections(
        install=InstallSection(top, state, chosen.model, Requirements()),
        hint=HintSection(top, state),
        prompt=PromptSection(prompt, state, chosen.model, chosen.classes),
        hand=HandSection(prompt, state, chosen.objects, chosen.requests, marking, logic),
        support=SupportSection(support, state, logic),
        supports_table=SupportsTable(support, state, settings, logic),
        objects=ObjectsSection(support, state, chosen.objects),
        library=LibrarySection(widgets(LibraryWidgets), state, settings, logic),
        target=TargetSection(target, state, chosen.target, observers),
        model=ModelSection(widgets(ModelWidgets), state, chosen.model, chosen.target),
        apply=ApplySection(
            widgets(ApplyWidgets), state, chosen.objects, chosen.target, chosen.requests, marking, logic
        ),
        result=ResultSection(result, state, chosen.result),
        export=ExportSection(result, state, chosen.result),
        review=ReviewSection(review, state, chosen.result),
        correct=CorrectSection(review, state, chosen.result, logic.questions, HandEditor(), marking, chosen.requests),
        cases=CasesSection(cases, target, state, chosen.cases),
        studies=StudiesSection(cases, state, chosen.cases, chosen.folder, chosen.requests, logic),
        folder=FolderSection(cases, state, chosen.cases, chosen.target, logic),
        saved=SavedSection(cases, state, logic),
        why=WhySection(widgets(WhyWidgets), state, logic),
        teach=TeachSection(teach, state, chosen.lesson, logic),
        lesson=LessonSection(teach, state, chosen.lesson, logic, chosen.requests.reason),
        own_models=OwnModelsSection(teach, state, OwnModels()),
    )
    state.choice_changed.connect(sections.apply.update_at_once)
    state.run_began.connect(sections.apply.on_run_began)
    state.scope_leaving.connect(sections.apply.end_live)
    state.support_added.connect(chosen.target.leave_support_alone)
    state.support_selected.connect(sections.library.refresh)
    state.installed.connect(state.equip)
    state.installed.connect(sections.model.look_again)
    state.models_changed.connect(sections.model.look_again)
    state.lesson_changed.connect(sections.lesson.show)
    state.study_wanted.connect(sections.folder.load)
    state.apply_wanted.connect(sections.apply.start)
    keys = {
        Key.NEXT_DOUBT: sections.review.on_next_doubt,
        Key.ACCEPT: sections.review.on_accept_key,
        Key.UNDO: result.undoButton.click,
        Key.TOGGLE: sections.review.on_toggle,
    }
    add_shortcuts(top.researchLabel, keys)
    return sections
