"""The subcommand ``benchmark``: the table of speed, every figure a ratio of what was timed alternately in one run."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ProxyPromptSegmentLib.commands import benchmark_cohort
from ProxyPromptSegmentLib.commands import benchmark_processes as processes
from ProxyPromptSegmentLib.commands.checks import check_torch_settings, count_of
from ProxyPromptSegmentLib.commands.common_options import add_device, add_display
from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.commands.evaluate_files import check_tables, write_table
from ProxyPromptSegmentLib.errors import EXIT_INTERRUPTED, EXIT_OK, UsageError
from ProxyPromptSegmentLib.evaluation.speed_table import table, timing
from ProxyPromptSegmentLib.evaluation.speed_table.subjects import SLICES
from ProxyPromptSegmentLib.weights.registry import DEFAULT_MODEL, DEFAULT_TRACKING_MODEL

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.evaluation.speed_table.row import Row

REPEATS = 5
ALL = "all"
WHOLE = {**processes.ROWS, **benchmark_cohort.ROWS}
NAMES = (*table.ROWS, *WHOLE)
DEFAULT_ROWS = (*table.DEFAULT_ROWS, *processes.DEFAULT_ROWS)
DESCRIPTION = """\
Measure speed on this machine. Every figure is a ratio of two things that were timed alternately in
one run: of processor time on a CPU, so that other load does not count, and of wall-clock time on a
graphics card. Takes about five minutes on two idle cores; more rows, slices and repetitions by option.
"""
EXAMPLES = """\
examples:
  proxyprompt benchmark
  proxyprompt benchmark --output results/speed
  proxyprompt benchmark --rows volume vit-b --repeats 7
  proxyprompt benchmark --rows all --device cuda
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's options."""
    parser.add_argument(
        "--rows", nargs="+", metavar="ROW",
        help=f"what is measured: {', '.join(NAMES)}, or {ALL} (default: {' '.join(DEFAULT_ROWS)})",
    )  # fmt: skip
    parser.add_argument(
        "--repeats", type=count_of, default=REPEATS, metavar="R", help=f"repetitions of each pair ({REPEATS})"
    )
    parser.add_argument(
        "--slices", type=count_of, default=SLICES, metavar="S",
        help=f"slices of the volume ({SLICES}); official sizes on a CPU take {table.FEW}",
    )  # fmt: skip
    parser.add_argument(
        "--studies", type=count_of, default=table.STUDIES, metavar="N", help=f"studies of the cohort ({table.STUDIES})"
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help=f"compact model ({DEFAULT_MODEL})")
    parser.add_argument(
        "--tracking-model", default=DEFAULT_TRACKING_MODEL, help=f"model that tracks ({DEFAULT_TRACKING_MODEL})"
    )
    add_device(parser)
    parser.add_argument("--threads", type=count_of, metavar="N", help="processor threads (default: as in a run)")
    parser.add_argument("--output", dest="out", type=Path, help="also write OUT.json and OUT.md")
    parser.add_argument("--force", action="store_true", help="replace existing tables of --output")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    add_display(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    """Run the subcommand; return its exit code."""
    chosen = _chosen(args.rows)
    check_tables(args.out, (".json", ".md"), args.force)
    check_torch_settings()
    import torch

    from ProxyPromptSegmentLib.networks.cores import limit_threads

    if args.threads:
        torch.set_num_threads(args.threads)
    else:
        limit_threads()
    plan = table.Plan(
        model=args.model,
        tracking=args.tracking_model,
        devices=_devices(args.device),
        repeats=args.repeats,
        slices=args.slices,
        studies=args.studies,
    )
    before = timing.load()
    rows: list[Row] = []
    console.progress.start(len(chosen), "measuring")
    code, done = EXIT_OK, 0
    try:
        for name in chosen:
            rows += WHOLE[name](plan) if name in WHOLE else table.measure(plan, name)
            done += 1
            console.progress.step()
    except KeyboardInterrupt:
        if not rows:
            raise
        code = EXIT_INTERRUPTED
    console.progress.close()
    if code:
        console.status(f"stopped; {', '.join(chosen[:done])} {'was' if done == 1 else 'were'} measured before.")
    about = {**table.machine(plan.devices), "load_before": before, "repeats": plan.repeats, "slices": plan.slices}
    text = table.to_markdown(rows, about)
    values = json.dumps({"machine": about, "rows": [row.to_dict() for row in rows]}, indent=1) + "\n"
    if args.out:
        write_table(args.out, ".json", values, args.force)
        write_table(args.out, ".md", text, args.force)
    console.result(values if args.json else text)
    return code


def _chosen(rows: list[str] | None) -> list[str]:
    """Return the names of the rows, in the order of the table.

    Raises:
        UsageError: If there is no row of a name.
    """
    asked: Any = rows or DEFAULT_ROWS
    unknown = [name for name in asked if name not in (*NAMES, ALL)]
    if unknown:
        raise UsageError(f"--rows has no row '{unknown[0]}'; choose among {', '.join(NAMES)}, or {ALL}.")
    return [name for name in NAMES if name in asked or ALL in asked]


def _devices(device: str) -> tuple[str, ...]:
    """Return where rows are measured: by default the CPU, and a graphics card if there is one."""
    import torch

    from ProxyPromptSegmentLib.networks.devices import choose_device

    if device == "auto":
        return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    return (str(choose_device(device)),)
