"""An archive of small studies, a support, and the words that segment the one by the other."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from command_cases import a_case, write_case
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.imaging.volumes import write_volume


class Archive:
    """A folder with ``studies``, a support beside it, and an output folder."""

    def __init__(self, folder: Path, model: str, count: int = 3) -> None:
        self.folder, self.model = folder, model
        self.studies, self.output = folder / "studies", folder / "out"
        self.studies.mkdir()
        self.support, self.marks = write_case(folder, "old", a_case(1))
        for number in range(count):
            self.add(f"case{number}.nrrd", 10 + number)

    def add(self, name: str, seed: int) -> Path:
        """Write a study; its folders are made."""
        path = self.studies / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_volume(path, a_case(seed)[0])
        return path

    def words(self, *more: object, studies: Path | None = None, output: Path | None = None) -> list[str]:
        words = ["cohort", studies or self.studies, "--support", self.support, self.marks, "--model", self.model]
        words += ["--output", output or self.output, "--device", "cpu", "--each-slice-alone", "--no-register"]
        return [str(word) for word in (*words, *more)]

    def run(self, *more: object, **changed: Path) -> int:
        return main(self.words(*more, **changed))

    def records(self, name: str = "records") -> list[dict]:
        return [json.loads(path.read_text()) for path in sorted((self.output / name).glob("[!.]*.json"))]

    @property
    def results(self) -> list[str]:
        return sorted(path.name for path in (self.output / "results").iterdir())

    def rows(self) -> list[dict[str, str]]:
        text = (self.output / "summary.csv").read_text(encoding="utf-8")
        return list(csv.DictReader(io.StringIO(text)))

    @property
    def page(self) -> str:
        return (self.output / "index.html").read_text(encoding="utf-8")

    def leftovers(self) -> list[str]:
        """What a run should have removed: claims, signs of life and files that were being written."""
        found = [path.name for path in (self.output / "claims").iterdir()]
        return found + [path.name for path in self.output.rglob(".*")]
