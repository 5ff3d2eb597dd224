"""Damaged files of every format, read in a process of its own with limits of memory and time, for a minute or a night.

    python Testing/benchmarks/fuzz.py [--inputs 300] [--seed 0] [--keep FOLDER]

Counts what was read, refused, and what must not be: tracebacks, aborts, more than 60 s or 4 GiB, and damage that a
checksum
shows and that was read all the same. What must not be is kept in the folder. The exit status is 1 if there was any.
"""

from __future__ import annotations

import argparse
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
sys.path[:0] = [str(ROOT), str(ROOT / "Testing" / "helpers")]

MOST_BYTES, MOST_SECONDS = 4 << 30, 60


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
            for segment in read_segmentation(path).segments:
                digest.update(segment.mask.tobytes())
        elif kind == "frames":
            for _, frame in open_frames(path):
                digest.update(getattr(frame, "tobytes", lambda: b"bad")())
        else:
            digest.update(read_volume(path).array.tobytes())
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


def main() -> int:
    """Makes the files, has them read, and prints the totals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.work)
        return 0
    from fuzz_corpus import mutated, write_corpus

    random = Random(args.seed)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        seeds = write_corpus(folder / "corpus")
        good = all_read([{"path": str(one.path), "kind": one.kind} for one in seeds], folder)
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
        said = all_read(files, folder)
        totals: Counter[str] = Counter()
        for path, words in said.items():
            seed, first = origin[path]
            verdict = words.split(" ")[0]
            known = seed.checked and first >= seed.header
            if verdict == "read" and known and seed.kind != "zip" and words != good[str(seed.path)]:
                verdict = "WRONG"
            if words == "refused without a sentence":
                verdict = "WORDLESS"
            totals[verdict] += 1
            if verdict.isupper():
                args.keep.mkdir(exist_ok=True)
                shutil.copy(path, args.keep / f"{args.seed}-{Path(path).parent.name}-{Path(path).name}")
                print(f"{Path(path).parent.name}/{Path(path).name}: {verdict} {words}")
    print(dict(totals))
    return int(any(verdict.isupper() for verdict in totals))


if __name__ == "__main__":
    sys.exit(main())
