"""The subcommand ``adapt``: its options, its progress and its table."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ProxyPromptSegmentLib.cohort.writing import read_json
from ProxyPromptSegmentLib.commands.adapt_cases import gather
from ProxyPromptSegmentLib.commands.checks import check_outputs, minutes_of
from ProxyPromptSegmentLib.commands.common_options import add_device, add_display, add_threads
from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.commands.interrupt import stop_on_signals
from ProxyPromptSegmentLib.commands.run_task import run_task
from ProxyPromptSegmentLib.commands.stages import Stages
from ProxyPromptSegmentLib.errors import EXIT_INTERRUPTED, EXIT_NOTHING_FOUND, EXIT_OK
from ProxyPromptSegmentLib.imaging.output_files import safe_output
from ProxyPromptSegmentLib.training.adapting.result import LEAST_GAIN, AdaptProgress, AdaptResult, CaseScore
from ProxyPromptSegmentLib.training.adapting.settings import ALL, ENCODER, AdaptSettings
from ProxyPromptSegmentLib.training.adapting.task import AdaptTask
from ProxyPromptSegmentLib.weights.own import check_free
from ProxyPromptSegmentLib.weights.registry import DEFAULT_MODEL
from ProxyPromptSegmentLib.wording import duration
from ProxyPromptSegmentLib.worker.events import Advanced

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.worker.events import Event

DESCRIPTION = """\
Teach a model your own structure from a few annotated cases, in minutes.

Each case is tested with a model that was trained without it: you see Dice before and after for every
case, with the copied mean mask beside, before anything is kept. The result is kept only if it is better,
and is then a model like the others: use it with `proxyprompt segment --model NAME`.
"""
EXAMPLES = """\
examples:
  a folder of annotated cases: a.nrrd with a.seg.nrrd, a.png with a_mask.png, a folder for each case,
  images and masks in two folders, or nnU-Net's imagesTr and labelsTr
    proxyprompt adapt --cases my_cases --object prostate --output my-prostate
  a list of pairs (CSV with the columns image, annotation and, if wanted, patient; or JSON)
    proxyprompt adapt --cases pairs.csv --object gland --object cyst --output my-zones
  on official weights, which were downloaded or imported, on a GPU
    proxyprompt adapt --cases my_cases --object prostate --model sam-vit-b --output my-prostate
  the cases of the support library, five minutes
    proxyprompt adapt --library --object prostate --output my-prostate --minutes 5
  use it
    proxyprompt segment --model my-prostate --support a.nrrd a.seg.nrrd --target new.nrrd --output new.seg.nrrd
  take it to another machine as one file, with its card
    proxyprompt models export my-prostate --output my-prostate.safetensors
    proxyprompt models import my-prostate.safetensors

Ctrl-C stops after the current step; the same command resumes there, with the same result. Images never
leave this machine, and the model's file names no case.
Research use only. Not for diagnosis.
"""
_REPORT_STEPS = 20  # lines of progress of a training without a terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's options."""
    add = parser.add_argument
    add(
        "--cases", action="append", default=[], type=Path, metavar="FOLDER|LIST",
        help="folder of annotated cases, or a list of pairs (.csv or .json); repeat it for several",
    )  # fmt: skip
    add(
        "--support", nargs=2, action="append", default=[], type=Path, metavar=("IMAGE", "SEGMENTATION"),
        help="one annotated case; repeat it for several",
    )  # fmt: skip
    add("--library", action="store_true", help="use the cases of the support library")
    add(
        "--object", action="append", default=[], metavar="NAME",
        help="structure to learn; repeat it for several (default: all that every case has); NEW=A+B joins segments",
    )  # fmt: skip
    add(
        "--output",
        dest="out",
        required=True,
        metavar="NAME",
        help="name of the new model: lower-case letters, digits, . _ + -",
    )
    add(
        "--model", default=DEFAULT_MODEL, metavar="NAME|FILE",
        help=f"model to start from ({DEFAULT_MODEL}), also one that was adapted before; or official weights such as "
        "sam-vit-b, on which a new prompt generator is trained",
    )  # fmt: skip
    add(
        "--base", type=Path, metavar="FILE",
        help="file of the official weights below the model (default: as downloaded or imported)",
    )  # fmt: skip
    add(
        "--minutes", type=minutes_of, default=AdaptSettings.minutes, metavar="M",
        help=f"minutes for everything, the test of each case included ({AdaptSettings.minutes:g})",
    )  # fmt: skip
    add("--steps", type=int, metavar="N", help="steps of each training (default: as many as the time allows)")
    add("--seed", type=int, default=AdaptSettings.seed, metavar="N", help=f"seed ({AdaptSettings.seed})")
    add(
        "--keep-encoder", action="store_true",
        help="leave the image encoder as it is: its features are computed once, and steps take less time",
    )  # fmt: skip
    add(
        "--encoder-rank", type=int, default=AdaptSettings.encoder_rank, metavar="R",
        help="train the image encoder of official weights too, by adapters of this rank, on a GPU (0: leave it)",
    )  # fmt: skip
    add_threads(parser, AdaptSettings.threads, "; an interrupted adaptation resumes with the same number")
    add("--keep-anyway", action="store_true", help="keep the result even if it is not better")
    add(
        "--allow-single", action="store_true",
        help="learn from a single patient, with whom nothing can be tested",
    )  # fmt: skip
    add("--restart", action="store_true", help="begin again, without what an interrupted adaptation left")
    add("--report", type=Path, metavar="FILE.json", help="write the scores, cases by number, as JSON")
    add("--force", action="store_true", help="replace an earlier report")
    add_device(parser)
    add("--json", action="store_true", help="print only the scores, as JSON on stdout")
    add_display(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    """Run the subcommand; return its exit code."""
    began = time.monotonic()
    settings = AdaptSettings(
        model=args.model,
        base=str(args.base or ""),
        minutes=args.minutes,
        steps=args.steps,
        variants=None if args.steps is None else min(4, args.steps),
        seed=args.seed,
        trained=ALL if args.keep_encoder else ENCODER,
        encoder_rank=args.encoder_rank,
        threads=args.threads,
        allow_single=args.allow_single,
    )
    check_free(args.out)
    from ProxyPromptSegmentLib.training.adapting.beginning import check_start  # it loads torch

    check_start(args.model, settings.base)
    inputs = [*args.cases, *(path for pair in args.support for path in pair), *filter(Path.is_file, [Path(args.model)])]
    args.force = args.force or _is_of_unended(args.report, args.out)
    check_outputs([("--report", args.report, (".json",))], inputs, args.force)
    with stop_on_signals(console.status, "the step") as cancel, console.listening():
        checked = gather(args, console)
        names = ", ".join(checked.objects)
        console.say(f"{checked.patients} patients, {len(checked.cases)} cases: learning {names}")
        if cancel.cancelled:
            console.status("stopped before anything was computed.")
            return EXIT_INTERRUPTED
        task = AdaptTask(
            checked,
            args.out,
            settings=settings,
            device=args.device,
            keep_anyway=args.keep_anyway,
            restart=args.restart,
            began=began,
        )
        reporter = _Reporter(console)
        try:
            result = run_task(task, console, cancel, reporter.on_event)
        finally:
            console.progress.close()
    return _end(args, console, result)


def _is_of_unended(report: Path | None, name: str) -> bool:
    """Return whether a report was written when an adaptation of this name stopped or kept nothing; it is continued."""
    said = read_json(report) if report else None
    return said is not None and said.get("name") == name and said.get("kept") is False


def _end(args: argparse.Namespace, console: Console, result: AdaptResult) -> int:
    """Say what came out; return the exit code."""
    described = describe(result)
    if args.report:
        with safe_output(args.report, args.force) as partial:
            partial.write_text(json.dumps(described, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if args.json:
        console.result(json.dumps(described, indent=1, ensure_ascii=False))
    for line in table(result):
        console.say(line)
    if result.cancelled:
        console.status(
            f"stopped after {duration(result.seconds)}; the same command resumes there, --restart begins again."
        )
        return EXIT_INTERRUPTED
    if not result.kept:
        verdict = result.verdict
        assert verdict is not None
        console.status(
            f"not better: mean Dice {verdict.before:.3f} before, {verdict.after:.3f} after ({LEAST_GAIN:g} more is "
            f"needed). Nothing was kept; the same command with --keep-anyway trains once more, on all cases, and keeps "
            f"that (exit code {EXIT_NOTHING_FOUND})."
        )
        return EXIT_NOTHING_FOUND
    if result.verdict is not None and not result.verdict.better:
        console.warn(
            f"it is not better: mean Dice {result.verdict.before:.3f} before, {result.verdict.after:.3f} after; it is "
            "kept because of --keep-anyway."
        )
    if result.verdict is not None and result.verdict.mean_mask > result.verdict.after:
        console.warn(
            f"the copied mean mask is better than the result (Dice {result.verdict.mean_mask:.3f}): these structures "
            "lie in the same place in all cases, and the model has not learned more than that."
        )
    console.say(f"kept as {args.out} in {duration(result.seconds)}: {result.path}")
    console.say(f"use it: proxyprompt segment --model {args.out} ...")
    console.say("Research use only. Not for diagnosis.")
    return EXIT_OK


def table(result: AdaptResult) -> list[str]:
    """Return the scores as lines of a table."""
    if not result.scores:
        return []
    number = result.verdict.share_number if result.verdict else -1
    width = max(5, *(len(score.name) for score in result.scores))
    lines = [f"{'case':{width}}  before  after  mean mask"]
    lines += [_line(score, width, number) for score in result.scores]
    if result.verdict is not None:
        mean = result.verdict
        lines.append(f"{'mean':{width}}  {mean.before:6.3f} {mean.after:6.3f} {mean.mean_mask:10.3f}")
    return lines


def _line(score: CaseScore, width: int, number: int) -> str:
    after = f"{np.mean(score.after[number]):6.3f}" if score.after else f"{'-':>6}"
    return f"{score.name:{width}}  {np.mean(score.before):6.3f} {after} {np.mean(score.mean_mask):10.3f}"


def describe(result: AdaptResult) -> dict[str, Any]:
    """Return a result as JSON values; cases are numbered, not named."""
    scores = [{key: value for key, value in asdict(score).items() if key != "name"} for score in result.scores]
    return {
        "name": result.name,
        "objects": list(result.objects),
        "cases": scores,
        "verdict": None if result.verdict is None else {**asdict(result.verdict), "better": result.verdict.better},
        "kept": result.kept,
        "cancelled": result.cancelled,
        "sha256": result.sha256,
        "steps": result.steps,
        "seconds": round(result.seconds, 1),
        "left_out": len(result.unusable),
    }


class _Reporter:
    """The progress of an adaptation: a bar on a terminal, and a line for every case that was tested."""

    def __init__(self, console: Console) -> None:
        self._console, self._stages = console, Stages(console.progress)
        self._tested = 0
        self._estimated = False

    def on_event(self, event: Event) -> None:
        """Show an `Advanced` event."""
        if isinstance(event, Advanced) and isinstance(event.how, AdaptProgress):
            self._show(event.how)

    def _show(self, how: AdaptProgress) -> None:
        if how.seconds_left is not None and not self._estimated:
            self._estimated = True
            self._console.say(f"estimated time: {duration(how.seconds + how.seconds_left)} in all")
        left = "" if how.seconds_left is None else f"{duration(how.seconds_left)} left in all"
        loss = "" if how.loss is None else f"loss {how.loss:.3f}, "
        self._stages.show(how.stage, how.done, how.total, f"{loss}{left}")
        tested = [score for score in how.scores if score.after]
        if len(tested) > self._tested:
            self._tested = len(tested)
            before = float(np.mean([np.mean(score.before) for score in tested]))
            best = max(np.mean([np.mean(score.after[n]) for score in tested]) for n in range(len(tested[0].after)))
            self._console.say(
                f"{how.stage}: Dice of {len(tested)} of {len(how.scores)} cases, each left out in training: "
                f"{before:.3f} before, {best:.3f} after"
            )
