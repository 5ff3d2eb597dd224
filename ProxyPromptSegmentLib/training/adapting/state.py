"""The state of an adaptation on disk: what was decided and found so far as JSON, tensors as safetensors; no pickles.

Nothing in it identifies a case: cases are numbered, and their images are not stored.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ProxyPromptSegmentLib.errors import OutputError, UsageError
from ProxyPromptSegmentLib.imaging.output_files import safe_output
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind
from ProxyPromptSegmentLib.training.adapting.places import KEEPING, STATE
from ProxyPromptSegmentLib.training.adapting.result import CaseScore
from ProxyPromptSegmentLib.training.adapting.stage import StageState
from ProxyPromptSegmentLib.typed_json import JsonError, read_object

TENSORS, LOCK = "training.safetensors", ".lock"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What was decided after the first steps were timed, and stays.

    Attributes:
        steps: Steps of each training.
        variants: Augmented variants of each sheet.
        mirror: Whether variants are mirrored.
        step_seconds: Seconds of a step.
        embed_seconds: Seconds of embedding a variant.
        score_seconds: Seconds of testing a case once.
    """

    steps: int
    variants: int
    mirror: bool
    step_seconds: float
    embed_seconds: float
    score_seconds: float


@dataclass(kw_only=True)
class Found:
    """Everything found so far; keys are numbers of cases as text.

    Attributes:
        identity: What must be equal to resume.
        seconds: Seconds of all runs.
        plan: See `Plan`; None before the first steps were timed.
        before: Dice of each object before.
        mean_mask: The same of the copied mean mask.
        after: For each share, the same after.
        rows: For each share, what the slices say of themselves after, see `calibrating.Row`.
    """

    identity: dict[str, Any]
    seconds: float = 0.0
    plan: Plan | None = None
    before: dict[str, tuple[float, ...]] = field(default_factory=dict)
    mean_mask: dict[str, tuple[float, ...]] = field(default_factory=dict)
    after: dict[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)
    rows: dict[str, tuple[tuple[tuple[float, ...], ...], ...]] = field(default_factory=dict)

    def said_by(self, folds: Sequence[Sequence[int]], share: int) -> list[list[tuple[float, ...]]]:
        """Return the rows of the cases of each fold with the share of this number."""
        return [[row for case in fold for row in self.rows[str(case)][share]] for fold in folds]

    def forget_halves(self) -> None:
        """Forget tests of which a part is not stored, as in a state of an earlier version: they are made again."""
        before = [one for one in self.before if one in self.mean_mask]
        after = [one for one in self.after if len(self.after[one]) == len(self.rows.get(one, ()))]
        self.before = {one: self.before[one] for one in before}
        self.mean_mask = {one: self.mean_mask[one] for one in before}
        self.after = {one: self.after[one] for one in after}
        self.rows = {one: self.rows[one] for one in after}

    def scores(self, names: Sequence[str]) -> tuple[CaseScore, ...]:
        """Return the scores so far of the cases of these names."""
        return tuple(
            CaseScore(
                case=number,
                name=name,
                before=self.before[str(number)],
                mean_mask=self.mean_mask[str(number)],
                after=self.after.get(str(number), ()),
            )
            for number, name in enumerate(names)
            if str(number) in self.before
        )


@dataclass
class _File(Found):
    """The state's file."""

    format: int = 0  # as if of another version, where it is not said


class AdaptState:
    """The state in one folder, which only one program uses at a time.

    Attributes:
        folder: The folder.
        found: See `Found`.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        """Begin, or continue what the folder holds.

        Raises:
            UsageError: If it holds the state of another adaptation.
        """
        self.folder = folder
        self.found = self._read(json.loads(json.dumps(identity)))

    def _read(self, identity: dict[str, Any]) -> Found:
        path = self.folder / STATE
        if not path.is_file():
            return Found(identity=identity)
        try:
            stored = read_object(_File, json.loads(path.read_text(encoding="utf-8")))
            if stored.format != FORMAT:
                raise JsonError(f"its format is {stored.format}, this version has {FORMAT}")
        except (OSError, ValueError, RecursionError) as error:
            raise UsageError(
                f"the state of an adaptation in {self.folder} cannot be used: {error}.",
                Remedy(kind=RemedyKind.CHOOSE_NAME),
            ) from None
        if stored.identity != identity:
            raise UsageError(
                f"{_differs(stored.identity, identity)}; its state is in {self.folder}.",
                Remedy(kind=RemedyKind.CHOOSE_NAME),
            )
        found = Found(**{item.name: getattr(stored, item.name) for item in fields(Found)})
        found.forget_halves()
        return found

    def save(self) -> None:
        """Write what was found.

        Raises:
            OutputError: If it cannot be written.
        """
        with safe_output(self.folder / STATE) as partial:
            partial.write_text(json.dumps({"format": FORMAT, **asdict(self.found)}, indent=1) + "\n", encoding="utf-8")

    def save_training(self, stage: int, state: StageState) -> None:
        """Write the tensors of a training, in one piece or not at all.

        Raises:
            OutputError: If they cannot be written.
        """
        tensors = {name: value.cpu().contiguous() for name, value in state.tensors.items()}
        about = json.dumps({"stage": stage, "step": state.step, "of": self._digest})
        with safe_output(self.folder / TENSORS) as partial:
            try:
                save_file(tensors, partial, {"about": about})
            except SafetensorError as error:
                raise OSError(str(error)) from error

    def training(self, stage: int) -> StageState | None:
        """Return the state of a training; None if none of this stage and of these cases is stored."""
        path = self.folder / TENSORS
        if not path.is_file():
            return None
        try:
            with safe_open(str(path), framework="pt") as file:
                about = json.loads((file.metadata() or {})["about"])
                if about["stage"] != stage or about["of"] != self._digest:
                    return None
                tensors: dict[str, torch.Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                return StageState(int(about["step"]), tensors)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError):
            return None  # begun again from its first step, which gives the same

    @property
    def _digest(self) -> str:
        """Hash of what must be equal to resume: tensors whose `STATE` is lost may be of other cases."""
        return hashlib.sha256(json.dumps(self.found.identity, sort_keys=True).encode("utf-8")).hexdigest()

    def remove_training(self) -> None:
        """Remove the tensors of a training, which are large; what was found stays."""
        (self.folder / TENSORS).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the state."""
        remove_state(self.folder)


def _differs(stored: dict[str, Any], now: dict[str, Any]) -> str:
    """Return why a state is not continued: its version, which decides alone, or else what it was begun with."""
    versions = stored.get("version", "unknown"), now.get("version")
    if versions[0] != versions[1]:
        return (
            f"an adaptation of this name was begun by version {versions[0]} of the program, and version {versions[1]} "
            "does not continue it, because they may compute differently: finish it with that version, or begin again"
        )
    keys = sorted(key for key in stored.keys() | now if stored.get(key) != now.get(key))
    return f"an adaptation of this name was begun with other {' and '.join(_words(key, stored, now) for key in keys)}"


def _words(key: str, stored: dict[str, Any], now: dict[str, Any]) -> str:
    """Return the name of something that differs; of settings each with its value then."""
    then, this = stored.get(key), now.get(key)
    if not (isinstance(then, dict) and isinstance(this, dict)):
        return key
    names = sorted(name for name in then.keys() | this if then.get(name) != this.get(name))
    return f"{key} ({', '.join(f'{name} was {then.get(name)}, now {this.get(name)}' for name in names)})"


def remove_state(folder: Path) -> None:
    """Remove the state of an adaptation and what a killed one left half-written; nothing else is touched."""
    for left in (*folder.glob(f".{Path(STATE).stem}.partial-*"), *folder.glob(f".{Path(TENSORS).stem}.partial-*")):
        left.unlink(missing_ok=True)
    for left in folder.glob(f"{KEEPING}*"):
        shutil.rmtree(left, ignore_errors=True)
    for name in (TENSORS, STATE):  # the last one says what the others belong to
        (folder / name).unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a state's folder, which is removed afterwards if nothing is left in it.

    Raises:
        UsageError: If another program holds it.
        OutputError: If it cannot be created.
    """
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK)
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(
            "another program is adapting a model of this name; wait for it.", Remedy(kind=RemedyKind.CHOOSE_NAME)
        ) from None
    except OSError as error:
        raise OutputError(f"the folder {folder} cannot be written: {error}; change its permissions.") from None
    try:
        yield
    finally:
        lock.release()
        if not (folder / STATE).exists():
            with suppress(OSError):  # something of the caller's lies in it
                (folder / LOCK).unlink(missing_ok=True)
                folder.rmdir()
