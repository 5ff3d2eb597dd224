"""Shares of the studies for tasks that start whenever they like, such as those of a SLURM array.

What is open is split once: by the first task that starts, whose plan the others follow, so that each study belongs to
one share whatever is done meanwhile. When the share of a task is done and others are not, as after a crash, or studies
were added, a task that starts makes the next plan, of what is open then. Shares of different plans may overlap; claims
see to it that no study is computed twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ProxyPromptSegmentLib.cohort.writing import publish_json, read_json


class Shards:
    """The plans of a cohort's folder for one number of shares."""

    def __init__(self, folder: Path, index: int, count: int) -> None:
        """Take share ``index`` (from 1) of ``count``."""
        self._folder, self._index, self._count = folder, index, count
        self._followed = 0

    def first(self, still_open: Sequence[str]) -> set[str]:
        """Return the own share for a task that starts.

        Args:
            still_open: Identifiers of the studies that are open now, in an order that all tasks agree on.

        Raises:
            OutputError: If a plan cannot be written.
        """
        wanted = set(still_open)
        number = self._last()
        planned = self._read(number)
        if wanted and not (wanted <= set(planned) and self._own(planned) & wanted):
            publish_json(self._path(number + 1), {"studies": list(still_open)})  # if another was faster, its plan holds
            number = self._last()
            planned = self._read(number)
        self._followed = number
        return self._own(planned) & wanted

    def _own(self, planned: list[str]) -> set[str]:
        return set(planned[self._index - 1 :: self._count])

    def next(self, still_open: Iterable[str]) -> set[str]:
        """Return the own share of a plan that another task made meanwhile; nothing if there is none."""
        number = self._last()
        if number <= self._followed:
            return set()
        self._followed = number
        return self._own(self._read(number)) & set(still_open)

    def _path(self, number: int) -> Path:
        return self._folder / f"of-{self._count}-{number:06d}.json"

    def _last(self) -> int:
        """Return the number of the last plan; 0 if there is none."""
        names = sorted(path.stem for path in self._folder.glob(f"of-{self._count}-*.json"))
        return int(names[-1].rpartition("-")[2]) if names else 0

    def _read(self, number: int) -> list[str]:
        content = read_json(self._path(number)) if number else None
        studies = [] if content is None else content.get("studies")
        return [str(one) for one in studies] if isinstance(studies, list) else []
