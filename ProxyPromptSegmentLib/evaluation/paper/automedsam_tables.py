"""The tables of AutoMedSAM: Dice and NSD of each class, its ablations, and a change of data set.

References:
    Huang et al., Diffusion-empowered AutoPrompt MedSAM, arXiv:2502.06817. Its figures are not in the texts that this
    project was built from, so no row has a published one.
"""

from __future__ import annotations

from ProxyPromptSegmentLib.evaluation.paper import systems as named
from ProxyPromptSegmentLib.evaluation.paper.protocol import Few, Protocol, Row
from ProxyPromptSegmentLib.evaluation.paper.sets import (
    ABDOMEN,
    BRATS,
    CHEST,
    KVASIR,
    OTHER_ABDOMEN,
    OTHER_BRAINS,
    OTHER_CHESTS,
    OTHER_POLYPS,
)

PAPER = "AutoMedSAM"
SETS, OTHER_SETS = (ABDOMEN, BRATS, KVASIR, CHEST), (OTHER_ABDOMEN, OTHER_BRAINS, OTHER_POLYPS, OTHER_CHESTS)
TRIALS: tuple[tuple[str, dict[str, dict[str, object]]], ...] = (
    ("all losses, uncertainty, both branches", {}),
    ("without cross-entropy", {"losses": {"bce": False}}),
    ("without Dice", {"losses": {"dice": False}}),
    ("without the distribution loss", {"losses": {"distribution": "none"}}),
    ("without MedSAM's knowledge", {"losses": {"transfer": False}}),
    ("equal weights", {"losses": {"weighting": "equal"}}),
    ("the sparse branch alone", {"generator": {"branches": "sparse"}}),
    ("the dense branch alone", {"generator": {"branches": "dense"}}),
)
TRAINED = Row(title="AutoMedSAM, trained here", system=named.CLASS_TRAINED, images="all")

TABLE = Protocol(
    id="M1",
    paper=PAPER,
    title="Dice and NSD of each class on four data sets",
    sets=SETS,
    few=Few(images=4),
    full=True,
    surface=True,
    rows=(
        Row(
            title="AutoMedSAM",
            system=named.CLASS_PROMPT,
            options={"model": "classes-compact"},
            images="all",
            note="the model classes-compact of this project, which corrects linear readings",
        ),
        TRAINED,
        Row(title="SAM (1 point)", system=named.SAM_POINT),
        Row(title="SAM (box)", system=named.SAM_BOX),
        Row(title="MedSAM (box)", system=named.MEDSAM_BOX),
        Row(title="specialist trained on the whole set", system=named.SPECIALIST, images="all"),
        Row(title="copied mean mask", system=named.MEAN_MASK, images="4", note="no row of the paper"),
        Row(title="the model as given, no training", system=named.AS_GIVEN, images="4", note="no row of the paper"),
    ),
)

ABLATIONS = Protocol(
    id="M2",
    paper=PAPER,
    title="Ablation of losses and branches",
    sets=SETS,
    few=Few(images=4),
    full=True,
    surface=True,
    rows=tuple(
        Row(title=title, system=named.CLASS_TRAINED, options={"trial": changes}, images="all")
        for title, changes in TRIALS
    ),
    note="The class prompt encoder without readings of this project, the paper's form.",
)

CHANGE = Protocol(
    id="M3",
    paper=PAPER,
    title="Change of data set: trained on the sets of M1, tested on others",
    sets=OTHER_SETS,
    few=Few(images=4),
    full=True,
    surface=True,
    rows=(
        TRAINED,
        Row(title="SAM (box)", system=named.SAM_BOX),
        Row(title="MedSAM (box)", system=named.MEDSAM_BOX),
        Row(title="the model as given, no training", system=named.AS_GIVEN, images="4", note="no row of the paper"),
    ),
)

AUTOMEDSAM = (TABLE, ABLATIONS, CHANGE)
