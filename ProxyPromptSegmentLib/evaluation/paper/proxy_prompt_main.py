"""Tables 1 to 3 of Proxy Prompt, and what shows the same scores: its comparisons with other systems.

References:
    Proxy Prompt, arXiv:2502.03501, Tables 1-3 and 8-11, Figures 4 and 7-9. "Ours" is the row of Proxy Prompt.
"""

from __future__ import annotations

from dataclasses import replace

from ProxyPromptSegmentLib.evaluation.paper import systems as named
from ProxyPromptSegmentLib.evaluation.paper.columns import PROSTATE, five, two
from ProxyPromptSegmentLib.evaluation.paper.protocol import Few, Measure, Protocol, Row, View
from ProxyPromptSegmentLib.evaluation.paper.sets import FPA, IMAGE_SETS, JNU_IFM, PROMISE12, REFUGE2, STARE

PAPER = "Proxy Prompt"
NOT_RUN = "as published, not run here"
OURS = five(88.0, 85.5, 81.6, 85.3, 89.3, 85.9)
REPEATED = Row(title="the model as given, no training", system=named.AS_GIVEN, note="no row of the paper")
ADAPTED = Row(title="the model adapted to the few cases", system=named.ADAPTED, images="16", note="no row of the paper")
PRIOR = (
    "a generator that a few minutes can train: tokens keep their places, and a dense prompt and the supports' masks, "
    "read through the selective map, stand beside them"
)
LITERAL = "the paper's choices to the letter (15 supports a step, SGD, Dice alone), which need far more time"

TABLE_1 = Protocol(
    id="T1",
    paper=PAPER,
    title="Comparison on three image data sets",
    sets=IMAGE_SETS,
    full=True,
    rows=(
        Row(
            title="Upper: BEAL, nnU-Net, SegNet",
            images="2000",
            published=five(93.7, 83.5, 65.5, 82.1, 91.7, 83.3),
            note=NOT_RUN,
        ),
        Row(
            title="specialist trained on the whole set",
            system=named.SPECIALIST,
            images="all",
            note="stands beside Upper: a U-Net on all training cases of this data",
        ),
        Row(title="SAM (1 point)", system=named.SAM_POINT, published=five(39.1, 33.5, 16.3, 18.2, 34.4, 28.3)),
        Row(title="SAM (box)", system=named.SAM_BOX, published=five(54.2, 71.6, 20.5, 67.0, 88.0, 60.3)),
        Row(title="SAM (everything)", system=named.SAM_EVERYTHING, published=five(48.8, 40.0, 20.5, 25.6, 35.4, 34.1)),
        Row(title="MedSAM (box)", system=named.MEDSAM_BOX, published=five(87.2, 81.3, 20.1, 97.1, 97.5, 74.5)),
        Row(
            title="Med-SA (1 point)",
            system=named.MED_SA_POINT,
            images="16",
            published=five(85.6, 83.0, 45.4, 71.3, 81.4, 73.3),
        ),
        Row(
            title="Med-SA (box)",
            system=named.MED_SA_BOX,
            images="16",
            published=five(86.8, 82.6, 37.1, 71.8, 83.1, 72.3),
        ),
        Row(title="SAMed", system=named.SAMED, images="16", published=five(86.9, 84.3, 15.8, 66.3, 87.0, 68.1)),
        Row(title="AutoSAM", system=named.AUTOSAM, images="16", published=five(87.9, 84.6, 73.8, 78.0, 79.1, 80.7)),
        Row(title="copied mean mask", system=named.MEAN_MASK, images="16", note="no row of the paper"),
        REPEATED,
        ADAPTED,
        Row(title="Proxy Prompt", system=named.PROXY_PROMPT, images="16", published=OURS, note=PRIOR),
        Row(
            title="Proxy Prompt, to the letter",
            system=named.PROXY_PROMPT,
            options={"preset": "paper"},
            images="16",
            published=OURS,
            note=LITERAL,
        ),
    ),
    note="The paper trains one model for both fundus sets and one for ultrasound; T9 compares that with one for each "
    "set, which is trained here.",
)

TABLE_2 = Protocol(
    id="T2",
    paper=PAPER,
    title="Comparison on prostate MRI, 58 labelled slices of 3 patients",
    sets=(PROMISE12,),
    few=Few(patients=3, slices=58),
    by_slice=True,
    full=True,
    rows=(
        Row(title="Upper: 3D DSD-FCN", images="1134 slices", published={PROSTATE: 88.1}, note=NOT_RUN),
        Row(
            title="specialist trained on the whole set",
            system=named.SPECIALIST,
            images="all",
            note="stands beside Upper: a U-Net on all training cases of this data",
        ),
        Row(title="DTC", images="58 + 1076 unlabelled", published={PROSTATE: 63.4}, note=NOT_RUN),
        Row(title="MLB-Seg", images="58 + 1076 unlabelled", published={PROSTATE: 78.3}, note=NOT_RUN),
        Row(title="nnU-Net", system=named.NNUNET, images="58", published={PROSTATE: 84.1}),
        Row(title="U-Net", system=named.UNET, images="58", note="no row of the paper"),
        Row(title="Med-SA", system=named.MED_SA_BOX, images="58", published={PROSTATE: 76.0}),
        Row(title="SAMed", system=named.SAMED, images="58", published={PROSTATE: 85.9}),
        Row(title="AutoSAM", system=named.AUTOSAM, images="58", published={PROSTATE: 70.1}),
        Row(title="copied mean mask", system=named.MEAN_MASK, images="58", note="no row of the paper"),
        REPEATED,
        replace(ADAPTED, images="58"),
        Row(title="Proxy Prompt", system=named.PROXY_PROMPT, images="58", published={PROSTATE: 87.4}, note=PRIOR),
        Row(
            title="Proxy Prompt, to the letter",
            system=named.PROXY_PROMPT,
            options={"preset": "paper"},
            images="58",
            published={PROSTATE: 87.4},
            note=LITERAL,
        ),
    ),
)

TABLE_3 = Protocol(
    id="T3",
    paper=PAPER,
    title="Comparison on ultrasound videos, prompted on the first frame or by one support frame",
    sets=(JNU_IFM,),
    few=Few(frames=1, images=16),
    draws=5,
    rows=(
        Row(
            title="SAM 2 (mask on the first frame)",
            system=named.SAM2_MASK,
            published=two(87.9, 91.3, 89.6),
            note="the paper's Upper",
        ),
        Row(title="SAM 2 (box)", system=named.SAM2_BOX, published=two(76.8, 80.3, 78.6)),
        Row(title="SAM 2 (point)", system=named.SAM2_POINT, published=two(18.9, 31.2, 25.1)),
        Row(
            title="Medical SAM 2 (support as template)",
            system=named.MEDICAL_SAM2,
            published=two(62.6, 64.0, 63.3),
            spread=10.9,
        ),
        Row(title="the model as given, no training", system=named.AS_GIVEN, note="no row of the paper"),
        Row(
            title="Proxy Prompt",
            system=named.PROXY_PROMPT,
            options={"learns_from": "full", "memory": True},
            images="16 videos",
            published=two(78.0, 83.7, 80.9),
            spread=0.3,
            note=PRIOR
            + "; learned on single frames, then with the memory of the frozen SAM 2, on which the rows of SAM 2 "
            "are as well",
        ),
        Row(
            title="Proxy Prompt, each frame on its own",
            system=named.PROXY_PROMPT,
            options={"learns_from": "full"},
            images="16 videos",
            note="no row of the paper; on the frozen start, without a memory",
        ),
    ),
    note="The published standard deviation is that of the mean over five support frames.",
)

OTHERS = (
    Protocol(
        id="T8",
        paper=PAPER,
        title="Summary of the data sets",
        sets=(REFUGE2, STARE, FPA, PROMISE12, JNU_IFM),
        measure=Measure.COUNTS,
    ),
    Protocol(
        id="T9",
        paper=PAPER,
        title="One training for each data set, for each modality, or for all",
        sets=IMAGE_SETS,
        rows=tuple(
            Row(
                title=f"strategy {number}: {words}",
                system=named.PROXY_PROMPT,
                options={"together": together},
                images="16 a set",
                published=five(*figures),
            )
            for number, words, together, figures in (
                (1, "each data set alone", "set", (88.3, 86.0, 82.5, 85.7, 89.5, 86.4)),
                (2, "each modality", "modality", (88.0, 85.5, 81.6, 85.3, 89.3, 85.9)),
                (3, "all data sets", "all", (87.2, 84.9, 74.2, 85.6, 89.7, 84.3)),
            )
        ),
    ),
)

SAME_SCORES = tuple(
    Protocol(
        id=number,
        paper=PAPER,
        title=title,
        sets=table.sets,
        rows=table.rows,
        few=table.few,
        draws=table.draws,
        full=table.full,
        by_slice=table.by_slice,
        view=view,
        same_as=table.id,
        panels=panels,
    )
    for number, title, table, view, panels in (
        ("T10", "The video comparison by support frame: pubic symphysis", TABLE_3, View.DRAWS, 0),
        ("T11", "The video comparison by support frame: fetal head", TABLE_3, View.DRAWS, 0),
        ("F4", "Panels of the image comparison", TABLE_1, View.OBJECTS, 1),
        ("F7", "Panels of the comparison on prostate MRI", TABLE_2, View.OBJECTS, 4),
        ("F8", "The video comparison by support frame, mean of the objects", TABLE_3, View.DRAWS, 0),
        ("F9", "Panels of the video comparison", TABLE_3, View.DRAWS, 1),
    )
)

MAIN = (TABLE_1, TABLE_2, TABLE_3, *OTHERS, *SAME_SCORES)
