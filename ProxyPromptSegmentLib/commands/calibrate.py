"""Fit presence and confidence for a model: `python -m ProxyPromptSegmentLib.commands.calibrate --data DATA`.

For developers: the coefficients belong to the weights, and are stored in the registry beside their hash.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ProxyPromptSegmentLib.commands.checks import count_of
from ProxyPromptSegmentLib.commands.common_options import add_display
from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.commands.remedies import worded
from ProxyPromptSegmentLib.commands.stages import Stages
from ProxyPromptSegmentLib.errors import EXIT_OK, CheckpointError, as_user_error
from ProxyPromptSegmentLib.evaluation.calibrating import cross_validated, fit, judged, summary
from ProxyPromptSegmentLib.evaluation.calibration_data import collect
from ProxyPromptSegmentLib.imaging.output_files import safe_output
from ProxyPromptSegmentLib.inference.calibration import Calibration
from ProxyPromptSegmentLib.weights.registry import DEFAULT_MODEL


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's options."""
    made = argparse.ArgumentParser(
        prog="python -m ProxyPromptSegmentLib.commands.calibrate",
        description="Fit presence and confidence of a model on validation patients; report them cross-validated, or "
        "with --part test on test patients, where nothing is fitted.",
    )
    made.add_argument("--data", type=Path, required=True, help="folder of the data sets, with manifest.csv")
    made.add_argument("--model", default=DEFAULT_MODEL, help=f"name of a model or path of a file ({DEFAULT_MODEL})")
    made.add_argument("--part", default="validation", choices=("validation", "test"), help="patients (validation)")
    made.add_argument("--supports", type=count_of, default=4, help="support slices per target (4)")
    made.add_argument("--limit", type=count_of, default=6, help="largest number of patients per data set (6)")
    made.add_argument("--threads", type=count_of, help="processor threads")
    made.add_argument("--device", default="auto", help="device to compute on (auto)")
    made.add_argument("--output", dest="out", type=Path, help="also write the result to this JSON file")
    made.add_argument("--registry", type=Path, help="write the coefficients to the model's entry of this registry.json")
    add_display(made)
    return made


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code, see `errors`."""
    args = parser().parse_args(argv)
    console = Console("calibrate", quiet=args.quiet, progress=args.progress, unit="sample")
    try:
        result = run(args, console)
    except Exception as error:
        known = as_user_error(error)
        if known is None:
            raise
        console.error(worded(known))
        return known.exit_code
    console.result(json.dumps(result, indent=1))
    return EXIT_OK


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Collect, fit or report, and write; return the result."""
    import torch

    from ProxyPromptSegmentLib.inference.loading import load

    if args.threads:
        torch.set_num_threads(args.threads)
    loaded = load(args.model, args.device)
    segmenter, known = loaded.segmenter, loaded.segmenter.calibration
    stages = Stages(console.progress)
    samples = collect(
        segmenter,
        args.data,
        args.part,
        args.supports,
        args.limit,
        lambda name, count: stages.show("collecting", count, 0, name),
    )
    console.progress.close()
    result: dict[str, Any] = {"model": loaded.facts.name, "sha256": loaded.facts.sha256, "part": args.part}
    result |= {"supports": args.supports, "own": summary(judged(samples, None))}
    if args.part == "test":
        result["calibrated"] = summary(judged(samples, known)) if known is not None else None
    else:
        found = fit(samples)
        result |= {"calibration": found.to_dict(), "cross_validated": summary(cross_validated(samples))}
        if args.registry:
            store(args.registry, loaded.facts.sha256, found)
    if args.out:
        with safe_output(args.out) as partial:
            partial.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def store(registry: Path, digest: str, calibration: Calibration) -> None:
    """Write a calibration into the entry of a registry file that has this SHA-256; everything else stays.

    Raises:
        CheckpointError: If the file cannot be read or has no such entry.
        OutputError: If it cannot be written.
    """
    try:
        content = json.loads(registry.read_text(encoding="utf-8"))
        entries = [one for one in content["models"] if (one.get("sha256") or "").lower() == digest.lower()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"the registry {registry} cannot be read: {error}; give a registry.json.") from error
    if not entries:
        raise CheckpointError(
            f"the registry {registry} has no model with the SHA-256 {digest[:12]}...; add its entry first."
        )
    for entry in entries:
        entry["calibration"] = calibration.to_dict()
    with safe_output(registry) as partial:
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
