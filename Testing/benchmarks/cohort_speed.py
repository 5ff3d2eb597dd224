"""What `proxyprompt cohort` saves against `segment` called for each study, and what a second Ray actor brings.

    python Testing/benchmarks/cohort_speed.py --studies 40 --calls 5
    python Testing/benchmarks/cohort_speed.py --studies 12 --calls 0 --ray

All times are processor times, which do not depend on what else the machine does; one thread each. ``segment`` is called
``--calls`` times, and the median counts for all studies. Of Ray's actors, the time of the busiest one counts from its
first claim on: with a core for each actor, that is how long a cohort takes, loading included and imports left out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "Testing" / "helpers")]
ENVIRON = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
PROGRAM = [sys.executable, "-m", "ProxyPromptSegmentLib"]
_TICKS = os.sysconf("SC_CLK_TCK")


def processor_seconds(words: list[object]) -> float:
    """Run a command; return the processor time of its process."""
    process = subprocess.Popen([*PROGRAM, *map(str, words)], env=ENVIRON, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) not in (0, 9):
        raise SystemExit(f"{words[0]} ended with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_utime + usage.ru_stime


class Watched(threading.Thread):
    """Notes the processor time of each process that works on a cohort, and that at its first claim."""

    def __init__(self, output: Path) -> None:
        super().__init__(daemon=True)
        self.output, self.ending = output, threading.Event()
        self.times: dict[int, list[float]] = defaultdict(list)
        self.first: dict[int, float] = {}

    def run(self) -> None:
        while not self.ending.wait(0.2):
            for path in (self.output / "claims").glob("*.worker"):
                with suppress(OSError, ValueError, IndexError):
                    pid = json.loads(path.read_text())["pid"]
                    facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                    used = (int(facts[11]) + int(facts[12])) / _TICKS
                    self.times[pid].append(used)
                    token = path.name.removesuffix(".worker")
                    if any(claim.read_text() == token for claim in path.parent.glob("*.[0-9]")):
                        self.first.setdefault(pid, used)

    def busiest(self) -> float:
        """Return the processor time of the busiest process since its first claim."""
        return max(times[-1] - self.first.get(pid, times[-1]) for pid, times in self.times.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=40)
    parser.add_argument("--calls", type=int, default=5, help="calls of segment; 0 leaves that comparison out")
    parser.add_argument("--ray", action="store_true", help="compare two Ray actors with one")
    args = parser.parse_args()
    from command_cases import a_case, write_case
    from ProxyPromptSegmentLib.imaging.volumes import write_volume

    found: dict[str, object] = {"studies": args.studies, "unit": "seconds of processor time"}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        support = [*write_case(folder, "old", a_case(1))]
        (folder / "studies").mkdir()
        studies = [folder / "studies" / f"case{number:03d}.nrrd" for number in range(args.studies)]
        for number, path in enumerate(studies):
            write_volume(path, a_case(10 + number)[0])
        shared = ["--support", *support, "--device", "cpu", "--quiet"]
        if args.calls:
            each = [
                processor_seconds(["segment", *shared, "--target", path, "--output", folder / f"{path.stem}.seg.nrrd"])
                for path in studies[: args.calls]
            ]
            cohort = processor_seconds(["cohort", folder / "studies", *shared, "--output", folder / "out"])
            calls = statistics.median(each) * args.studies
            again = processor_seconds(["cohort", folder / "studies", *shared, "--output", folder / "out"])
            found |= {"segment, each": each, "segment, all studies": calls, "cohort": cohort, "cohort again": again}
            found["cohort against segment"] = cohort / calls
        if args.ray:
            busiest = {}
            for actors in (1, 2):
                output = folder / f"ray{actors}"
                watched, begun = Watched(output), time.monotonic()
                watched.start()
                processor_seconds(
                    ["cohort", folder / "studies", *shared, "--output", output, "--ray", "local", "--actors", actors]
                )
                watched.ending.set()
                busiest[actors] = watched.busiest()
                found[f"{actors} actors"] = {
                    "busiest": busiest[actors],
                    "each": [times[-1] for times in watched.times.values()],
                    "wall": time.monotonic() - begun,
                }
            found["two actors against one"] = busiest[1] / busiest[2]
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
