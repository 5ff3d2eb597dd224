"""The tables of AutoSAM: polyps, glands and nuclei, with its own decoder and with masks as prompts.

References:
    Shaharabany et al., AutoSAM, arXiv:2306.06370; figures as quoted by public lists of results.
"""

from __future__ import annotations

from ProxyPromptSegmentLib.evaluation.paper import systems as named
from ProxyPromptSegmentLib.evaluation.paper.columns import GLANDS, NUCLEI, POLYP
from ProxyPromptSegmentLib.evaluation.paper.protocol import DataNeed, Few, Protocol, Row
from ProxyPromptSegmentLib.evaluation.paper.sets import CLINIC, COLON, ETIS, GLAS, KVASIR, MONUSEG

PAPER = "AutoSAM"


def _table(number: str, title: str, sets: tuple[DataNeed, ...], model: str, published: dict[str, float]) -> Protocol:
    """Return the table of one kind of image, with the model of this project that was trained for it."""
    made = {"model": model}
    return Protocol(
        id=number,
        paper=PAPER,
        title=title,
        sets=sets,
        few=Few(images=4),
        full=True,
        surface=True,
        rows=(
            Row(
                title="AutoSAM",
                system=named.IMAGE_PROMPT,
                options=made,
                images="all",
                published=published,
                note=f"the model {model} of this project",
            ),
            Row(title="AutoSAM, its own decoder h", system=named.SURROGATE, options=made, images="all"),
            Row(title="SAM, AutoSAM's mask as the prompt", system=named.MASK_OF_IMAGE_PROMPT, options=made),
            Row(title="SAM, the true mask as the prompt", system=named.MASK_OF_TRUTH),
            Row(title="SAM (box)", system=named.SAM_BOX),
            Row(title="specialist trained on the whole set", system=named.SPECIALIST, images="all"),
            Row(title="copied mean mask", system=named.MEAN_MASK, images="4", note="no row of the paper"),
            Row(title="the model as given, no training", system=named.AS_GIVEN, images="4", note="no row of the paper"),
        ),
        note="AutoSAM and its decoder were trained on the training patients of the stand-in and are not trained again "
        "here; a row of another data set is a change of data set.",
    )


POLYPS = (KVASIR, CLINIC, COLON, ETIS)
AUTOSAM = (
    _table(
        "A1",
        "Polyps in four endoscopy sets",
        POLYPS,
        "autosam-polyp",
        {f"{COLON.title}: {POLYP}": 83.0, f"{ETIS.title}: {POLYP}": 79.7},
    ),
    _table("A2", "Glands in stained sections", (GLAS,), "classes-compact", {GLANDS: 92.82}),
    _table("A3", "Nuclei in stained sections", (MONUSEG,), "autosam-nuclei", {NUCLEI: 82.43}),
)
