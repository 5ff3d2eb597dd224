"""Runs ``proxyprompt`` on many files: imported once, with a process forked for each file, limits, and its exit status.

Only on systems that can fork.
"""

from __future__ import annotations

import hashlib
import io
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MOST_BYTES, MOST_SECONDS = 4 << 30, 60  # of the processor, because other programs may share it
MOST_WAITING = 600  # seconds of the clock, for what waits and computes nothing


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one command did.

    Attributes:
        status: Its exit status; negative for the signal that ended it.
        said: What it wrote on stdout and stderr.
        seconds: Processor time.
        most_bytes: The memory that it held at most.
        result: Hash of the voxels and the grid of its result; empty if there is none.
    """

    status: int
    said: str
    seconds: float
    most_bytes: int
    result: str = ""


def words_for(kind: str, path: Path, corpus: Path, output: Path) -> list[str]:
    """Returns the command that reads a file of a kind of `fuzz_corpus.Seed`."""
    quick = ["--device", "cpu", "--force"]
    if kind == "registry":
        return ["models", "list", "mine", "sam-compact"] if len(path.read_bytes()) % 2 else ["models", "list", "--json"]
    if kind == "taken":
        return ["models", "import", str(path), "--as", "mine"]
    if kind == "model" and path.stem == "added":  # needs no support
        named = ["--model", str(path), "--target", str(corpus / "p.png")]
        return ["segment", *named, "--class", "polyp", "--any-modality", "--output", str(output), *quick]
    alone = [*quick, "--each-slice-alone", "--no-register", "--no-closer", "--tiles", "off"]
    one = [] if kind == "mask" else ["--support-slices", "2"]
    picture = path.suffix in (".png", ".jpg", ".tif", ".bmp")
    support = [str(corpus / name) for name in ("a.nrrd", "m.seg.nrrd")]
    if kind == "model":
        target = ["--support-slices", "2", "--slices", "2", "--target", str(corpus / "a.nrrd"), "--model", str(path)]
        return ["segment", "--support", *support, *target, "--output", str(output), *alone]
    if kind == "frames":
        pair = [str(corpus / name) for name in ("still.png", "label.png")]
        return ["track", "--support", *pair, "--target", str(path), "--output", str(output), "--frames", "0:1", *quick]
    if kind == "mask":
        image = corpus / ("still.png" if picture else "many.dcm" if path.suffix == ".dcm" else "a.nrrd")
        target = ["--target", str(image), *([] if picture else ["--slices", "2"])]
        return ["segment", "--support", str(image), str(path), *target, "--output", str(output), *alone]
    if kind == "image" and picture:
        support, one = [str(corpus / name) for name in ("p.png", "p_label.png")], []
    return ["segment", "--support", *support, *one, "--target", str(path), "--output", str(output), *alone]


def load_once() -> None:
    """Loads the networks, which the forked processes then share."""
    from ProxyPromptSegmentLib.inference import loading

    load, kept = loading.load, {}

    def again(model: str, device: str = "auto", base: Path | None = None) -> loading.LoadedModel:
        if (model, base) not in kept:
            kept[model, base] = load(model, device, *([base] if base else []))
        return kept[model, base]

    loading.load = again
    for model in ("sam-compact", "sam2-compact"):
        again(model, "cpu")


def result_of(path: Path) -> str:
    """Returns a hash of a result's voxels and grid; empty if there is none."""
    import nrrd

    if not path.is_file() or not path.stat().st_size:
        return ""
    array, header = nrrd.read(str(path))
    grid = [str(header.get(key)) for key in ("sizes", "space", "space directions", "space origin", "kinds")]
    return hashlib.sha256("".join(grid).encode() + array.tobytes()).hexdigest()


def surroundings(kind: str, path: Path, corpus: Path, scratch: Path) -> dict[str, str]:
    """Returns the variables of a command: a list of models and a cache of its own."""
    own = path if kind == "registry" else scratch / "list.json"
    if kind == "taken":
        shutil.copy(corpus / "free.json", own)
    return {"PROXYPROMPT_REGISTRY": str(own), "PROXYPROMPT_CACHE": str(scratch / "cache")}


def run_forked(words: Sequence[str], output: Path, variables: Mapping[str, str]) -> Outcome:
    """Runs a command in a forked process with limits of memory and time, and variables of its own."""
    from ProxyPromptSegmentLib.cli import main

    output.unlink(missing_ok=True)
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            status = 1
            os.environ |= variables
            try:
                resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
                sys.stdout, sys.stderr = (io.TextIOWrapper(io.FileIO(number, "w")) for number in (1, 2))
                resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS + 1))
                signal.alarm(MOST_WAITING)  # ends it, in whatever library it is
                status = main(words)
            except BaseException:  # whatever reaches this place is a traceback for the user
                traceback.print_exc()
            finally:
                os._exit(status)
        _, state, used = os.wait4(child, 0)
        said.seek(0)
        text = said.read().decode("utf-8", "replace")
    return Outcome(
        status=os.waitstatus_to_exitcode(state),
        said=text,
        seconds=used.ru_utime + used.ru_stime,
        most_bytes=used.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        result=result_of(output),
    )


ALLOWED = {"model": (2, 7), "taken": (7,), "registry": (2, 7)}
"""Exit statuses of a refusal, by what is read; those of images and supports are 3, 4 and 5."""


def verdict(outcome: Outcome, kind: str) -> str:
    """Returns ``read`` or ``refused``, or in capital letters what must not be."""
    if outcome.status in (-signal.SIGALRM, -signal.SIGXCPU):
        return "HANGS"
    if outcome.status < 0:
        return "ABORTS"
    if outcome.status == 1 or "Traceback" in outcome.said or "internal error" in outcome.said:
        return "TRACEBACK"
    if outcome.most_bytes > MOST_BYTES or outcome.status == 8:
        return "MEMORY"
    if outcome.status in (0, 9):
        return "read" if outcome.result or kind in ("taken", "registry") else "WORDLESS"
    if outcome.status not in ALLOWED.get(kind, (3, 4, 5)):
        return "STATUS"  # another one than the README has for what is read
    last = outcome.said.strip().splitlines()[-1:] or [""]
    return "refused" if last[0].startswith("proxyprompt ") and not outcome.result else "WORDLESS"
