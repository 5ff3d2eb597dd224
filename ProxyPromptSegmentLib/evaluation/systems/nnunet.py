"""A bridge to nnU-Net v2 where it is installed: its own programs in processes and folders of their own.

It is no requirement of this program. Its trainings are counted in epochs, for a few numbers of which it has trainers: a
training of one epoch is timed, and the longest that the seconds of a lesson allow follows. These are seconds by the
clock, since its processes are others.

References:
    Isensee et al., nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation, 2021.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.errors import CancelledError, ProxyPromptError, UsageError
from ProxyPromptSegmentLib.evaluation.systems.nnunet_files import (
    ENDING,
    NUMBER,
    PREPROCESSED,
    RAW,
    RESULTS,
    Classes,
    read_labels,
    write_images,
    write_set,
)
from ProxyPromptSegmentLib.evaluation.systems.registered import LEAST_SLICES
from ProxyPromptSegmentLib.evaluation.systems.system import Fitted, Kind, Lesson
from ProxyPromptSegmentLib.evaluation.tracking import SWEEPS
from ProxyPromptSegmentLib.progress import CancelToken

FEW, ALL = "nnU-Net", "nnU-Net on all training cases"
PLAN, TRAIN, PREDICT = "nnUNetv2_plan_and_preprocess", "nnUNetv2_train", "nnUNetv2_predict"
WHERE = "PROXYPROMPT_NNUNET"
"""Variable of the environment with the folder of nnU-Net's programs, if they are not on the path."""

EPOCHS = (1, 5, 10, 20, 50, 100, 250, 1000)
"""Lengths for which nnU-Net has trainers; the last one is its default."""

_EPOCH = re.compile(r"Epoch (\d+)")
_POLL, _PATIENCE, _TAIL = 0.1, 5.0, 600  # seconds between looks, seconds until a process is killed, characters


@dataclass(frozen=True)
class NnUnet:
    """NnU-Net on the few cases or on all of the set.

    Attributes:
        full: Whether it learns from all training cases.
        epochs: Length of the training, one of `EPOCHS`; None for the longest that the seconds allow.
        device: ``cpu``, ``cuda`` or ``mps``.
        folder: Where its files are kept; by default a temporary folder that goes with the result.
    """

    full: bool = False
    epochs: int | None = None
    device: str = "cpu"
    folder: Path | None = None

    @property
    def name(self) -> str:
        """Its name in the tables."""
        return ALL if self.full else FEW

    @property
    def kind(self) -> Kind:
        """How it knows what to segment."""
        return Kind.FULL if self.full else Kind.FEW

    @property
    def source(self) -> str:
        """Where the method is published."""
        length = "as many epochs as the seconds allow" if self.epochs is None else f"{self.epochs} epochs"
        return f"Isensee et al. 2021, nnU-Net v2 as installed, {length}, fold all"

    def fit(
        self, lesson: Lesson, progress: Callable[[float], None] | None = None, cancel: CancelToken | None = None
    ) -> Fitted:
        """Write the cases, plan, preprocess and train.

        Raises:
            UsageError: If nnU-Net is not installed, the number of epochs does not exist, or the table gives no cases.
            InputError: If the cases cannot be learned together.
            CancelledError: If it was cancelled.
            ProxyPromptError: If one of its programs fails.
        """
        programs = installed()
        if self.epochs is not None and self.epochs not in EPOCHS:
            raise UsageError(f"nnU-Net has no trainer of {self.epochs} epochs; choose one of {EPOCHS}.")
        cases = lesson.full if self.full else lesson.few
        if not cases:
            raise UsageError(f"'{self.name}' was given no training cases; leave this row out of the table.")
        kept = None if self.folder is not None else tempfile.TemporaryDirectory(prefix="nnunet-")
        root = self.folder or Path(kept.name if kept else "")
        classes = write_set(root, cases)
        volumes = all(len(case.images) >= LEAST_SLICES and case.dataset not in SWEEPS for case in cases)
        configuration, first = "3d_fullres" if volumes else "2d", self.epochs or EPOCHS[0]
        run = _Runs(programs, root, configuration, first, self.device, lesson.threads, kept)
        began = time.monotonic()
        run.plan(cancel)
        planned = time.monotonic()
        run.train(None if self.epochs is None else progress, cancel)
        if self.epochs is None:
            now = time.monotonic()
            longest = affordable(lesson.seconds - (now - began), now - planned)
            if longest > run.epochs:
                run = replace(run, epochs=longest)
                run.train(progress, cancel)
        return _Trained(run, classes)


def affordable(left: float, epoch: float) -> int:
    """Return the longest training that the time that is left allows, at least one epoch.

    Args:
        left: Seconds that are left.
        epoch: Seconds of a training of one epoch.
    """
    return max((count for count in EPOCHS if count * epoch <= left), default=EPOCHS[0])


def installed() -> dict[str, str]:
    """Return the paths of nnU-Net's programs by name.

    Raises:
        UsageError: If one is missing; it says how to install them.
    """
    folder = os.environ.get(WHERE)
    found = {name: shutil.which(name, path=folder) for name in (PLAN, TRAIN, PREDICT)}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        where = f"in {folder}" if folder else "on the path"
        raise UsageError(
            f"nnU-Net v2 is not installed: there is no program {missing[0]} {where}. Install the package nnunetv2 into "
            f"an environment of its own and set {WHERE} to the folder of its programs (bin in it; on Windows Scripts), "
            "or leave its row out."
        )
    return {name: str(path) for name, path in found.items()}


@dataclass(frozen=True, eq=False)
class _Runs:
    """The processes of one training, in one folder."""

    programs: dict[str, str]
    root: Path
    configuration: str
    epochs: int
    device: str
    threads: int
    kept: tempfile.TemporaryDirectory[str] | None  # removed with the last who uses it

    def plan(self, cancel: CancelToken | None) -> None:
        arguments = ["-d", str(NUMBER), "-c", self.configuration, "-np", "1", "-npfp", "1"]
        self._run(PLAN, arguments, cancel)

    def train(self, progress: Callable[[float], None] | None, cancel: CancelToken | None) -> None:
        arguments = [str(NUMBER), self.configuration, "all", "-tr", self._trainer, "-device", self.device]
        self._run(TRAIN, arguments, cancel, progress)

    def predict(self, source: Path, target: Path) -> None:
        arguments = ["-i", str(source), "-o", str(target), "-d", str(NUMBER), "-c", self.configuration, "-f", "all"]
        arguments += ["-tr", self._trainer, "-device", self.device, "-npp", "1", "-nps", "1"]
        self._run(PREDICT, arguments)

    @property
    def _trainer(self) -> str:
        if self.epochs == EPOCHS[-1]:
            return "nnUNetTrainer"
        return f"nnUNetTrainer_{self.epochs}epoch{'' if self.epochs == 1 else 's'}"

    def _run(
        self,
        program: str,
        arguments: list[str],
        cancel: CancelToken | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        """Run a program until it ends or is cancelled; what it prints goes into a file in the folder."""
        log = self.root / f"{program}.log"
        own = {name: str(self.root / name) for name in (RAW, PREPROCESSED, RESULTS)}
        for place in own.values():
            Path(place).mkdir(parents=True, exist_ok=True)
        threads = str(max(1, self.threads))  # nnU-Net refuses 0
        own |= {"nnUNet_n_proc_DA": threads, "nnUNet_compile": "f", "OMP_NUM_THREADS": threads}
        with log.open("w", encoding="utf-8") as out:
            process = subprocess.Popen(
                [self.programs[program], *arguments],
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=os.environ | own,
                start_new_session=os.name == "posix",
            )
        try:
            while process.poll() is None:
                if cancel is not None and cancel.cancelled:
                    raise CancelledError(f"nnU-Net was cancelled while {program} ran")
                time.sleep(_POLL)
                if progress is not None:
                    progress(min(1.0, _epochs_in(log) / self.epochs))
        finally:
            _end(process)
        if process.returncode:
            said = log.read_text(encoding="utf-8", errors="replace").strip()[-_TAIL:]
            raise ProxyPromptError(
                f"nnU-Net's program {program} failed with code {process.returncode}: {said}. Check its installation, "
                "or leave its row out."
            )


def _epochs_in(log: Path) -> int:
    """Return how many epochs a log says are done."""
    said = _EPOCH.findall(log.read_text(encoding="utf-8", errors="replace"))
    return int(said[-1]) if said else 0


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process with those that it started, gently first."""
    if process.poll() is not None:
        return
    for how in (signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
        if os.name == "posix":
            os.killpg(process.pid, how)
        else:
            process.terminate()
        try:
            process.wait(_PATIENCE)
            return
        except subprocess.TimeoutExpired:
            continue


@dataclass(frozen=True, eq=False)
class _Trained:
    run: _Runs
    classes: Classes

    def segment(self, case: Case) -> np.ndarray:
        """Predict every slice; uint8 ``(S, N, H, W)``."""
        with tempfile.TemporaryDirectory(dir=self.run.root) as own:
            source, target = Path(own) / "images", Path(own) / "labels"
            write_images(source, "target", case)
            target.mkdir()
            self.run.predict(source, target)
            return self.classes.masks(read_labels(target / f"target{ENDING}"))
