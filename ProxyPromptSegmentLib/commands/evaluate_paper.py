"""``evaluate T2`` and the like: one table or figure of the papers, and ``evaluate --list``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.commands.evaluate_files import check_tables, measured_alone, table_file, write_table
from ProxyPromptSegmentLib.commands.stages import Stages
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.evaluation.paper import selective_maps, table
from ProxyPromptSegmentLib.evaluation.paper.catalogue import measured_as, protocol_of
from ProxyPromptSegmentLib.evaluation.paper.chosen import chosen_rows, chosen_sets
from ProxyPromptSegmentLib.evaluation.paper.counts import counts
from ProxyPromptSegmentLib.evaluation.paper.lessons import Budget
from ProxyPromptSegmentLib.evaluation.paper.listing import listing
from ProxyPromptSegmentLib.evaluation.paper.loading import Division, load, what_is_there
from ProxyPromptSegmentLib.evaluation.paper.panels import KeptMasks
from ProxyPromptSegmentLib.evaluation.paper.protocol import Measure, Protocol
from ProxyPromptSegmentLib.evaluation.paper.run import (
    SIDE_PART,
    Plan,
    run_protocol,
    score_file,
)
from ProxyPromptSegmentLib.evaluation.paper.systems import PROXY_PROMPT
from ProxyPromptSegmentLib.evaluation.report.page import Chapter, Grid, Words, page
from ProxyPromptSegmentLib.evaluation.report.standard import chapters_of
from ProxyPromptSegmentLib.evaluation.statistics.tables import table_of, to_csv
from ProxyPromptSegmentLib.weights.hashing import weights_sha256
from ProxyPromptSegmentLib.weights.registry import all_entries, resolve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ProxyPromptSegmentLib.evaluation.report.page import Panels
    from ProxyPromptSegmentLib.evaluation.statistics.score import Score

SECONDS = 900.0
DEFAULT_PART = "test"
SPLITS, WEIGHTS, MASKS = ".splits.json", ".weights", ".masks"
MAP_PATIENTS = 16  # for training, of which the supports of a selective map are
PANELS = 1  # targets of each data set in the report of a table
TEXTS = (".md", ".json", ".csv", ".html", SPLITS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that tables and figures of the papers alone take."""
    group = parser.add_argument_group("tables and figures of the papers")
    group.add_argument("--list", action="store_true", help="list them with the data that each needs")
    group.add_argument("--rows", nargs="+", metavar="ROW", help="some of the rows, by title or by system")
    group.add_argument("--without", nargs="+", metavar="ROW", help="rows that are left out, by title or by system")
    group.add_argument(
        "--seconds", type=float, default=SECONDS, help=f"processor seconds that each training may take ({SECONDS:g})"
    )


def run_list(args: argparse.Namespace, console: Console) -> int:
    """List all tables and figures; return the exit code."""
    console.result(listing(args.data))
    return 0


def run_paper(args: argparse.Namespace, console: Console) -> int:
    """Measure a table or figure; return the exit code.

    Raises:
        UsageError: If an option does not fit it.
    """
    shown = protocol_of(args.what)
    if not args.seconds > 0:  # also what is no number
        raise UsageError(f"--seconds is {args.seconds:g}; a training needs more than 0")
    if shown.measure is Measure.COUNTS:
        return _counts(shown, args, console)
    if shown.measure is Measure.MAP:
        return _maps(shown, args, console)
    return _systems(shown, args, console)


def _systems(shown: Protocol, args: argparse.Namespace, console: Console) -> int:
    """Measure the rows of a protocol on the same targets."""
    from ProxyPromptSegmentLib.commands.paper_systems import PaperSystems
    from ProxyPromptSegmentLib.networks.devices import choose_device

    protocol, part = measured_as(shown), args.part or DEFAULT_PART
    chosen_rows(protocol, args.rows or (), args.without or ())
    chosen_sets(protocol, args.sets or ())
    facts = {
        "table": protocol.id,
        "model": Path(args.model).stem,
        "sha256": digest(args.model),
        "part": part,
        "seconds": args.seconds,
        "seed": args.seed,
    }
    if originals := _like_stand_ins(protocol, args.data):
        facts["originals"] = originals
    plan = Plan(
        data=args.data,
        part=part,
        rows=args.rows or (),
        without=args.without or (),
        sets=args.sets or (),
        limit=args.limit,
        draws=args.draws,
        budget=Budget(args.seconds, args.seed, args.threads or 1),
    )
    with measured_alone(args.out, TEXTS, args.force) as path:
        file = score_file(path, facts)
        masks = KeptMasks(_beside(args.out, MASKS))
        if not any(True for _ in file.units()):
            masks.forget()  # they would be of scores that were removed
        make = PaperSystems(args.model, str(choose_device(args.device)), args.data, _beside(args.out, WEIGHTS))
        stages = Stages(console.progress)
        outcome = run_protocol(
            protocol, plan, make, file, lambda row, name, *done: stages.show(f"{row}, {name}", *done), masks.keep
        )
        console.progress.close()
        text = table.to_markdown(shown, outcome, file, _start(args, part))
        if args.out:
            columns = table.columns_of(shown, outcome.sets)
            own = [score for score in file.records if score.table == protocol.id]
            values = {"id": shown.id, "facts": facts, "rows": table.rows_as_values(shown, own, columns)}
            write_table(args.out, ".json", json.dumps(values, indent=1) + "\n", True)
            write_table(args.out, ".csv", to_csv(table_of(own)) if own else "", True)
            write_table(args.out, SPLITS, json.dumps(outcome.splits, indent=1) + "\n", True)
            write_table(args.out, ".md", text, True)
            pictures = masks.shown([row.title for row in shown.rows], shown.panels or PANELS)
            write_table(args.out, ".html", _page(shown, own, pictures, text), True)
    console.result(text)
    return 0


def _like_stand_ins(protocol: Protocol, data: Path) -> list[str]:
    """Return the original sets that are there and have the name of their stand-in, with whose scores none may mix."""
    alike = [need for need in protocol.sets if need.original and need.original == need.stand_in]
    return [need.title for need in alike if what_is_there(need, data) == "original"]


def _counts(shown: Protocol, args: argparse.Namespace, console: Console) -> int:
    """Count the samples of each data set."""
    check_tables(args.out, (".md",), args.force)
    text = counts(shown, args.data, args.seed)
    if args.out:
        write_table(args.out, ".md", text, args.force)
    console.result(text)
    return 0


def _maps(shown: Protocol, args: argparse.Namespace, console: Console) -> int:
    """Draw the selective map for several supports."""
    from ProxyPromptSegmentLib.inference.loading import load as load_model

    check_tables(args.out, (".md", ".html"), args.force)
    segmenter = load_model(args.model, args.device).segmenter
    segmenter.check_reads_supports()
    division = Division(patients=MAP_PATIENTS, seed=args.seed)
    sets = [load(need, args.data, division) for need in shown.sets if what_is_there(need, args.data)]
    part = args.part or DEFAULT_PART
    rows = selective_maps.measure_maps(shown, segmenter, sets, part)
    text = selective_maps.to_markdown(shown, rows, _start(args, part))
    if args.out:
        write_table(args.out, ".md", text, args.force)
        pictures = selective_maps.panels_of(rows)
        write_table(args.out, ".html", page(f"{shown.paper}, {shown.id}", [Chapter(shown.title, pictures)]), args.force)
    console.result(text)
    return 0


def _page(shown: Protocol, scores: Sequence[Score], pictures: Sequence[Panels], text: str) -> str:
    """Return the report: the table beside the published figures, every measure with its spread, masks side by side."""
    reference = next((row.title for row in shown.rows if row.system == PROXY_PROMPT), None)
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    said = [line for line in lines if not line.startswith(("|", "* "))]
    rows = [line.removeprefix("* ") for line in lines if line.startswith("* ")]
    chapters = [
        Chapter("", [Words(said[:1]), *_tables_in(text), Words(said[1:])]),
        *(chapters_of(scores, reference, SIDE_PART if shown.surface else "") if scores else []),
        Chapter("Masks", pictures),
        Chapter("Rows", [Words(rows)]),
    ]
    return page(f"{shown.paper}, {shown.id}: {shown.title}", chapters)


def _tables_in(text: str) -> list[Grid]:
    """Return the tables of a Markdown text; an interval and a published figure stand below the mean."""
    blocks = ("\n".join(line if line.startswith("|") else "" for line in text.splitlines())).split("\n\n")
    found = []
    for block in filter(None, (one.strip() for one in blocks)):
        head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines())
        cells = [[*row[:2], *(cell.replace(" [", "\n[").replace(" (", "\n(") for cell in row[2:])] for row in rows]
        found.append(Grid(head, cells, 2))
    return found


def _beside(out: Path | None, suffix: str) -> Path | None:
    return None if out is None else table_file(out, suffix)


def _start(args: argparse.Namespace, part: str) -> str:
    """Return a sentence about the frozen start and the budget."""
    official = any(entry.name == args.model and not entry.embedded for entry in all_entries())
    stands = "" if official else ", which stands for the papers' SAM ViT-H and MedSAM"
    return (
        f"Frozen start: {Path(args.model).stem}{stands}. Part: {part}. Each training may take {args.seconds:g} "
        f"processor seconds; seed {args.seed}."
    )


def digest(model: str) -> str:
    """Return the SHA-256 of a model's weights, from the registry where it is known."""
    for entry in all_entries():
        if entry.name == model and entry.sha256:
            return entry.sha256.lower()
    path, expected = resolve(model)
    return expected or weights_sha256(path)
