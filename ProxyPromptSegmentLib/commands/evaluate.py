"""The subcommand ``evaluate``: tables of Dice on public data, and measurements of speed."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ProxyPromptSegmentLib.commands import evaluate_broad, evaluate_cases, evaluate_classes, evaluate_paper
from ProxyPromptSegmentLib.commands.checks import check_torch_settings, count_of, seed_of
from ProxyPromptSegmentLib.commands.common_options import add_display
from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.commands.evaluate_files import check_tables, refuse_inputs, write_table
from ProxyPromptSegmentLib.commands.stages import Stages
from ProxyPromptSegmentLib.data.cases import DATASETS
from ProxyPromptSegmentLib.data.parts import data_set_names, load_parts
from ProxyPromptSegmentLib.errors import InputError, UsageError
from ProxyPromptSegmentLib.evaluation.benchmark import run_table
from ProxyPromptSegmentLib.evaluation.paper.catalogue import is_protocol, protocols
from ProxyPromptSegmentLib.networks import checkpoints
from ProxyPromptSegmentLib.weights.registry import DEFAULT_MODEL, resolve

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.evaluation.benchmark import Table
    from ProxyPromptSegmentLib.evaluation.tracking_table import TrackTable
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter

DESCRIPTION = """\
Measure models on annotated cases of your own (--cases): which model, how many supports, and is it good
enough? Or measure them on public data (--data): Dice with the same supports for every method, tracking of
sweeps and volumes with SAM 2's memory, and every table and figure of the papers with all of its systems.
"""
EXAMPLES = """\
examples:
  which model, and how many supports, for annotated cases of your own
    proxyprompt evaluate --cases my_cases --models sam-compact sam2-compact --supports 1 4 8 --output results/mine
  public data, and the tables of the papers
    proxyprompt evaluate promise12 --data DATA --output results/promise12
    proxyprompt evaluate ccaus_video --data DATA --model sam2-compact --protocol track
    proxyprompt evaluate broad --data DATA --sets first small --limit 3 --output results/mine
    proxyprompt evaluate classes --data DATA --model classes-compact --part test --output results/classes
    proxyprompt evaluate --list --data DATA
    proxyprompt evaluate T2 --data DATA --seconds 900 --output results/T2
    proxyprompt evaluate compare --tables results/before.json results/mine.json
"""


SPEED, BROAD, COMPARE, CLASSES = "speed", "broad", "compare", "classes"
SLICE, TRACK = "slice", "track"
DRAWS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's options."""
    parser.add_argument(
        "what",
        nargs="?",
        default="",
        help="a data set (promise12, psfhs, ...), broad, compare or classes, or a table or figure of a paper such as "
        "T2, see --list; or give --cases",
    )
    parser.add_argument("--data", type=Path, help="folder of the data sets, with manifest.csv")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name of a model or path of a checkpoint")
    parser.add_argument(
        "--protocol",
        default=SLICE,
        choices=(SLICE, TRACK),
        help="segment each slice independently, or track sweeps and volumes with SAM 2's memory (slice)",
    )
    parser.add_argument(
        "--beside",
        help="second model to compare with under --protocol track, slice by slice on the same draws; under classes the "
        f"one that reads supports ({DEFAULT_MODEL}), or 'none' for the copied mean mask alone",
    )
    parser.add_argument("--unet", type=Path, help="weights of a U-Net to compare with")
    parser.add_argument(
        "--supports",
        type=int,
        nargs="+",
        metavar="K",
        help="support slices, each of another patient (4); broad and --cases take several numbers, such as 1 4 8",
    )
    parser.add_argument("--draws", type=int, help="draws of supports per target (5; broad: 1; --cases: 3)")
    parser.add_argument("--limit", type=int, help="largest number of targets, evenly spread (default: all)")
    parser.add_argument(
        "--part", choices=("test", "validation"), help="part of the data set (test; broad, to choose by: validation)"
    )
    parser.add_argument("--seed", type=seed_of, default=0, help="first seed of the draws (0)")
    parser.add_argument("--device", default="auto", help="device to compute on (auto)")
    parser.add_argument("--threads", type=count_of, help="processor threads")
    parser.add_argument(
        "--output",
        dest="out",
        type=Path,
        help="also write OUT.json and OUT.md; broad, classes, --cases, tables and figures resume from OUT.jsonl",
    )
    parser.add_argument("--force", action="store_true", help="replace existing tables of --output")
    add_display(parser)
    evaluate_broad.add_arguments(parser)
    evaluate_paper.add_arguments(parser)
    evaluate_cases.add_arguments(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    """Run the subcommand; return its exit code."""
    if args.list:
        return evaluate_paper.run_list(args, console)
    written = (".md",) if args.what == COMPARE else (".json", ".jsonl", ".md", ".csv", ".html")
    described = [args.data / name for name in ("manifest.csv", "dataset.json")] if args.data else []
    refuse_inputs(args.out, written, [*args.cases, *(args.tables or ()), *described])
    if args.cases:
        return evaluate_cases.run_cases(args, console)
    args.supports = args.supports or [4]
    if args.what == COMPARE:
        return evaluate_broad.run_compare(args, console)
    _check(args)
    check_torch_settings()
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    if args.what == BROAD:
        return evaluate_broad.run_broad(args, console)
    if args.what == CLASSES:
        return evaluate_classes.run_classes(args, console)
    if is_protocol(args.what):
        return evaluate_paper.run_paper(args, console)
    _check_name(args.data, args.what)
    check_tables(args.out, (".json", ".md"), args.force)
    segmenter, metadata = _load(args.model, args.device)
    table = (_track if args.protocol == TRACK else _slices)(args, segmenter, console)
    console.progress.close()
    text = table.to_markdown()
    result = {"model": metadata.get("name"), "steps": metadata.get("steps"), **table.to_dict()}
    if args.out:
        write_table(args.out, ".json", json.dumps(result, indent=1) + "\n", args.force)
        write_table(args.out, ".md", text, args.force)
    console.result(text)
    return 0


def _check(args: argparse.Namespace) -> None:
    """Raise an error for options that contradict each other, before anything is loaded.

    Raises:
        UsageError: If they do.
    """
    if not args.what:
        raise UsageError(
            "say what to evaluate: --cases FOLDER with annotated cases of your own, or the name of a data set, a "
            "measurement, a table or a figure, which `proxyprompt evaluate --list` lists."
        )
    if args.what == SPEED:
        raise UsageError("speed is measured by 'proxyprompt benchmark' now; see 'proxyprompt benchmark --help'")
    if args.data is None:
        raise UsageError("--data is missing; give the folder that holds manifest.csv")
    for option, value in (("--supports", min(args.supports)), ("--draws", args.draws), ("--limit", args.limit)):
        if value is not None and value < 1:
            raise UsageError(f"{option} is {value}; at least 1 is needed")
    if len(args.supports) > 1 and args.what != BROAD:
        raise UsageError(f"--supports has {len(args.supports)} numbers; only 'evaluate broad' takes more than one")
    if args.beside and args.what != CLASSES and args.protocol != TRACK:
        raise UsageError(
            "--beside compares a second model with one that tracks; add --protocol track and name a data set"
        )
    if args.unet and args.protocol == TRACK:
        raise UsageError("--unet is supported by the slice protocol only; omit --unet or --protocol track")


def _check_name(data: Path, name: str) -> None:
    """Reject what is neither a data set nor a table or figure, before a model is loaded.

    Raises:
        InputError: With the names of both.
    """
    if name in DATASETS or name in data_set_names(data):
        return
    try:
        load_parts(data, name)
    except InputError as error:
        there = ", ".join(one.id for one in protocols())
        raise InputError(f"{error} Tables and figures of the papers, see evaluate --list: {there}") from None


def _load(model: str, device: str) -> tuple[Segmenter, dict[str, Any]]:
    """Load a model by name or checkpoint; return its segmenter and the checkpoint's metadata."""
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter

    path, expected = resolve(model)
    loaded, metadata = checkpoints.load_model(path, expected)
    return Segmenter(loaded, device), metadata


def _slices(args: argparse.Namespace, segmenter: Segmenter, console: Console) -> Table:
    return run_table(
        segmenter,
        args.data,
        args.what,
        args.supports[0],
        args.draws or DRAWS,
        args.seed,
        args.unet,
        args.part or "test",
        args.limit,
        partial(Stages(console.progress).show, args.what),
    )


def _track(args: argparse.Namespace, segmenter: Segmenter, console: Console) -> TrackTable:
    from ProxyPromptSegmentLib.evaluation.tracking import check_memory, run_tracking

    check_memory(segmenter)
    beside = {Path(args.beside).stem: _load(args.beside, args.device)[0]} if args.beside else None
    return run_tracking(
        segmenter,
        args.data,
        args.what,
        args.supports[0],
        args.draws or DRAWS,
        args.seed,
        args.part or "test",
        args.limit,
        partial(Stages(console.progress).show, args.what),
        beside,
    )
