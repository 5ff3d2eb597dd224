"""Damaged files of every format, given to the program with limits of memory and time, for a minute or a night.

    python Testing/benchmarks/fuzz.py [--inputs 300] [--seed 0] [--keep FOLDER] [--library]

Each file is the target, the support or the clip of ``proxyprompt segment`` or ``track``, or a model, or the user's list
of models, in a process forked for it; with ``--library`` (and where no process can be forked) images, masks, clips and
zips are only read. Counts what was read and refused, and what must not be: tracebacks, aborts, more than 60 s or 4 GiB,
another exit status than the README has, no sentence, and a wrong result. A result is known to be right or wrong where
the damage changed nothing of what is read, where it is behind a checksum, and where another package reads the file, too
(`fuzz_compare.py`): values, and origin, directions and spacing; then the damage changed one valid file into another.
What must not be is kept in the folder. The exit status is 1 if there was any.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[2]
for _name in ("OMP", "OPENBLAS", "MKL"):  # threads of libraries would not survive a fork
    os.environ.setdefault(f"{_name}_NUM_THREADS", "1")
sys.path[:0] = [str(ROOT), str(ROOT / "Testing" / "helpers")]

from fuzz_command import load_once, run_forked, surroundings, verdict, words_for  # noqa: E402  # after the path
from fuzz_library import FILE_KINDS, all_read, work  # noqa: E402

Files = list[dict[str, str]]


def read_files(files: Files, folder: Path, compare: bool = False) -> dict[str, str]:
    """Returns what the library makes of files, or how that compares with another reading."""
    return all_read(files, folder, Path(__file__), compare)


def all_run(files: Files, folder: Path, report: Path) -> dict[str, str]:
    """Returns the outcome of the command of each file; zips, which no command reads, are imported."""
    said = read_files([one for one in files if one["kind"] == "zip"], folder)
    load_once()
    with report.open("a", encoding="utf-8") as lines:
        for one in files:
            if one["kind"] == "zip":
                continue
            path, output = Path(one["path"]), folder / ("out.seq.nrrd" if one["kind"] == "frames" else "out.nrrd")
            words = words_for(one["kind"], path, folder / "corpus", output)
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                outcome = run_forked(words, output, surroundings(one["kind"], path, folder / "corpus", Path(scratch)))
            found = verdict(outcome, one["kind"])
            said[one["path"]] = f"{found} {outcome.result}" if found == "read" else found
            if found.isupper():
                said[one["path"]] += f" exit {outcome.status}: {' '.join(words)}: {outcome.said[-600:]}"
            facts = [found, outcome.status, round(outcome.seconds, 1), outcome.most_bytes >> 20, outcome.said[-300:]]
            lines.write(json.dumps([f"{path.parent.name}/{path.name}", *facts]) + "\n")
            lines.flush()
    return said


def damaged(seeds: list, folder: Path, inputs: int, random: Random) -> tuple[Files, dict[str, tuple]]:
    """Writes the damaged files; returns them, and the valid file and the first changed place of each."""
    from fuzz_corpus import mutated

    files, origin = [], {}
    for number in range(inputs):
        seed = seeds[number % len(seeds)]
        data, first = mutated(seed.path.read_bytes(), random, seed.reach)
        path = folder / f"{number}" / seed.path.name
        path.parent.mkdir()
        path.write_bytes(data)
        for beside in seed.path.parent.glob("g.raw*" if seed.path.suffix == ".nhdr" else "nothing"):
            shutil.copy(beside, path.parent)
        files.append({"path": str(path), "kind": seed.kind})
        origin[str(path)] = (seed, first)
    return files, origin


def main() -> int:
    """Makes the files, has them read, and prints the totals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--library", action="store_true", help="only read the files, which is twenty times as fast")
    for name in ("work", "compare", "corpus"):
        parser.add_argument(f"--{name}", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work or args.compare:
        work(args.work or args.compare, compare=bool(args.compare))
        return 0
    from fuzz_corpus import Seed, write_corpus

    if args.corpus:
        seeds = [dataclasses.asdict(one) | {"path": str(one.path)} for one in write_corpus(args.corpus)]
        (args.corpus / "seeds.json").write_text(json.dumps(seeds))
        return 0

    only_read = args.library or not hasattr(os, "fork")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        # In a process of its own, because ITK's threads would not survive a fork.
        subprocess.run([sys.executable, __file__, "--corpus", str(folder / "corpus")], check=True)
        listed = json.loads((folder / "corpus" / "seeds.json").read_text())
        seeds = [Seed(**one | {"path": Path(one["path"])}) for one in listed]
        if only_read:
            seeds = [one for one in seeds if one.kind in (*FILE_KINDS, "zip")]
        args.keep.mkdir(exist_ok=True)

        def outcomes(files: Files) -> dict[str, str]:
            return read_files(files, folder) if only_read else all_run(files, folder, args.keep / f"{args.seed}.jsonl")

        whole = [{"path": str(one.path), "kind": one.kind} for one in seeds]
        good = outcomes(whole)
        good_read = good if only_read else read_files(_voxels(whole), folder)
        beside = read_files(_voxels(whole), folder, compare=True)
        wrong = {path: words for path, words in good.items() if not words.startswith("read")}
        wrong |= {path: words for path, words in beside.items() if words != "same"}
        if wrong:
            print(f"the corpus itself is not read: {wrong}")
            return 1
        files, origin = damaged(seeds, folder, args.inputs, Random(args.seed))
        said = outcomes(files)
        as_read = said if only_read else read_files(_voxels(files), folder)  # what the library makes of the same files
        compared = read_files([one for one in _voxels(files) if as_read[one["path"]].startswith("read ")], folder, True)
        totals: Counter[str] = Counter()
        known: Counter[str] = Counter()
        for path, words in said.items():
            seed, first = origin[path]
            found, other = words.split(" ")[0], compared.get(path, "")
            if found == "read" and seed.kind in FILE_KINDS:
                unchanged = as_read[path] == good_read[str(seed.path)]
                if unchanged or (seed.checked and first >= seed.header):
                    known["as before the damage"] += 1
                    found = "read" if words == good[str(seed.path)] else "WRONG"
                elif other == "same":
                    known["changed validly"] += 1
                elif not other.startswith("alone"):
                    found = "WRONG"
                else:
                    known["read by the program alone"] += 1
                    print(f"{Path(path).parent.name}/{Path(path).name}: read, {other}")
                    shutil.copy(path, args.keep / f"{args.seed}-{Path(path).parent.name}-{Path(path).name}")
            if words == "refused without a sentence":
                found = "WORDLESS"
            if found == "read" and as_read.get(path, "").startswith("refused"):
                found = "DIFFERS"  # the command took what the library refuses
            totals[found] += 1
            if found.isupper():
                shutil.copy(path, args.keep / f"{args.seed}-{Path(path).parent.name}-{Path(path).name}")
                print(f"{Path(path).parent.name}/{Path(path).name}: {found} {words} {other}")
    print({**totals, "of what was read": dict(known)})
    return int(any(found.isupper() for found in totals))


def _voxels(files: Files) -> Files:
    """Returns the files that are read as voxels."""
    return [one for one in files if one["kind"] in FILE_KINDS]


if __name__ == "__main__":
    sys.exit(main())
