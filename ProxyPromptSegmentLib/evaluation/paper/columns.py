"""Titles of the columns of the papers' tables, and their figures in the order of these columns."""

from __future__ import annotations

from collections.abc import Mapping

from ProxyPromptSegmentLib.evaluation.paper.protocol import AVERAGE

DISC, CUP, VESSEL, SYMPHYSIS, HEAD = "optic disc", "optic cup", "vessel", "pubic symphysis", "fetal head"
FIVE = (DISC, CUP, VESSEL, SYMPHYSIS, HEAD)
PROSTATE, POLYP, GLANDS, NUCLEI = "prostate", "polyp", "glands", "nuclei"


def five(*figures: float) -> Mapping[str, float]:
    """Return the Dice in per cent of the five objects of Proxy Prompt's image tables, and their average."""
    return dict(zip((*FIVE, AVERAGE), figures, strict=True))


def two(*figures: float) -> Mapping[str, float]:
    """Return the Dice in per cent of the two objects of its video tables, and their average."""
    return dict(zip((SYMPHYSIS, HEAD, AVERAGE), figures, strict=True))
