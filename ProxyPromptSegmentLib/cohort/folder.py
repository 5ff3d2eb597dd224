"""The folder of a cohort: what is in it, what it is a cohort of, and the records of its studies.

    OUTPUT/index.html         the studies, those to look at first at the top
           summary.csv        a row for each study and structure
           results/           NAME-KEY.seg.nrrd
           reports/           NAME-KEY.json, as `segment` writes it
           thumbnails/        NAME-KEY.jpg
           cohort.json        supports, model and settings
           records/KEY.json   a study that is done: written last and once, so that what has no record is not done
           corrected/         KEY-1.json and NAME-KEY-1.seg.nrrd: what a human has corrected by hand, see `corrections`
           failed/KEY.json    a study that failed, with the reason
           inputs/            hashes of the studies' contents, so that they are read once
           claims/, shards/   who computes what, see `claims` and `shards`
           supports/          supports that were in no file, if a face without files began the cohort

KEY is a hash of the study's content and of `work`: supports, weights and settings.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ProxyPromptSegmentLib import __version__
from ProxyPromptSegmentLib.cohort.studies import FORMAT, MARK, RECORDS, Study, holds_cohort, shown
from ProxyPromptSegmentLib.cohort.writing import publish_json, read_json, readable_folder, write_json
from ProxyPromptSegmentLib.errors import OutputError, UsageError
from ProxyPromptSegmentLib.imaging.partial_files import ANY_PARTIAL
from ProxyPromptSegmentLib.imaging.paths import shortened, stem_of

SUMMARY, PAGE = "summary.csv", "index.html"
RESULTS, REPORTS, THUMBNAILS, FAILED = "results", "reports", "thumbnails", "failed"
INPUTS, CLAIMS, SHARDS, SUPPORTS, CORRECTED = "inputs", "claims", "shards", "supports", "corrected"
_FOLDERS = (RESULTS, REPORTS, THUMBNAILS, RECORDS, FAILED, INPUTS, CLAIMS, SHARDS)
_LATER = {SUPPORTS, CORRECTED, SUMMARY, PAGE}
_LONGEST_NAME = 80  # bytes of a study's own name in the names of its files


@dataclass(frozen=True)
class Files:
    """The files of a study's result."""

    result: Path
    report: Path
    thumbnail: Path


class CohortFolder:
    """A folder of one cohort.

    Attributes:
        path: The folder.
        work: Hash of supports, weights and settings.
    """

    def __init__(self, path: Path, work: str) -> None:
        """Use a folder that `begin` has made."""
        self.path, self.work = path, work

    @staticmethod
    def begin(path: Path, about: Mapping[str, Any]) -> CohortFolder:
        """Make the folder of a cohort, or open it.

        Args:
            path: A new or empty folder, or one of the same cohort.
            about: Supports, model and settings as JSON values, which make the cohort; see `work_of`.

        Raises:
            UsageError: If the folder holds another cohort.
            OutputError: If it holds something else, or cannot be written.
        """
        work = work_of(about)
        with readable_folder(path):
            path.mkdir(parents=True, exist_ok=True)
            others = {one.name for one in path.iterdir() if not one.name.startswith(".")}
        if MARK not in others:
            # Of a cohort whose damaged file was removed, all else may be there; what is done is found by its keys.
            if others and not (RECORDS in others and others <= {*_FOLDERS, *_LATER}):
                raise OutputError(
                    f"the folder {path} is not empty and holds no cohort ({shown(min(others))}, ...); choose a new or "
                    "empty folder."
                )
            publish_json(path / MARK, {"format": FORMAT, "version": 1, "program": __version__, "work": work, **about})
        there = read_json(path / MARK)
        if there is None or not _is_whole(there):
            if not holds_cohort(path):
                raise OutputError(f"{path / MARK} is another program's; choose a new or empty folder.")
            raise OutputError(
                f"{path / MARK} is damaged; remove the file, so that the cohort resumes, or choose another folder."
            )
        if there.get("work") != work:
            raise UsageError(
                f"the folder {path} holds another cohort, {_difference(there, about)}; choose another folder, or the "
                "supports, model and settings of that one."
            )
        with readable_folder(path):
            for name in _FOLDERS:
                (path / name).mkdir(exist_ok=True)
        return CohortFolder(path, work)

    @staticmethod
    def existing(path: Path) -> tuple[CohortFolder, dict[str, Any]] | None:
        """Return the cohort that a folder holds and what makes it, to look at; None if there is none that is whole."""
        there = read_json(path / MARK)
        if there is None or not _is_whole(there) or not isinstance(there.get("work"), str):
            return None
        return CohortFolder(path, there["work"]), there

    def folder(self, name: str) -> Path:
        """Return one of the folders."""
        return self.path / name

    def key_of(self, content: str) -> str:
        """Return the key of a study by the hash of its content."""
        return hashlib.sha256(f"{self.work} {content}".encode()).hexdigest()[:32]

    def files_of(self, study: Study, key: str) -> Files:
        """Return where a study's result, report and thumbnail are written."""
        name = f"{file_name(study)}-{key[:8]}"
        return Files(
            self.path / RESULTS / f"{name}.seg.nrrd",
            self.path / REPORTS / f"{name}.json",
            self.path / THUMBNAILS / f"{name}.jpg",
        )

    def record(self, key: str) -> dict[str, Any] | None:
        """Return the record of a study that is done; None if it is not, or its result is gone.

        It is that of its newest correction by hand if it has one, so that what a human has corrected stays done.
        """
        return self.correction(key) or self._read_record(self.path / RECORDS / f"{key}.json")

    def correction(self, key: str) -> dict[str, Any] | None:
        """Return the record of a study's newest correction by hand; None without one."""
        numbers = range(self._corrections(key), 0, -1)
        found = (self._read_record(self.path / CORRECTED / f"{key}-{number}.json") for number in numbers)
        return next((one for one in found if one is not None), None)

    def publish_correction(
        self, key: str, study: Study, write: Callable[[Path], None], facts: Mapping[str, Any]
    ) -> Path:
        """Write a correction by hand beside what is there, and its record, from which on it counts.

        Args:
            key: The study's key.
            study: The study.
            write: Writes the segmentation into a file that does not exist.
            facts: What the record says beside the file.

        Returns:
            The file of the segmentation.

        Raises:
            OutputError: If it cannot be written.
        """
        with readable_folder(self.path):
            (self.path / CORRECTED).mkdir(exist_ok=True)
        name, version = f"{file_name(study)}-{key[:8]}", self._corrections(key) + 1
        while (result := self.path / CORRECTED / f"{name}-{version}.seg.nrrd").exists():
            version += 1  # another program is writing it, or was killed before its record
        write(result)
        about = {**self._about(key, study), "result": _inside(self.path, result), **facts}
        while not publish_json(self.path / CORRECTED / f"{key}-{self._corrections(key) + 1}.json", about):
            pass  # another program has just corrected it, too: the last one counts
        return result

    def _corrections(self, key: str) -> int:
        """Return how many corrections of a study there are, of which the last is the newest."""
        return next(n for n in itertools.count() if not (self.path / CORRECTED / f"{key}-{n + 1}.json").exists())

    def _read_record(self, path: Path) -> dict[str, Any] | None:
        found = read_json(path)
        if found is None or not isinstance(found.get("result"), str):
            return None
        return found if (self.path / found["result"]).is_file() else None

    def failure(self, key: str) -> dict[str, Any] | None:
        """Return why a study failed; None if it did not."""
        return read_json(self.path / FAILED / f"{key}.json")

    def publish(self, key: str, study: Study, files: Files, facts: Mapping[str, Any]) -> bool:
        """Write the record of a study whose files are written: from now on it is done.

        Returns:
            Whether it was the first; False if it was done meanwhile, which claims prevent.

        Raises:
            OutputError: If it cannot be written.
        """
        content = {
            **self._about(key, study),
            "result": _inside(self.path, files.result),
            "report": _inside(self.path, files.report),
            "thumbnail": _inside(self.path, files.thumbnail),
            **facts,
        }
        path = self.path / RECORDS / f"{key}.json"
        if path.exists() and self._read_record(path) is None:  # a damaged one, or one whose result is gone
            with suppress(OSError):
                path.unlink()
        first = publish_json(path, content)
        with suppress(OSError):
            (self.path / FAILED / f"{key}.json").unlink(missing_ok=True)
        return first

    def fail(self, key: str, study: Study, reason: str, exit_code: int) -> None:
        """Write why a study failed, in place of an earlier reason.

        Raises:
            OutputError: If it cannot be written.
        """
        before = self.failure(key) or {}
        count = before.get("attempts")
        attempts = (count if isinstance(count, int) else 0) + 1
        content = {**self._about(key, study), "reason": reason, "exit_code": exit_code, "attempts": attempts}
        write_json(self.path / FAILED / f"{key}.json", content)

    def _about(self, key: str, study: Study) -> dict[str, Any]:
        created = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        about = {"format": FORMAT, "version": 1, "program": __version__, "created": created, "key": key}
        return {**about, "work": self.work, "study": study.name, "path": str(study.path)}

    def partials(self) -> list[Path]:
        """Return the files of studies that are being written now, or were when a process was killed.

        The summary and shares are not among them: a process that has no claims, or no longer, may be writing them.
        """
        places = [self.path / name for name in (RESULTS, REPORTS, THUMBNAILS, RECORDS, FAILED, INPUTS)]
        return [file for place in places for file in place.glob(ANY_PARTIAL) if file.is_file()]

    def keys(self, name: str) -> dict[str, Path]:
        """Return the files of the records or failures by their keys, without those that are being written."""
        return {path.stem: path for path in (self.path / name).glob("*.json") if not path.name.startswith(".")}

    def open_failures(self) -> dict[str, str]:
        """Return the failures there are now: when each was written, by key."""
        found = {}
        for path in self.keys(FAILED).values():
            failure = read_json(path)
            if failure is not None:
                found[path.stem] = str(failure.get("created"))
        return found


def work_of(about: Mapping[str, Any]) -> str:
    """Return the hash of supports, weights and settings; where their files lie and what they are called does not count.

    Args:
        about: ``supports`` with their hashes, ``model`` with its hash, ``settings``.
    """
    counted = {
        "supports": [_hashes(one) for one in about["supports"]],
        "model": _hashes(about["model"]),
        "settings": about["settings"],
    }
    return hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()[:32]


def _is_whole(there: Mapping[str, Any]) -> bool:
    """Return whether what a folder says of its cohort has all parts."""
    supports = there.get("supports")
    parts = (there.get("model"), there.get("settings"), *(supports if isinstance(supports, list) else [None]))
    return there.get("format") == FORMAT and all(isinstance(part, dict) for part in parts)


def _hashes(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if "sha256" in key or key == "slices"}


def _difference(there: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """Return in words what another cohort has other than this one."""
    found = []
    before, now = ([_hashes(one) for one in each.get("supports", [])] for each in (there, about))
    if before != now:
        named = ", ".join(shown(str(one.get("image", "?"))) for one in there.get("supports", [])[:3])
        found.append(f"with other supports ({named or 'none'})")
    if _hashes(there.get("model", {})) != _hashes(about["model"]):
        found.append(f"with another model or other weights ({shown(str(there.get('model', {}).get('name', '?')))})")
    old, new = there.get("settings", {}), about["settings"]
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key):
            found.append(f"with {key.replace('_', ' ')} {old.get(key)} and not {new.get(key)}")
    return ", ".join(found) or "made by another version of the program"


def file_name(study: Study) -> str:
    """Return a name for files on every system: that of the study without suffix, or its id, in plain letters."""
    own = study.path.name if study.path.is_dir() else stem_of(study.path)
    base = own if study.name.endswith(study.path.name) else study.name
    plain = re.sub(r"[^\w.+-]+", "_", base.encode("utf-8", "replace").decode("utf-8"))
    return shortened(plain.strip("._"), _LONGEST_NAME) or "study"


def _inside(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()
