"""How the program reads the test files that pydicom, nibabel and slicerio install, against those packages' own reading.

    python Testing/benchmarks/peer_files.py [--verbose]

Prints ``right``, ``refused`` (with the sentence) or ``WRONG`` for each file. Each is read alone, from a folder of its
own.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1] / "helpers")]

from peer_readings import compare, package_files


def main() -> None:
    """Prints a line for each file and the totals."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--verbose", action="store_true", help="print what is right, too")
    verbose = parser.parse_args().verbose
    warnings.simplefilter("ignore")
    totals: dict[str, Counter[str]] = {}
    for package in ("pydicom", "nibabel", "slicerio"):
        totals[package] = Counter()
        for file in package_files(package):
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(folder) / file.name
                shutil.copy(file, copy)
                verdict, words = compare(package, copy)
            totals[package][verdict] += 1
            if verbose or verdict != "right":
                print(f"{package} {file.name}: {verdict} {words}", flush=True)
    for package, counts in totals.items():
        print(package, dict(counts))


if __name__ == "__main__":
    main()
