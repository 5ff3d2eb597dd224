"""Damaged files of every format, given to the program with limits of memory and time, for a minute or a night.

    python Testing/benchmarks/fuzz.py [--inputs 300] [--seed 0] [--keep FOLDER] [--library]

Each file is the target, the support or the clip of ``proxyprompt segment`` or ``track``, in a process forked for it;
with ``--library`` (and where no process can be forked) it is only read. Counts what was read and refused, and what must
not be: tracebacks, aborts, more than 60 s or 4 GiB, another exit status than the README has, no sentence, and a result
that differs although the damage is behind a checksum or changed nothing of what is read. What must not be is kept in
the folder. The exit status is 1 if there was any.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[2]
for _name in ("OMP", "OPENBLAS", "MKL"):  # threads of libraries would not survive a fork
    os.environ.setdefault(f"{_name}_NUM_THREADS", "1")
sys.path[:0] = [str(ROOT), str(ROOT / "Testing" / "helpers")]

from fuzz_command import MOST_BYTES, MOST_SECONDS, load_once, run_forked, verdict, words_for  # noqa: E402  # after the path


def read(path: Path, kind: str) -> str:
    """Reads a file as the program does; returns ``read`` with a hash, or ``refused``."""
    import hashlib

    from ProxyPromptSegmentLib.errors import ProxyPromptError
    from ProxyPromptSegmentLib.frames import open_frames
    from ProxyPromptSegmentLib.imaging.segmentations import read_segmentation
    from ProxyPromptSegmentLib.imaging.volumes import read_volume
    from ProxyPromptSegmentLib.library.archive import import_zip
    from ProxyPromptSegmentLib.library.store import SupportLibrary

    digest = hashlib.sha256()
    try:
        if kind == "zip":
            with tempfile.TemporaryDirectory() as folder:
                answers = import_zip(SupportLibrary(folder), path)
            if any(answer.entry is None for answer in answers):
                return "refused"
            digest.update(b"taken")
        elif kind == "mask":
            marked = read_segmentation(path)
            digest.update(repr((marked.geometry, marked.names)).encode())
            for segment in marked.segments:
                digest.update(segment.mask.tobytes())
        elif kind == "frames":
            source = open_frames(path)
            digest.update(repr((source.geometry, source.index)).encode())
            for _, frame in source:
                digest.update(getattr(frame, "tobytes", lambda: b"bad")())
        else:
            volume = read_volume(path)
            digest.update(repr(volume.geometry).encode())
            digest.update(volume.array.tobytes())
    except ProxyPromptError as error:
        said = str(error)
        return "refused" if said and "\n" not in said else "refused without a sentence"
    except MemoryError:
        return "refused"  # one sentence of the command: memory ran out
    return f"read {digest.hexdigest()}"


def work(listed: Path) -> None:
    """Reads the files of a list, one after the other, and reports the outcome of each."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    signal.signal(signal.SIGALRM, lambda *_: os._exit(99))
    warnings.simplefilter("ignore")
    for one in json.loads(listed.read_text()):
        signal.alarm(MOST_SECONDS)
        try:
            said = read(Path(one["path"]), one["kind"])
        except Exception as error:  # noqa: BLE001  # that is what is looked for
            said = f"TRACEBACK {type(error).__name__}: {str(error)[:200]}"
        signal.alarm(0)
        sys.stdout.write(json.dumps([one["path"], said]) + "\n")
        sys.stdout.flush()


def all_read(files: list[dict[str, str]], folder: Path) -> dict[str, str]:
    """Returns the outcome of each file; a process that dies is replaced."""
    said: dict[str, str] = {}
    while left := [one for one in files if one["path"] not in said]:
        listed = folder / "list.json"
        listed.write_text(json.dumps(left))
        done = subprocess.run(
            [sys.executable, __file__, "--work", str(listed)], capture_output=True, check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
        for line in done.stdout.decode("utf-8", "replace").splitlines():
            if line.startswith("["):
                path, words = json.loads(line)
                said[path] = words
        rest = [one["path"] for one in left if one["path"] not in said]
        if rest:
            said[rest[0]] = "HANGS" if done.returncode == 99 else f"ABORTS ({done.returncode})"
    return said


def all_run(files: list[dict[str, str]], folder: Path, report: Path) -> dict[str, str]:
    """Returns the outcome of the command of each file; zips, which no command reads, are imported."""
    said = all_read([one for one in files if one["kind"] == "zip"], folder)
    load_once()
    with report.open("a", encoding="utf-8") as lines:
        for one in files:
            if one["kind"] == "zip":
                continue
            path, output = Path(one["path"]), folder / ("out.seq.nrrd" if one["kind"] == "frames" else "out.nrrd")
            words = words_for(one["kind"], path, folder / "corpus", output)
            outcome = run_forked(words, output)
            found = verdict(outcome)
            said[one["path"]] = f"{found} {outcome.result}" if found == "read" else found
            if found.isupper():
                said[one["path"]] += f" exit {outcome.status}: {' '.join(words)}: {outcome.said[-600:]}"
            facts = [found, outcome.status, round(outcome.seconds, 1), outcome.most_bytes >> 20, outcome.said[-300:]]
            lines.write(json.dumps([f"{path.parent.name}/{path.name}", *facts]) + "\n")
            lines.flush()
    return said


def main() -> int:
    """Makes the files, has them read, and prints the totals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--library", action="store_true", help="only read the files, which is twenty times as fast")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--corpus", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.work)
        return 0
    from fuzz_corpus import Seed, mutated, write_corpus

    if args.corpus:
        seeds = [dataclasses.asdict(one) | {"path": str(one.path)} for one in write_corpus(args.corpus)]
        (args.corpus / "seeds.json").write_text(json.dumps(seeds))
        return 0

    random = Random(args.seed)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        # In a process of its own, because ITK's threads would not survive a fork.
        subprocess.run([sys.executable, __file__, "--corpus", str(folder / "corpus")], check=True)
        listed = json.loads((folder / "corpus" / "seeds.json").read_text())
        seeds = [Seed(**one | {"path": Path(one["path"])}) for one in listed]
        kept = args.keep / f"{args.seed}.jsonl"

        def outcomes(files: list[dict[str, str]]) -> dict[str, str]:
            if args.library or not hasattr(os, "fork"):
                return all_read(files, folder)
            args.keep.mkdir(exist_ok=True)
            return all_run(files, folder, kept)

        whole = [{"path": str(one.path), "kind": one.kind} for one in seeds]
        good = outcomes(whole)
        broken = {path: words for path, words in good.items() if not words.startswith("read")}
        if broken:
            print(f"the corpus itself is not read: {broken}")
            return 1
        files, origin = [], {}
        for number in range(args.inputs):
            seed = seeds[number % len(seeds)]
            data, first = mutated(seed.path.read_bytes(), random)
            own = folder / f"{number}"
            own.mkdir()
            path = own / seed.path.name
            path.write_bytes(data)
            for beside in seed.path.parent.glob("g.raw*" if seed.path.suffix == ".nhdr" else "nothing"):
                shutil.copy(beside, own)
            files.append({"path": str(path), "kind": seed.kind})
            origin[str(path)] = (seed, first)
        said = outcomes(files)
        as_read = said if args.library else all_read(files, folder)  # what the library makes of the same files
        good_read = good if args.library else all_read(whole, folder)
        totals: Counter[str] = Counter()
        known = 0
        for path, words in said.items():
            seed, first = origin[path]
            found = words.split(" ")[0]
            unchanged = seed.kind != "zip" and as_read[path] == good_read[str(seed.path)]
            if found == "read" and seed.kind != "zip" and (unchanged or (seed.checked and first >= seed.header)):
                known += 1
                found = "read" if words == good[str(seed.path)] else "WRONG"
            if words == "refused without a sentence":
                found = "WORDLESS"
            if found == "read" and as_read[path].startswith("refused"):
                found = "DIFFERS"  # the command took what the library refuses
            totals[found] += 1
            if found.isupper():
                args.keep.mkdir(exist_ok=True)
                shutil.copy(path, args.keep / f"{args.seed}-{Path(path).parent.name}-{Path(path).name}")
                print(f"{Path(path).parent.name}/{Path(path).name}: {found} {words}")
    print({**totals, "with a known right result": known})
    return int(any(found.isupper() for found in totals))


if __name__ == "__main__":
    sys.exit(main())
