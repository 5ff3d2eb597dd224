"""``evaluate --cases``: which model, and how many supports, for a user's own annotated cases."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.commands.adapt_cases import gather
from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.commands.evaluate_files import measured_alone, table_file, write_table
from ProxyPromptSegmentLib.commands.interrupt import stop_on_signals
from ProxyPromptSegmentLib.commands.run_task import new_engine
from ProxyPromptSegmentLib.commands.stages import Stages
from ProxyPromptSegmentLib.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_SOME_FAILED, SupportError, UsageError
from ProxyPromptSegmentLib.evaluation.cases.measure import Drawn, measure
from ProxyPromptSegmentLib.evaluation.cases.plan import Candidate, CasesPlan, OwnCase, possible_supports
from ProxyPromptSegmentLib.evaluation.cases.report import chapters_of_cases, chapters_so_far, scores_in
from ProxyPromptSegmentLib.evaluation.cases.verdict import verdict
from ProxyPromptSegmentLib.evaluation.growing_file import GrowingFile
from ProxyPromptSegmentLib.evaluation.report.page import page
from ProxyPromptSegmentLib.evaluation.statistics.score import Score
from ProxyPromptSegmentLib.evaluation.statistics.tables import table_of, to_csv, to_dict, to_markdown
from ProxyPromptSegmentLib.imaging.geometry import take_slices
from ProxyPromptSegmentLib.imaging.segmentations import Segmentation
from ProxyPromptSegmentLib.remedies import Note, Severity
from ProxyPromptSegmentLib.support.matching import has_place
from ProxyPromptSegmentLib.training.adapting.sheets import is_complete
from ProxyPromptSegmentLib.weights.hashing import sha256
from ProxyPromptSegmentLib.weights.registry import DEFAULT_MODEL, resolve
from ProxyPromptSegmentLib.worker.context import Context
from ProxyPromptSegmentLib.worker.tasks import SegmentTask

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ProxyPromptSegmentLib.inference.job import Job
    from ProxyPromptSegmentLib.progress import CancelToken
    from ProxyPromptSegmentLib.training.adapting.cases import CheckedCases, UsableCase
    from ProxyPromptSegmentLib.worker.tasks import TaskEngine

SUFFIXES = (".json", ".md", ".csv", ".html")
SUPPORTS, DRAWS = (1, 4, 8), 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that only own cases take."""
    group = parser.add_argument_group("your own cases")
    group.add_argument(
        "--cases",
        action="append",
        default=[],
        type=Path,
        metavar="FOLDER|LIST",
        help="folder of annotated cases, or a list of pairs (.csv or .json), as for 'adapt'; repeat it for several. "
        "Each case is segmented with other patients as supports; --supports 1 4 8, --draws 3; writes OUT.html as well",
    )
    group.add_argument(
        "--models", nargs="+", metavar="NAME|FILE", help=f"models to compare side by side (default: {DEFAULT_MODEL})"
    )
    group.add_argument(
        "--object",
        action="append",
        default=[],
        metavar="NAME",
        help="structure to measure; repeat it for several (default: all that every case has); NEW=A+B joins segments",
    )


def run_cases(args: argparse.Namespace, console: Console) -> int:
    """Measure, and write tables and report; return the exit code.

    Raises:
        UsageError: If options contradict each other.
        SupportError: If fewer than two patients can be used.
    """
    other = args.what or ("--data" if args.data else "")
    if other:
        raise UsageError(f"{other} measures on public data, --cases on your own; give one of them")
    for option, value in (("--supports", min(args.supports or SUPPORTS)), ("--draws", args.draws)):
        if value is not None and value < 1:
            raise UsageError(f"{option} is {value}; at least 1 is needed")
    candidates = _candidates(args.models or [args.model], console)
    checked = gather(
        argparse.Namespace(cases=args.cases, support=[], library=False, object=args.object, allow_single=False),
        console,
        "measuring",
    )
    wanted = _plan(args, checked, candidates, console)
    facts = {"what": "cases", "cases": checked.digest(), "objects": list(wanted.objects), "seed": wanted.seed}
    facts["millimetres"] = wanted.in_mm
    with measured_alone(args.out, SUFFIXES, args.force) as path:
        file = GrowingFile(path, facts, lambda stored: Score(**stored))
        with stop_on_signals(console.status, "the slice") as cancel:
            engine = new_engine()
            if args.threads:
                import torch

                torch.set_num_threads(args.threads)
            console.count_in("mask")
            stages = Stages(console.progress)
            ended = measure(
                wanted,
                file,
                partial(_segment, engine, args.device, cancel),
                lambda candidate, done, total: stages.show("measuring", done, total, candidate.name),
                cancel,
            )
        console.progress.close()
        if not ended.complete:
            _stopped(args, wanted, file, checked, ended.failures, console)
            return EXIT_INTERRUPTED
        scores = scores_in(wanted, file)
        names = {score.system for score in scores}
        if missing := [name for _, _, name in wanted.systems() if name not in names]:
            reason = next(iter(ended.failures.values()), "nothing was measured")
            raise SupportError(f"no case could be segmented with {missing[0]}: {reason}")
        found = verdict(wanted, scores)
        reference = found.system or None
        rows = table_of(scores, reference)
        text = "\n\n".join(found.paragraphs) + "\n\n" + to_markdown(rows, reference)
        if args.out:
            html = page(_title(wanted), chapters_of_cases(wanted, file, found, checked.unusable, ended.failures))
            values = {**facts, "answer": list(found.paragraphs), "rows": to_dict(rows)}
            for suffix, content in zip(SUFFIXES, (_json(values), text, to_csv(rows), html), strict=True):
                write_table(args.out, suffix, content, True)
    console.result(text)
    if args.out:
        console.say(f"wrote {', '.join(str(table_file(args.out, suffix)) for suffix in SUFFIXES)}")
    for name, reason in ended.failures.items():
        console.warn(f"{name} could not be segmented with some supports: {reason}")
    return EXIT_SOME_FAILED if ended.failures else EXIT_OK


def _stopped(
    args: argparse.Namespace,
    wanted: CasesPlan,
    file: GrowingFile[Score],
    checked: CheckedCases,
    failures: Mapping[str, str],
    console: Console,
) -> None:
    """Write the report of what is done, if there is anything, and say what a user may do next."""
    if not args.out:
        console.status("stopped; without --output nothing is kept.")
        return
    kept = f"{table_file(args.out, '.jsonl')} keeps what is done, and the same command resumes"
    if scores_in(wanted, file):
        chapters = chapters_so_far(wanted, file, checked.unusable, failures)
        write_table(args.out, ".html", page(f"Incomplete: {_title(wanted)}", chapters), True)
        kept += f"; {table_file(args.out, '.html')} shows the scores so far"
    console.status(f"stopped; {kept}.")


def _candidates(models: list[str], console: Console) -> tuple[Candidate, ...]:
    """Return the models with their hashes and distinct names, each once.

    Raises:
        CheckpointError: If one is missing, or is not what its name promises.
    """
    found: list[Candidate] = []
    for model in dict.fromkeys(models):
        path, expected = resolve(model)
        name, digest = Path(model).stem if expected is None else model, expected or sha256(path)
        if twin := next((one for one in found if one.sha256 == digest), None):
            console.warn(f"{model} is the model {twin.model}; it counts once.")
        else:
            found.append(Candidate(name, model, digest))
    names = [one.name for one in found]
    return tuple(
        Candidate(f"{one.name} {one.sha256[:6]}", one.model, one.sha256) if names.count(one.name) > 1 else one
        for one in found
    )


def _plan(
    args: argparse.Namespace, checked: CheckedCases, candidates: tuple[Candidate, ...], console: Console
) -> CasesPlan:
    """Return what is measured; say what is capped."""
    first: dict[int, str] = {}
    for case in checked.cases:
        first.setdefault(case.patient, case.name)
    cases = tuple(_own(case, checked.objects, first[case.patient]) for case in checked.cases)
    asked = args.supports or SUPPORTS
    supports, most = possible_supports(cases, asked)
    if max(asked) > most:
        wanted = f"{max(asked)} supports were asked for" if args.supports else f"By default {max(asked)} are the most"
        text = (
            f"{wanted}; other patients have {most} {'case' if most == 1 else 'cases'}, so "
            f"{', '.join(map(str, supports))} {'is' if len(supports) == 1 else 'are'} measured."
        )
        console.note(Note(text, severity=Severity.WARNING if args.supports else Severity.INFORMATION))
    in_mm = all(case.slices is None and has_place(case.volume) for case in cases)
    name = args.cases[0].resolve().stem
    draws = args.draws or DRAWS
    return CasesPlan(
        dataset=name,
        objects=checked.objects,
        cases=cases,
        candidates=candidates,
        supports=supports,
        draws=draws,
        seed=args.seed,
        in_mm=in_mm,
    )


def _own(case: UsableCase, objects: tuple[str, ...], patient: str) -> OwnCase:
    """Return a case that was read with its objects under the plan's names."""
    volume = case.case.volume
    named = [replace(segment, name=name) for name, segment in zip(objects, case.segments, strict=True)]
    masks = np.any([segment.mask > 0 for segment in named], axis=0)
    shown = np.flatnonzero(take_slices(masks, case.axis).any(axis=(1, 2)))
    count = take_slices(masks, case.axis).shape[0]
    partly = count > 1 and len(shown) < count and not is_complete(shown)
    slices = tuple(int(n) for n in shown) if partly else None
    truth = Segmentation(named, volume.geometry)
    return OwnCase(case.name, patient, case.digest, volume, truth, slices, case.axis)


def _segment(engine: TaskEngine, device: str, cancel: CancelToken, candidate: Candidate, job: Job) -> Drawn | None:
    """Segment a job as ``segment`` does; None if it was cancelled."""
    task = SegmentTask(job, model=candidate.model, device=device)
    found = task(engine, Context(0, cancel, lambda event: None))
    return None if found.cancelled or cancel.cancelled else Drawn(found.masks, found.confidence)


def _title(wanted: CasesPlan) -> str:
    return f"{', '.join(wanted.objects)} in {wanted.dataset}: which model, how many supports?"


def _json(values: object) -> str:
    return json.dumps(values, indent=1, allow_nan=False) + "\n"
