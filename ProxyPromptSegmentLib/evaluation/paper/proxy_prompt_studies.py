"""The ablations of Proxy Prompt: modules, encoders, foundation models, quality of prompts, and numbers of images.

References:
    Proxy Prompt, arXiv:2502.03501, Tables 4-7 and 12-14, Figures 5, 6 and 10-13.
"""

from __future__ import annotations

import dataclasses

from ProxyPromptSegmentLib.evaluation.paper import systems as named
from ProxyPromptSegmentLib.evaluation.paper.columns import five
from ProxyPromptSegmentLib.evaluation.paper.protocol import AVERAGE, Few, Measure, Protocol, Row, View
from ProxyPromptSegmentLib.evaluation.paper.proxy_prompt_main import OURS, PAPER
from ProxyPromptSegmentLib.evaluation.paper.sets import IMAGE_SETS, REFUGE2

IMAGES, SUPPORTS, REPEATS = (2, 4, 8, 16), (1, 2, 4, 8), 100

TABLE_12 = Protocol(
    id="T12",
    paper=PAPER,
    title="Ablation of the modules of the prompt generator",
    sets=IMAGE_SETS,
    rows=tuple(
        Row(title=title, system=named.PROXY_PROMPT, options={"generator": changes}, images="16", published=figures)
        for title, changes, figures in (
            ("CSM and CCM", {}, OURS),
            ("without CCM", {"ccm": False}, five(87.6, 85.3, 80.2, 83.7, 89.2, 85.2)),
            ("without CSM's selection", {"selection": "mean"}, five(87.1, 84.6, 79.2, 83.3, 87.6, 84.3)),
            (
                "without either",
                {"ccm": False, "selection": "mean"},
                five(87.0, 83.7, 79.0, 82.7, 87.6, 84.0),
            ),
        )
    ),
    note="Without CCM the contextual embedding is averaged to as many tokens; without CSM's selection the supports are "
    "averaged instead of read through the selective map.",
)

TABLE_13 = Protocol(
    id="T13",
    paper=PAPER,
    title="Ablation of the contextual encoder",
    sets=IMAGE_SETS,
    rows=tuple(
        Row(title=title, system=named.PROXY_PROMPT, options={"encoder": encoder}, images="16", published=figures)
        for title, encoder, figures in (
            ("Vision Mamba", "vim", OURS),
            ("Vision Transformer", "vit", five(86.8, 84.3, 79.6, 83.2, 88.4, 84.5)),
            ("ResNet", "resnet", five(85.8, 83.9, 79.3, 82.4, 88.0, 83.9)),
        )
    ),
    note="On a compact model the encoders have its size, on official weights the paper's (ViT-B, ResNet-50).",
)


def _start(title: str, model: str, box: tuple[float, ...], proxy: tuple[float, ...]) -> tuple[Row, Row]:
    """Return the rows of one foundation model: prompted with boxes, and with proxy prompts."""
    return (
        Row(title=f"{title}, box", system=named.SAM_BOX, options={"model": model}, published=five(*box)),
        Row(
            title=f"{title}, proxy prompt",
            system=named.PROXY_PROMPT,
            options={"model": model},
            images="16",
            published=five(*proxy),
        ),
    )


TABLE_14 = Protocol(
    id="T14",
    paper=PAPER,
    title="Foundation models with boxes and with proxy prompts",
    sets=IMAGE_SETS,
    rows=(
        Row(title="the model given, box", system=named.SAM_BOX, note="no row of the paper"),
        Row(title="the model given, proxy prompt", system=named.PROXY_PROMPT, images="16", note="no row of the paper"),
        *_start("MedSAM", "medsam-vit-b", (87.2, 81.3, 20.1, 97.1, 97.5, 74.5), (94.3, 83.8, 59.4, 81.9, 86.9, 81.3)),
        *_start("SAM-ViT-B", "sam-vit-b", (39.3, 68.2, 20.3, 69.0, 83.9, 56.1), (87.5, 85.5, 80.1, 84.2, 88.2, 85.1)),
        *_start("SAM-ViT-H", "sam-vit-h", (54.2, 71.6, 20.5, 67.0, 88.0, 60.3), (88.0, 85.5, 81.6, 85.3, 89.3, 85.9)),
    ),
    note="Rows of official weights need them on this machine: proxyprompt models download.",
)

QUALITIES = (
    ("empty", "empty", 0.0, 47.9),
    ("low: the mask that SAM draws of a box", "box", 66.6, 71.8),
    ("medium: edges moved until Dice is 0.816", "edges", 81.6, 86.5),
    ("high: the truth", "truth", 100.0, 86.8),
    ("senior doctor: edges moved until Dice is 0.883", "edges", 88.3, 86.6),
    ("normal user: edges moved until Dice is 0.748", "edges", 74.8, 86.5),
)

TABLE_7 = Protocol(
    id="T7",
    paper=PAPER,
    title="Quality of the supports' masks",
    sets=(REFUGE2,),
    rows=tuple(
        Row(
            title=title,
            system=named.PROXY_PROMPT,
            options={"masks": kind, "dice": dice / 100},
            images="16",
            published={AVERAGE: figure},
            note="" if kind in ("empty", "truth") else "simulated: nobody drew masks for this table",
        )
        for title, kind, dice, figure in QUALITIES
    ),
    note="The mean of disc and cup. Training and supports are those of one row; only the supports' masks differ. The "
    "masks of MedSAM and of two people are simulated by edges that are moved until they have the published Dice.",
)

FIGURE_13 = Protocol(
    id="F13",
    paper=PAPER,
    title="M training images and K supports",
    sets=IMAGE_SETS,
    draws=REPEATS,
    view=View.SPREAD,
    rows=tuple(
        Row(
            title=f"M = {images}, K = {supports}",
            system=named.PROXY_PROMPT,
            options={"learns_from": "full"},
            few=Few(images=images, support=supports),
            images=str(images),
        )
        for images in IMAGES
        for supports in SUPPORTS
    ),
    note="Supports are drawn from the same 16 images, whichever of them were learned from; M - 1 of them support each "
    "other in the training. The figure prints no numbers: Dice rises with M, and with K up to M - 1, and its spread "
    "over draws falls with K.",
)

FIGURE_10 = Protocol(
    id="F10",
    paper=PAPER,
    title="The selective map for supports that are less and less like the target",
    sets=(REFUGE2, IMAGE_SETS[2]),
    measure=Measure.MAP,
    rows=(
        Row(title="the target itself", published={AVERAGE: 95.5}),
        Row(title="the most alike"),
        Row(title="half-way"),
        Row(title="the least alike", published={AVERAGE: 94.4}),
        Row(title="another modality", published={AVERAGE: 65.25}),
    ),
    note="The paper shows one target; likeness is the mean square error between both images at the network's size.",
)


def _means(table: Protocol, number: str, view: View = View.OBJECTS, panels: int = 0, title: str = "") -> Protocol:
    return dataclasses.replace(table, id=number, same_as=table.id, view=view, panels=panels, title=title or table.title)


STUDIES = (
    _means(TABLE_12, "T4"),
    _means(TABLE_13, "T5"),
    _means(TABLE_14, "T6"),
    TABLE_7,
    TABLE_12,
    TABLE_13,
    TABLE_14,
    _means(FIGURE_10, "F5"),
    _means(FIGURE_13, "F6", View.SPREAD),
    FIGURE_10,
    _means(TABLE_7, "F11", title="Line of the quality of the supports' masks"),
    _means(TABLE_7, "F12", panels=2, title="Panels of the quality of the supports' masks"),
    FIGURE_13,
)
