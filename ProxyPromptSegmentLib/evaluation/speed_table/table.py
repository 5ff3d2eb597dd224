"""The table of speed: which rows there are, how they are measured, and how they are shown."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ProxyPromptSegmentLib import __version__
from ProxyPromptSegmentLib.evaluation.speed_table import prompt_rows, subjects
from ProxyPromptSegmentLib.evaluation.speed_table.row import Goal, Row
from ProxyPromptSegmentLib.evaluation.speed_table.timing import load

OFFICIAL = {"vit-b": "sam-vit-b", "hiera-t": "sam2.1-hiera-tiny"}
FEW = 3  # slices of official sizes on a processor
STUDIES = 24  # of a cohort


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How the table is measured.

    Attributes:
        model: Name or path of the compact model.
        tracking: Name or path of the model that tracks.
        devices: Where rows are measured.
        repeats: Number of repetitions.
        slices: Slices of the volume.
        studies: Studies of the cohort.
    """

    model: str
    tracking: str
    devices: tuple[str, ...]
    repeats: int
    slices: int
    studies: int = STUDIES


Maker = Callable[[Plan, str], "list[Row]"]


def _volume(plan: Plan, device: str) -> list[Row]:
    segmenter, target = subjects.as_loaded(plan.model, device), subjects.target(plan.slices)
    return prompt_rows.volume_rows(segmenter, target, plan.repeats, Goal(most=1.5), Goal(most=0.35))


def _objects(plan: Plan, device: str) -> list[Row]:
    segmenter, target = subjects.as_loaded(plan.model, device), subjects.target(plan.slices).first(8)
    return prompt_rows.object_rows(segmenter, target, plan.repeats)


def _supports(plan: Plan, device: str) -> list[Row]:
    segmenter, target = subjects.as_loaded(plan.model, device), subjects.target(plan.slices).first(8)
    return prompt_rows.support_rows(segmenter, target, plan.repeats)


def _before(plan: Plan, device: str) -> list[Row]:
    segmenter, target = subjects.as_loaded(plan.model, device), subjects.target(plan.slices).first(8)
    return prompt_rows.before_rows(plan.model, segmenter, target, plan.repeats)


def _official(name: str) -> Maker:
    def rows(plan: Plan, device: str) -> list[Row]:
        segmenter = subjects.with_random_weights(OFFICIAL[name], device)
        target = subjects.target(min(plan.slices, FEW) if device == "cpu" else plan.slices)
        return prompt_rows.volume_rows(segmenter, target, plan.repeats, Goal(most=1.05), Goal(most=0.10))

    return rows


def _half(plan: Plan, device: str) -> list[Row]:
    if device == "cpu":
        return [
            Row(
                what="sam-vit-b in half precision",
                against="frozen encoder and decoder alone in single precision",
                device="cuda",
                goal=Goal(most=0.5),
                skipped="it is measured on a graphics card, of which PyTorch finds none or none was asked for",
            )
        ]
    segmenter = subjects.with_random_weights(OFFICIAL["vit-b"], device)
    return prompt_rows.half_rows(segmenter, subjects.target(plan.slices), plan.repeats)


def _tracker(plan: Plan, device: str) -> list[Row]:
    from ProxyPromptSegmentLib.evaluation.speed_table import tracker_rows

    return tracker_rows.tracker_rows(subjects.as_loaded(plan.tracking, device), plan.repeats)


def _tracker_memory(plan: Plan, device: str) -> list[Row]:
    from ProxyPromptSegmentLib.evaluation.speed_table import tracker_rows

    return tracker_rows.memory_rows(subjects.as_loaded(plan.tracking, device))


ROWS: dict[str, Maker] = {
    "volume": _volume,
    "objects": _objects,
    "supports": _supports,
    "before": _before,
    "tracker": _tracker,
    "half": _half,
    "vit-b": _official("vit-b"),
    "hiera-t": _official("hiera-t"),
    "tracker-memory": _tracker_memory,
}
DEFAULT_ROWS = ("volume", "objects", "supports", "before", "tracker", "half")
"""Those that take about five minutes on two cores."""


def measure(plan: Plan, name: str) -> list[Row]:
    """Measure the rows of one name on each device."""
    if name == "half":  # a row of graphics cards alone
        return ROWS[name](plan, next((one for one in plan.devices if one != "cpu"), "cpu"))
    return [row for device in plan.devices for row in ROWS[name](plan, device)]


def machine(devices: Iterable[str]) -> dict[str, Any]:
    """Return hardware, versions and load, as JSON values."""
    import torch

    cards = [torch.cuda.get_device_name(device) for device in devices if device.startswith("cuda")]
    return {
        "processor": _processor(),
        "cores": _cores(),
        "threads": torch.get_num_threads(),
        "graphics": cards,
        "load": load(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "program": __version__,
    }


def to_markdown(rows: Sequence[Row], about: dict[str, Any]) -> str:
    """Return the table with what was measured where."""
    cards = ", ".join(about["graphics"]) or "no graphics card"
    text = [
        f"{about['processor']}, {about['cores']} cores, "
        f"{about['threads']} threads of PyTorch {about['torch']}, {cards}; "
        f"load {about['load_before']} before and {about['load']} after; {about['repeats']} repetitions in turns. "
        "Ratios are of processor time on a CPU and of wall-clock time on a card, as are estimates of time.",
        "",
        "| what | against | device | ratio, median [quartiles] | goal | met | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row.skipped:
            text.append(f"| {row.what} | {row.against} | {row.device} | skipped: {row.skipped} | {row.goal} | | |")
            continue
        low, high = row.spread
        met = "" if not str(row.goal) else "yes" if row.goal.met(row.ratio) else "no"
        seconds = " / ".join(f"{value:.3g}" for value in row.seconds)
        what = f"{row.what}; {row.notes}" if row.notes else row.what
        text.append(
            f"| {what} | {row.against} | {row.device} | {row.ratio:.2f} [{low:.2f}, {high:.2f}] | {row.goal} | {met} | "
            f"{seconds} |"
        )
    return "\n".join(text) + "\n"


def _processor() -> str:
    """Return the processor's name."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            named = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        named = []
    return named[0] if named else platform.processor() or platform.machine()


def _cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
