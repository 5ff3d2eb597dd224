"""The widgets that the panel's code uses, for each .ui file; a test compares both."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ctk
    import qt
    import slicer


class Widgets:
    """The widgets of a .ui file by their object names.

    Attributes:
        FILE: The .ui file, without its suffix.
    """

    FILE = ""

    def __init__(self, found: SimpleNamespace) -> None:
        """Copy the result of `slicer.util.childWidgetVariables`."""
        vars(self).update(vars(found))


class TopWidgets(Widgets):
    """The widgets at the top: missing packages and the install button."""

    FILE = "ProxyPromptSegment"

    researchLabel: qt.QLabel
    hintFrame: qt.QFrame
    hintLabel: qt.QLabel
    sampleButton: qt.QPushButton
    firstRunFrame: qt.QFrame
    firstRunLabel: qt.QLabel
    firstRunButton: qt.QPushButton


class PromptWidgets(Widgets):
    """What tells the model what to segment: the classes that it knows, and marks by hand."""

    FILE = "PromptSection"

    promptByCombo: qt.QComboBox
    classFrame: qt.QFrame
    structureModelCombo: qt.QComboBox
    classSearchEdit: qt.QLineEdit
    classList: qt.QListWidget
    classLabel: qt.QLabel
    handFrame: qt.QFrame
    handNameEdit: qt.QLineEdit
    insideButton: qt.QPushButton
    outsideButton: qt.QPushButton
    boxButton: qt.QPushButton
    handMaskCombo: qt.QComboBox
    takeBackButton: qt.QPushButton
    clearMarksButton: qt.QPushButton
    everythingButton: qt.QPushButton
    handLabel: qt.QLabel


class SupportWidgets(Widgets):
    """The widgets of the supports: selectors, table, objects."""

    FILE = "SupportSection"

    supportButton: ctk.ctkCollapsibleButton
    supportSegmentationSelector: slicer.qMRMLNodeComboBox
    supportVolumeSelector: slicer.qMRMLNodeComboBox
    supportTitleEdit: qt.QLineEdit
    supportSlicesCombo: qt.QComboBox
    supportSlicesTextCaption: qt.QLabel
    supportSlicesEdit: qt.QLineEdit
    supportSegmentsList: qt.QListWidget
    addSupportButton: qt.QPushButton
    supportTable: qt.QTableWidget
    removeSupportButton: qt.QPushButton
    showSupportButton: qt.QPushButton
    checkSupportsButton: qt.QPushButton
    checkTrialBox: qt.QCheckBox
    supportMessageLabel: qt.QLabel
    objectsCaption: qt.QLabel
    objectsList: qt.QListWidget
    updateAtOnceBox: qt.QCheckBox


class LibraryWidgets(Widgets):
    """The widgets of the support library."""

    FILE = "LibrarySection"

    libraryButton: ctk.ctkCollapsibleButton
    libraryPlaceLabel: qt.QLabel
    libraryList: qt.QListWidget
    libraryAddButton: qt.QPushButton
    librarySuggestButton: qt.QPushButton
    libraryImportButton: qt.QPushButton
    libraryExportButton: qt.QPushButton
    libraryDeleteButton: qt.QPushButton
    libraryTitleEdit: qt.QLineEdit
    libraryModalityEdit: qt.QLineEdit
    libraryAnnotatorEdit: qt.QLineEdit
    libraryNotesEdit: qt.QLineEdit
    libraryIdentifyingBox: qt.QCheckBox
    librarySaveButton: qt.QPushButton
    libraryMessageLabel: qt.QLabel


class TargetWidgets(Widgets):
    """The widgets of target and output."""

    FILE = "TargetSection"

    targetSelector: slicer.qMRMLNodeComboBox
    previousCaseButton: qt.QPushButton
    nextCaseButton: qt.QPushButton
    scopeCaption: qt.QLabel
    scopeCombo: qt.QComboBox
    rangeCaption: qt.QLabel
    sliceRange: ctk.ctkRangeWidget
    roiCaption: qt.QLabel
    roiSelector: slicer.qMRMLNodeComboBox
    outputCaption: qt.QLabel
    outputSelector: slicer.qMRMLNodeComboBox
    scopeLabel: qt.QLabel
    honourEditorBox: qt.QCheckBox


class CasesWidgets(Widgets):
    """The list of cases."""

    FILE = "CasesSection"

    casesButton: ctk.ctkCollapsibleButton
    casesList: qt.QListWidget
    segmentCasesButton: qt.QPushButton
    folderButton: qt.QPushButton
    resultsFolderButton: qt.QPushButton
    saveCorrectionsButton: qt.QPushButton
    folderLabel: qt.QLabel
    casesProgressBar: qt.QProgressBar
    casesMessageLabel: qt.QLabel


class ModelWidgets(Widgets):
    """The widgets of model and settings."""

    FILE = "ModelSection"

    modelCombo: qt.QComboBox
    modelLabel: qt.QLabel
    axisCombo: qt.QComboBox
    deviceCombo: qt.QComboBox
    thresholdSlider: ctk.ctkSliderWidget
    tilesCaption: qt.QLabel
    tilesCombo: qt.QComboBox
    followMemoryBox: qt.QCheckBox
    chooseSupportsBox: qt.QCheckBox
    fillGapsBox: qt.QCheckBox
    usePositionBox: qt.QCheckBox
    registerSupportsBox: qt.QCheckBox
    lookCloserBox: qt.QCheckBox
    modelDownloadButton: qt.QPushButton
    modelImportButton: qt.QPushButton
    modelRemoveButton: qt.QPushButton
    modelCancelButton: qt.QPushButton
    modelProgressBar: qt.QProgressBar
    modelMessageLabel: qt.QLabel


class ApplyWidgets(Widgets):
    """The button Apply and the messages of a run."""

    FILE = "ApplySection"

    changedLabel: qt.QLabel
    replaceChangedBox: qt.QCheckBox
    estimateLabel: qt.QLabel
    applyButton: qt.QPushButton
    reasonLabel: qt.QLabel
    progressBar: qt.QProgressBar
    runLabel: qt.QLabel
    followViewBox: qt.QCheckBox


class ResultWidgets(Widgets):
    """The widgets of the latest result."""

    FILE = "ResultSection"

    resultButton: ctk.ctkCollapsibleButton
    resultsTable: qt.QTableWidget
    doubtsCaption: qt.QLabel
    doubtsList: qt.QListWidget
    useCorrectedButton: qt.QPushButton
    undoButton: qt.QPushButton
    redoButton: qt.QPushButton
    show3DButton: slicer.qMRMLSegmentationShow3DButton
    editButton: qt.QPushButton
    tableButton: qt.QPushButton
    recordButton: qt.QPushButton
    exportButton: qt.QPushButton
    madeWithLabel: qt.QLabel
    resultMessageLabel: qt.QLabel


class ReviewWidgets(Widgets):
    """The widgets to review and correct a result."""

    FILE = "ReviewSection"

    reviewButton: ctk.ctkCollapsibleButton
    stripCaption: qt.QLabel
    confidenceStrip: qt.QTableWidget
    overlayBox: qt.QCheckBox
    nextDoubtButton: qt.QPushButton
    toggleResultButton: qt.QPushButton
    strokeObjectCombo: qt.QComboBox
    paintButton: qt.QPushButton
    eraseButton: qt.QPushButton
    undoStrokeButton: qt.QPushButton
    clickInsideButton: qt.QPushButton
    clickOutsideButton: qt.QPushButton
    piecesBox: qt.QCheckBox
    smoothBox: qt.QCheckBox
    acceptButton: qt.QPushButton
    reviewMessageLabel: qt.QLabel


class WhyWidgets(Widgets):
    """The widgets of the why section."""

    FILE = "WhySection"

    whyButton: ctk.ctkCollapsibleButton
    whyObjectCombo: qt.QComboBox
    whyPointButton: qt.QPushButton
    whyCrosshairButton: qt.QPushButton
    whyLabel: qt.QLabel
    whyList: qt.QListWidget


class TeachWidgets(Widgets):
    """The widgets of lessons, and of the models that they made."""

    FILE = "TeachSection"

    teachButton: ctk.ctkCollapsibleButton
    teachStructureCombo: qt.QComboBox
    teachCasesList: qt.QListWidget
    teachModelCombo: qt.QComboBox
    teachNameEdit: qt.QLineEdit
    teachMinutesSlider: ctk.ctkSliderWidget
    teachRestartBox: qt.QCheckBox
    teachEstimateLabel: qt.QLabel
    teachReasonLabel: qt.QLabel
    teachCheckButton: qt.QPushButton
    teachStartButton: qt.QPushButton
    teachPhaseLabel: qt.QLabel
    teachProgressBar: qt.QProgressBar
    teachMessageLabel: qt.QLabel
    teachScoresTable: qt.QTableWidget
    teachCurveCaption: qt.QLabel
    teachCurveLabel: qt.QLabel
    teachPictureCaption: qt.QLabel
    teachPictureLabel: qt.QLabel
    teachUseButton: qt.QPushButton
    teachKeepButton: qt.QPushButton
    ownModelsBox: ctk.ctkCollapsibleGroupBox
    ownModelsList: qt.QListWidget
    ownModelLabel: qt.QLabel
    ownNameEdit: qt.QLineEdit
    ownWordsEdit: qt.QLineEdit
    ownSaveButton: qt.QPushButton
    ownExportButton: qt.QPushButton
    ownImportButton: qt.QPushButton
    ownRemoveButton: qt.QPushButton
    ownMessageLabel: qt.QLabel
