"""How long the main thread stands still while the module segments 300 slices, as JSON; no window, real MRML.

Example::

    python Testing/benchmarks/module_stalls.py --size 300 512 512 --output stalls.json

Each turn of the pump is timed, and so is how late it wakes from its sleep: that is where another thread that holds
Python's lock would show. The first run also loads torch and the model; the second is what every later one is like.
Rendering is not in it; `Testing/Slicer/measure.py` measures beside a window.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "ProxyPromptSegment"), str(ROOT / "Testing" / "helpers")]

from hardware import processor

from mrml_cases import LPS_RAS, add_case
from mrml_scene import add_volume, make_scene


def main() -> None:
    """Runs the benchmark named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=3, default=(300, 512, 512), metavar=("K", "J", "I"))
    parser.add_argument("--model", default="sam-compact")
    parser.add_argument("--output", dest="out", type=Path, help="JSON file; standard output without it")
    options = parser.parse_args()
    make_scene()
    from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom
    from ProxyPromptSegmentModule.logic import SegmentationLogic
    from ProxyPromptSegmentModule.runs.request import Settings

    support = add_case(1, (28, 160, 160))
    slices, rows, columns = options.size
    volume, _ = pelvis_phantom(2, (max(8, slices // 10), rows, columns))
    array = np.repeat(volume.array, -(-slices // len(volume.array)), axis=0)[:slices].astype(np.int16)
    target = add_volume(array, LPS_RAS @ volume.geometry.affine, "target")
    logic = SegmentationLogic()
    settings = Settings(model=options.model, device="cpu")
    runs = [timed(logic, target, support, settings) for _ in range(2)]
    logic.shutdown()
    report = {
        "size_kji": list(options.size),
        "model": options.model,
        "hardware": {"processor": processor(), "platform": platform.platform()},
        "first run": runs[0],
        "second run": runs[1],
    }
    text = json.dumps(report, indent=2)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    else:
        print(text)


def timed(logic, target, support, settings) -> dict[str, object]:
    """One run: its turns and how late they came, by stage, in ms."""
    from ProxyPromptSegmentModule.runs.pump import SLEEP_SECONDS

    begun = time.perf_counter()
    run = logic.segment(target, [support], settings=settings, wait=False)
    turns: dict[str, float] = {}
    late: dict[str, float] = {}
    while not run.ended:
        before = time.perf_counter()
        logic._work()
        after = time.perf_counter()
        time.sleep(SLEEP_SECONDS)
        woken = time.perf_counter()
        turns[run.what] = max(turns.get(run.what, 0.0), (after - before) * 1000)
        late[run.what] = max(late.get(run.what, 0.0), (woken - after - SLEEP_SECONDS) * 1000)
    return {
        "state": run.state,
        "seconds": round(time.perf_counter() - begun, 2),
        "longest_ms": round(max(*turns.values(), *late.values()), 1),
        "longest turn by stage": {name: round(value, 1) for name, value in turns.items()},
        "latest waking by stage": {name: round(value, 1) for name, value in late.items()},
    }


if __name__ == "__main__":
    main()
