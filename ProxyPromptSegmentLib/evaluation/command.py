"""The subcommand ``evaluate``: tables of Dice, and the ratios of time."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ProxyPromptSegmentLib.errors import OutputError

SPEED = "speed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's options."""
    parser.add_argument("what", help="a data set (promise12, psfhs, ...) or 'speed'")
    parser.add_argument("--data", type=Path, help="folder of the data sets, with manifest.csv")
    parser.add_argument("--model", default="sam-compact", help="name of a model or path of a checkpoint")
    parser.add_argument("--unet", type=Path, help="weights of the U-Net to compare with")
    parser.add_argument("--supports", type=int, default=4, help="support slices, each of another patient (4)")
    parser.add_argument("--draws", type=int, default=5, help="draws of supports per target (5)")
    parser.add_argument("--limit", type=int, help="only so many targets, evenly spread")
    parser.add_argument("--part", default="test", choices=("test", "validation"))
    parser.add_argument("--seed", type=int, default=0, help="first seed of the draws (0)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="processor threads")
    parser.add_argument("--out", type=Path, help="writes OUT.json and OUT.md too")


def _tell(done: int, total: int) -> None:
    sys.stderr.write(f"\r{done}/{total} targets")


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand; returns the exit code."""
    import torch

    from ProxyPromptSegmentLib.checkpoints import load_model
    from ProxyPromptSegmentLib.errors import UsageError
    from ProxyPromptSegmentLib.registry import resolve
    from ProxyPromptSegmentLib.segmenter import Segmenter

    if args.what != SPEED and args.data is None:
        raise UsageError("which data? give --data FOLDER, the folder that holds manifest.csv")
    if args.threads:
        torch.set_num_threads(args.threads)
    path, expected = resolve(args.model)
    model, metadata = load_model(path, expected)
    segmenter = Segmenter(model, args.device)
    if args.what == SPEED:
        from ProxyPromptSegmentLib.evaluation.speed import measure_speed

        result = measure_speed(segmenter, args.supports)
        text = json.dumps(result, indent=1)
    else:
        from ProxyPromptSegmentLib.evaluation.benchmark import run_table

        table = run_table(
            segmenter,
            args.data,
            args.what,
            args.supports,
            args.draws,
            args.seed,
            args.unet,
            args.part,
            args.limit,
            _tell,
        )
        sys.stderr.write("\n")
        text, result = table.to_markdown(), table.to_dict()
    result = {"model": metadata.get("name"), "steps": metadata.get("steps"), **result}
    sys.stdout.write(text + "\n")
    if args.out:
        try:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
            args.out.with_suffix(".md").write_text(text, encoding="utf-8")
        except OSError as error:
            raise OutputError(f"the table cannot be written to {args.out}: {error}; choose another place") from error
    return 0
