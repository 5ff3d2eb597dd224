"""Times the selective scan: the default, several chunk lengths and the step-by-step reference, as JSON.

Example::

    python Testing/benchmarks/benchmark_selective_scan.py --shape 256 12 2 192 8 --output scan.json

Times are the least processor time over the repeats, so that other load on the machine disturbs them least.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from hardware import processor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ProxyPromptSegmentLib.networks.proxy_prompt.selective_scan import scan_time_major, selective_scan_reference


def main() -> None:
    """Runs the benchmark named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=int, nargs=5, default=(256, 12, 2, 192, 8), metavar=("L", "B", "G", "D", "N"))
    parser.add_argument("--chunks", type=int, nargs="*", default=(16, 32, 64, 128))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--output", dest="out", type=Path, help="JSON file; standard output without it")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    length, batch, groups, channels, states = options.shape
    leaves = [
        torch.randn(length, batch, groups, channels),
        torch.rand(length, batch, groups, channels),
        -torch.arange(1.0, states + 1).repeat(groups, channels, 1),
        torch.randn(length, batch, groups, states),
        torch.randn(length, batch, groups, states),
    ]
    leaves = [x.requires_grad_() for x in leaves]
    scans = {"default": lambda: scan_time_major(*leaves)}
    scans |= {f"chunk {q}": lambda q=q: scan_time_major(*leaves, chunk=q) for q in options.chunks}
    scans |= {"step by step": lambda: reference(leaves)}
    report = {
        "shape": dict(zip(("L", "B", "G", "D", "n"), options.shape, strict=True)),
        "hardware": {"processor": processor(), "threads": options.threads, "torch": torch.__version__},
        "milliseconds": {
            name: timed(scan, leaves, 2 if name == "step by step" else options.repeats) for name, scan in scans.items()
        },
    }
    text = json.dumps(report, indent=2)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    else:
        print(text)


def reference(leaves: list[torch.Tensor]) -> torch.Tensor:
    """The step-by-step scan on time-major tensors."""
    u, delta, rates, weight_in, weight_out = leaves
    inputs = (x.permute(1, 2, 3, 0).flatten(1, 2) for x in (u, delta))
    return selective_scan_reference(
        *inputs, rates.flatten(0, 1), weight_in.permute(1, 2, 3, 0), weight_out.permute(1, 2, 3, 0)
    )


def timed(scan, leaves: list[torch.Tensor], repeats: int) -> dict[str, float]:
    """Milliseconds of inference and of a training step (forward and backward)."""

    def inference() -> None:
        with torch.no_grad():
            scan()

    def training() -> None:
        torch.autograd.grad(scan().sum(), leaves)

    return {"inference": least(inference, repeats), "training": least(training, repeats)}


def least(run, repeats: int) -> float:
    """Least processor time of a call in milliseconds, after one call to warm up."""
    run()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return round(1e3 * min(times), 2)


if __name__ == "__main__":
    main()
