"""The test files that pydicom, nibabel and slicerio install: read as those packages read them, or refused in words."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("pydicom", reason="pydicom is not installed")

from peer_readings import compare, package_files

RIGHT_AT_LEAST = {"pydicom": 97, "nibabel": 4, "slicerio": 3}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("package", RIGHT_AT_LEAST)
def test_no_file_is_read_wrongly_without_a_word(package: str, tmp_path: Path) -> None:
    pytest.importorskip(package, reason=f"{package} is not installed")
    verdicts = {}
    for n, file in enumerate(package_files(package)):
        folder = tmp_path / str(n)  # alone: others of the folder may belong to the same series
        folder.mkdir()
        verdicts[f"{n} {file.name}"] = compare(package, Path(shutil.copy(file, folder)))
    assert not {name: words for name, (verdict, words) in verdicts.items() if verdict == "WRONG"}
    assert all(words for verdict, words in verdicts.values() if verdict == "refused")
    assert sum(verdict == "right" for verdict, _ in verdicts.values()) >= RIGHT_AT_LEAST[package]
