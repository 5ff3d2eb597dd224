"""Options that ``segment`` and ``cohort`` share: what prompts, the slicing axis, and how it is computed."""

from __future__ import annotations

import argparse
from pathlib import Path

from ProxyPromptSegmentLib.commands.checks import threshold_of, tiles_of
from ProxyPromptSegmentLib.commands.class_options import add_class, model_for
from ProxyPromptSegmentLib.commands.common_options import add_base_and_device, add_precision
from ProxyPromptSegmentLib.commands.requests import Request
from ProxyPromptSegmentLib.inference.closer.choice import USE_CLOSER
from ProxyPromptSegmentLib.inference.helps import REGISTER, USE_POSITION
from ProxyPromptSegmentLib.inference.results import THRESHOLD
from ProxyPromptSegmentLib.inference.tiling.choice import TileChoice
from ProxyPromptSegmentLib.support.pairs import MOST_READ
from ProxyPromptSegmentLib.weights.registry import DEFAULT_MODEL


def add_prompts(cases: argparse._ArgumentGroup) -> None:
    """Add what prompts: supports or classes."""
    cases.add_argument(
        "--support", nargs=2, action="append", default=[], type=Path, metavar=("IMAGE", "SEGMENTATION"),
        help="annotated case: its image and its segmentation (.seg.nrrd, label map or mask picture); repeat it for "
        "several cases",
    )  # fmt: skip
    add_class(cases)
    cases.add_argument(
        "--surrogate", action="store_true",
        help="with a model that makes its prompt of the image alone: draw with its small surrogate decoder, a coarse "
        "preview without SAM",
    )  # fmt: skip


def add_library(cases: argparse._ArgumentGroup) -> None:
    """Add the support library as what prompts."""
    cases.add_argument(
        "--library", action="store_true",
        help="use all cases of the support library that have the objects as supports ('proxyprompt library list')",
    )  # fmt: skip


def add_objects(cases: argparse._ArgumentGroup) -> None:
    """Add the choice among the supports' segments."""
    cases.add_argument(
        "--object", action="append", default=[], metavar="NAME",
        help="segment of the support to search for; repeat it for several (default: all); NEW=A+B joins segments",
    )  # fmt: skip


def add_slicing(slices: argparse._ArgumentGroup) -> None:
    """Add the supports' slices and the target's axis."""
    slices.add_argument(
        "--support-slices", action="append", default=[], metavar="A:B",
        help="slices of the support to use, once per --support in the same order (default: auto, up to 8 of the "
        "annotated ones)",
    )  # fmt: skip
    slices.add_argument(
        "--axis", choices=("auto", "k", "j", "i"), default="auto",
        help="slicing axis of the target (default: auto = acquisition plane)",
    )  # fmt: skip


def add_computing(engine: argparse._ArgumentGroup) -> None:
    """Add model, device and the settings of a segmentation."""
    engine.add_argument(
        "--threshold", type=threshold_of, default=THRESHOLD, metavar="P",
        help=f"probability above which a voxel belongs to the object ({THRESHOLD})",
    )  # fmt: skip
    engine.add_argument(
        "--each-slice-alone", action="store_true",
        help="segment each slice independently: no smoothing across slices, small components and gaps are kept",
    )  # fmt: skip
    engine.add_argument(
        "--all-supports", action="store_true",
        help=f"let each slice read all support slices, not only the {MOST_READ} that are most like it",
    )  # fmt: skip
    engine.add_argument(
        "--keep-gaps", action="store_true",
        help="leave empty slices inside an object empty; otherwise they are filled where the mask itself supports it",
    )  # fmt: skip
    engine.add_argument(
        "--tiles", type=tiles_of, default=TileChoice(), metavar="auto|off|on|TIMES",
        help="cut slices into overlapping tiles that show structures TIMES larger (auto = only structures that are too "
        "thin or too small for the model; on = all, with a magnification that suits them)",
    )  # fmt: skip
    engine.add_argument(
        "--position", action=argparse.BooleanOptionalAction, default=USE_POSITION,
        help="use the relative position of slices along their volumes, if the model reads it; leave it out where "
        "support and target show very different parts of the body",
    )  # fmt: skip
    engine.add_argument(
        "--register", action=argparse.BooleanOptionalAction, default=REGISTER,
        help="register supports that are volumes to the target and join their masks with the prediction; takes "
        "a second for each support of a small volume, 5 to 20 for a large one",
    )  # fmt: skip
    engine.add_argument(
        "--closer", action=argparse.BooleanOptionalAction, default=USE_CLOSER,
        help="segment small structures a second time, enlarged, around where they were found; up to twice the time",
    )  # fmt: skip
    engine.add_argument(
        "--keep-supports", action=argparse.BooleanOptionalAction, default=True,
        help="keep what networks computed of the supports in the user's cache folder, without names, so that the next "
        "run with them starts at once",
    )  # fmt: skip
    engine.add_argument(
        "--model", metavar="NAME|FILE",
        help=f"model of 'proxyprompt models list', or a .safetensors file ({DEFAULT_MODEL}; with --class, the first "
        "that knows it)",
    )  # fmt: skip
    add_base_and_device(engine)
    add_precision(engine)


def request_of(args: argparse.Namespace, target: Path, output: Path) -> Request:
    """Return the request that the shared options make for a target.

    Raises:
        UsageError: If no model knows the classes.
    """
    return Request(
        supports=tuple((image, mask) for image, mask in args.support),
        target=target,
        output=output,
        objects=tuple(args.object),
        model=model_for(args.model, args.classes, DEFAULT_MODEL),
        base=args.base,
        support_slices=tuple(args.support_slices),
        axis=args.axis,
        device=args.device,
        precision=args.precision,
        threshold=args.threshold,
        across_slices=not args.each_slice_alone,
        fill_gaps=not args.keep_gaps,
        most_read=None if args.all_supports else MOST_READ,
        tiles=args.tiles,
        position=args.position,
        register=args.register,
        closer=args.closer,
        classes=tuple(args.classes),
        any_modality=args.any_modality,
        surrogate=args.surrogate,
        keep_supports=args.keep_supports,
    )
