"""The card of an adapted model: what it learned from, in numbers that identify no patient, and what the folds say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ProxyPromptSegmentLib import __version__
from ProxyPromptSegmentLib.training.adapting.result import CaseScore, Verdict
from ProxyPromptSegmentLib.training.adapting.settings import AdaptSettings
from ProxyPromptSegmentLib.training.adapting.state import Plan


def card_text(
    name: str,
    base: str,
    objects: Sequence[str],
    patients: int,
    sheets: tuple[int, int],
    folds: int,
    plan: Plan,
    verdict: Verdict | None,
    scores: Sequence[CaseScore],
    share: float,
    official: bool = False,
    fitted: bool = False,
    encoder: bool = False,
) -> str:
    """Return the card as Markdown.

    Args:
        name: Name of the model.
        base: Name of the model that it was adapted from.
        objects: Names of the objects.
        patients: Number of patients.
        sheets: Numbers of slices and of tiles.
        folds: Number of folds; 0 without a test.
        plan: What was decided.
        verdict: What the folds say; None without a test.
        scores: The scores, in an order that says nothing.
        share: Share of the way from the first weights.
        official: Whether it is built on official weights, which are in a file of their own.
        fitted: Whether its presence and confidence were fitted on the left-out slices.
        encoder: Whether its image encoder was trained.
    """
    slices, tiles = sheets
    if official:
        places = "image encoder and mask decoder" if encoder else "the mask decoder"
        made = f"The official weights are used as they are; a prompt generator and adapters in {places} were trained."
    elif encoder:
        made = "Image encoder, prompt generator and mask decoder were trained."
    else:
        made = (
            "The image encoder is that of the model it was adapted from; prompt generator and mask decoder were "
            "trained."
        )
    variants = (
        f"{_counted(plan.variants, 'changed variant')} of each slice" if plan.variants else "slices changed in each"
    )
    lines = [
        f"# {name}",
        "",
        f"Adapted from `{base}` to {_listed(objects)} on its maker's machine, by ProxyPromptSegment {__version__}. "
        f"{made}",
        "",
        f"* learned from: {_counted(patients, 'patient')}, {_counted(slices, 'slice')}"
        + (f", {_counted(tiles, 'tile')} of them" if tiles else ""),
        f"* training: {plan.steps} steps, {variants}, {share:.0%} of the way from the first weights",
        "",
    ]
    if verdict is None:
        lines += ["There was a single patient, so nothing was tested: it may be worse than the model it began from."]
    else:
        lines += [
            f"Dice of slices of patients that were left out ({folds} folds, each trained without its patients, "
            "supports of the other patients, each slice alone):",
            "",
            "| | before | after | copied mean mask |",
            "|---|---|---|---|",
            f"| mean | {verdict.before:.3f} | {verdict.after:.3f} | {verdict.mean_mask:.3f} |",
        ]
        for number, one in enumerate(objects):
            before, after, copied = _of_object(scores, number, verdict)
            lines.append(f"| {one} | {before:.3f} | {after:.3f} | {copied:.3f} |")
        lines += [
            "",
            "The share of the way from the first weights was chosen by these folds too, so that they flatter it a "
            "little. The weights here were trained on all patients.",
            "",
            "Presence and confidence were fitted on these left-out slices."
            if fitted
            else "Presence and confidence are estimated as before: a fit on these left-out slices was not better.",
        ]
    return "\n".join([*lines, "", "Research use only. Not for diagnosis.", ""])


def self_description(
    base: str,
    objects: Sequence[str],
    counts: tuple[int, int, int],
    plan: Plan,
    verdict: Verdict | None,
    share: float,
    settings: AdaptSettings,
) -> dict[str, Any]:
    """Return what the model's file says of itself; no case is named.

    Args:
        base: Name of the model that it was adapted from.
        objects: Names of the objects.
        counts: Numbers of patients, slices and folds.
        plan: What was decided.
        verdict: What the folds say; None without a test.
        share: Share of the way from the first weights.
        settings: The settings.
    """
    patients, slices, folds = counts
    said = f"Adapted from {base} to {', '.join(objects)} with {patients} annotated patients"
    numbers: dict[str, Any] = {}
    if verdict is not None:
        said += f"; Dice of patients that were left out {verdict.before:.3f} before, {verdict.after:.3f} after"
        numbers = {"before": verdict.before, "after": verdict.after, "mean_mask": verdict.mean_mask}
    return {
        "objects": list(objects),
        "description": f"{said}.",
        "trained_on": f"{patients} patients of the user's own, after the data of {base}",
        "adapted": {
            "from": base,
            "patients": patients,
            "slices": slices,
            "folds": folds,
            "steps": plan.steps,
            "share": share,
            "settings": {key: value for key, value in settings.identity().items() if key != "model"},
            **numbers,
        },
    }


def _of_object(scores: Sequence[CaseScore], number: int, verdict: Verdict) -> tuple[float, float, float]:
    """Return mean Dice of one object before and after, and that of the mean mask."""
    chosen = verdict.share_number
    count = len(scores)
    return (
        sum(score.before[number] for score in scores) / count,
        sum(score.after[chosen][number] for score in scores) / count,
        sum(score.mean_mask[number] for score in scores) / count,
    )


def _listed(names: Sequence[str]) -> str:
    quoted = [f"'{name}'" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
