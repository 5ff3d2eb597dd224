"""``evaluate classes``: the measurements of a model that knows classes by name, and their table."""

from __future__ import annotations

import argparse

from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.commands.evaluate_files import measured_alone, write_table
from ProxyPromptSegmentLib.commands.stages import Stages
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.evaluation.broad.records import ScoreFile
from ProxyPromptSegmentLib.evaluation.left_empty import measure_empty
from ProxyPromptSegmentLib.evaluation.without_support import ClassPlan, Lesson, measure_classes
from ProxyPromptSegmentLib.evaluation.without_support_table import classes_table
from ProxyPromptSegmentLib.support.pairs import MOST_READ
from ProxyPromptSegmentLib.weights.registry import DEFAULT_MODEL

NONE = "none"  # for --beside: the model and the copied mean mask alone


def run_classes(args: argparse.Namespace, console: Console) -> int:
    """Measure a model; return the exit code.

    Raises:
        UsageError: If the model reads supports.
        OutputError: If the table cannot be written.
    """
    from ProxyPromptSegmentLib.inference.loading import load

    loaded = load(args.model, args.device)
    if loaded.segmenter.model.needs_support:
        raise UsageError(
            f"'{loaded.facts.name}' is prompted by supports and knows no classes; give --model one that does, such as "
            "classes-compact."
        )
    beside = None if args.beside == NONE else load(args.beside or DEFAULT_MODEL, args.device)
    plan = ClassPlan(data=args.data, part=args.part or "validation", limit=args.limit, sets=tuple(args.sets or ()))
    facts = {
        "model": loaded.facts.name,
        "sha256": loaded.facts.sha256,
        "steps": loaded.facts.metadata.get("steps"),
        "beside": beside.facts.name if beside else NONE,
        "beside_sha256": beside.facts.sha256 if beside else "",
        "part": plan.part,
        "limit": plan.limit,
    }
    tell = Stages(console.progress).show
    with measured_alone(args.out, (".md",), args.force) as path:
        file = ScoreFile(path, facts)
        lesson = Lesson.of(loaded.facts.metadata)
        proxy = beside.segmenter.reading(MOST_READ) if beside else None
        measure_classes(loaded.segmenter, lesson, plan, file, proxy, tell)
        if lesson.others:
            measure_empty(loaded.segmenter, lesson, plan, file, tell)
        console.progress.close()
        text = classes_table(file.scores.records)
        if args.out:
            write_table(args.out, ".md", text, True)
    console.result(text)
    return 0
