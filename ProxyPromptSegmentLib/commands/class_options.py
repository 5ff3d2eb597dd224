"""The option ``--class``: objects that a model knows by name, instead of a support."""

from __future__ import annotations

import argparse

from ProxyPromptSegmentLib.commands.requests import Request
from ProxyPromptSegmentLib.errors import CheckpointError, UsageError
from ProxyPromptSegmentLib.inference.tiling.choice import ON, TileChoice
from ProxyPromptSegmentLib.weights.classes import models_knowing
from ProxyPromptSegmentLib.weights.publish import read_metadata
from ProxyPromptSegmentLib.weights.registry import resolve
from ProxyPromptSegmentLib.weights.vocabulary import FEW, PromptClass, chosen_classes, vocabulary_in

NO_SUPPORT = (
    "a support is missing: give an annotated case with --support IMAGE SEGMENTATION (`segment` and `cohort` also take "
    "those of the support library with --library), or name what a model knows by itself with --class NAME "
    "(`proxyprompt models list` shows which models know classes); `segment` and `track` can also be shown it with "
    "--point or --box."
)


def add_class(parser: argparse._ArgumentGroup) -> None:
    """Add the options that ask for classes."""
    parser.add_argument(
        "--class", action="append", default=[], dest="classes", metavar="NAME",
        help="without a support: a structure that a model knows by name, a synonym or its SNOMED CT code; repeat it "
        "for several (default: all that a model with few classes knows)",
    )  # fmt: skip
    parser.add_argument(
        "--any-modality", action="store_true",
        help="look for a class also where the target is not of a modality that shows it",
    )  # fmt: skip


def model_for(model: str | None, classes: list[str], default: str) -> str:
    """Return the model to use: the one that was chosen, else the first that knows the classes, else the default.

    Raises:
        UsageError: If no model knows them.
    """
    if model or not classes:
        return model or default
    return models_knowing(classes)[0]


def asked_by_name(request: Request) -> tuple[PromptClass, ...]:
    """Return the classes that a request asks for; none if it gives supports.

    Raises:
        UsageError: If nothing says what to segment, supports and classes are mixed, or the model is not made for what
            is given.
    """
    if request.by_hand and not (request.supports or request.classes):
        if request.objects:
            raise UsageError(
                "--object chooses segments of a support; without one, name what is marked by hand in front of it, such "
                "as --point liver=120,95,12."
            )
        return ()
    try:
        metadata = read_metadata(resolve(request.model)[0])
    except CheckpointError:
        if request.classes:
            raise
        if not request.supports:
            raise UsageError(NO_SUPPORT) from None
        return ()  # loading says what is wrong with it
    known = vocabulary_in(metadata)
    if request.supports and request.classes:
        raise UsageError("--class needs no --support, and --support shows what to segment itself; give one of the two.")
    if request.supports and known:
        raise UsageError(
            f"'{request.model}' is not prompted by a support: it knows {_named(known)} by name. Leave out --support "
            "and choose with --class, or choose another --model."
        )
    if request.supports:
        return ()
    if not known:
        if request.classes:
            raise UsageError(
                f"'{request.model}' knows no classes: it is prompted by a support. Give one with --support, or leave "
                "out --model, so that a model that knows them is used."
            )
        raise UsageError(NO_SUPPORT)
    if request.objects:
        raise UsageError("--object chooses segments of a support; without one, name structures with --class.")
    if TileChoice.of(request.tiles).mode == ON:
        raise UsageError("--tiles needs a support, whose masks say how small a structure is; leave it out.")
    if not request.classes and len(known) > FEW:
        raise UsageError(
            f"'{request.model}' knows {len(known)} classes; name those to look for with --class: {_named(known)}."
        )
    return chosen_classes(known, request.classes, f"'{request.model}'")


def _named(classes: tuple[PromptClass, ...]) -> str:
    return ", ".join(one.name for one in classes)
