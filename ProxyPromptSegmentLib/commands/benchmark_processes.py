"""Rows of the table of speed about whole processes: the start of a command, and the estimates of a run."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.evaluation.speed_table.row import Goal, Row
from ProxyPromptSegmentLib.evaluation.speed_table.subjects import SIDE
from ProxyPromptSegmentLib.evaluation.speed_table.timing import PROCESSOR, WALL
from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom
from ProxyPromptSegmentLib.imaging.segmentations import write_segmentation
from ProxyPromptSegmentLib.imaging.volumes import write_volume

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.evaluation.speed_table.table import Plan

PROGRAM = (sys.executable, "-m", "ProxyPromptSegmentLib")
SMALL = (12, 64, 64)  # slices, rows and columns of a study
STARTED = 2.0  # processor seconds of a start, at most
NO_PROCESS_TIMES = "the system does not say how much processor time a process took"


@dataclass(frozen=True)
class Usage:
    """What a process took.

    Attributes:
        seconds: Processor time.
        peak_bytes: Largest resident memory.
    """

    seconds: float
    peak_bytes: int


def took(words: Sequence[object], environ: dict[str, str] | None = None) -> Usage:
    """Run a process to its end; return what it took.

    Raises:
        InputError: If it failed.
    """
    process = subprocess.Popen(
        [str(word) for word in words],
        env={**os.environ, **(environ or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 9):  # 9: done, and nothing was found
        raise InputError(f"a measured process ended with {process.returncode}: {' '.join(map(str, words))[:300]}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Usage(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit)


def write_case(folder: Path, name: str, seed: int, size: tuple[int, int, int] = SMALL) -> tuple[Path, Path]:
    """Write a drawn image and its segmentation; return their paths."""
    image, marks = folder / f"{name}.nrrd", folder / f"{name}.seg.nrrd"
    volume, segmentation = pelvis_phantom(seed, size)
    write_volume(image, volume)
    write_segmentation(marks, segmentation)
    return image, marks


def start_rows(plan: Plan) -> list[Row]:
    """Return the rows of ``segment`` on one slice of a small image, against the import of PyTorch alone."""
    what, against = "segment on one slice of a small image, a whole process", "a process that imports PyTorch alone"
    if not hasattr(os, "wait4"):
        return [Row(what=what, against=against, device="cpu", skipped=NO_PROCESS_TIMES)]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        support, new = write_case(folder, "old", 1), write_case(folder, "new", 2)[0]
        middle = SMALL[0] // 2
        words = [
            *PROGRAM, "segment", "--support", *support, "--target", new, "--slices", str(middle), "--device", "cpu",
            "--model", plan.model, "--output", folder / "out.seg.nrrd", "--force", "--quiet",
        ]  # fmt: skip
        imports = [sys.executable, "-c", "import torch"]
        # Bytecode is stored by the first call of each, as where the program is installed.
        stored = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
        kept = {"PROXYPROMPT_SUPPORTS": str(folder / "supports"), **stored}
        took(words, kept), took(imports, stored)
        pairs = [(took(words, kept).seconds, took(imports, stored).seconds) for _ in range(plan.repeats)]
    whole, alone = (tuple(column) for column in zip(*pairs, strict=True))
    return [
        Row(
            what=what,
            against=against,
            device="cpu",
            ratios=tuple(one / other for one, other in pairs),
            seconds=(statistics.median(whole), statistics.median(alone)),
            clock=PROCESSOR,
        ),
        Row(
            what=what,
            against=f"{STARTED:g} seconds of processor time",
            device="cpu",
            goal=Goal(most=1.0),
            ratios=tuple(one / STARTED for one in whole),
            seconds=(statistics.median(whole), STARTED),
            clock=PROCESSOR,
        ),
    ]


def estimate_rows(plan: Plan) -> list[Row]:
    """Return the rows of what a run was estimated to take after its first batches, against what it took."""
    what = f"{{}} of a run over {plan.slices} slices, estimated after its first batches"
    against, goal = "what was measured at its end, the whole process", Goal(least=0.75, most=1.25)
    time_row = Row(what=what.format("time"), against="what its task took", device="cpu", goal=goal, clock=WALL)
    memory = Row(what=what.format("memory"), against=against, device="cpu", goal=goal, clock="bytes")
    if not hasattr(os, "wait4"):
        return [replace(row, skipped=NO_PROCESS_TIMES) for row in (time_row, memory)]
    seconds, sizes = [], []
    with tempfile.TemporaryDirectory() as place:
        folder, report = Path(place), Path(place) / "report.json"
        size = (max(plan.slices, 8), SIDE, SIDE)
        support, new = write_case(folder, "old", 1, size), write_case(folder, "new", 2, size)[0]
        words = [
            *PROGRAM, "segment", "--support", *support, "--target", new, "--device", "cpu", "--model", plan.model,
            "--output", folder / "out.seg.nrrd", "--report", report, "--force", "--quiet",
        ]  # fmt: skip
        for _ in range(plan.repeats):
            used = took(words, {"PROXYPROMPT_SUPPORTS": "off"})
            said = json.loads(report.read_text(encoding="utf-8"))
            seconds.append((said["estimated"]["seconds"], said["task_seconds"]))
            sizes.append((said["estimated"]["memory_bytes"], used.peak_bytes))
    found = [compared(row, *zip(*pairs, strict=True)) for row, pairs in ((time_row, seconds), (memory, sizes))]
    return [found[0], replace(found[1], seconds=(), more={"bytes": list(found[1].seconds)})]


def compared(row: Row, first: Sequence[float], second: Sequence[float]) -> Row:
    """Return a row with the ratios of what was measured in turns."""
    ratios = tuple(one / other for one, other in zip(first, second, strict=True))
    return replace(row, ratios=ratios, seconds=(statistics.median(first), statistics.median(second)))


ROWS: dict[str, Callable[[Plan], list[Row]]] = {"start": start_rows, "estimate": estimate_rows}
DEFAULT_ROWS = ("start", "estimate")
