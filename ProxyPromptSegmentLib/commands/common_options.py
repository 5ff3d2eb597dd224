"""Options that several subcommands have, each added in one place."""

from __future__ import annotations

import argparse
from pathlib import Path

from ProxyPromptSegmentLib.commands.checks import device_of
from ProxyPromptSegmentLib.worker.precision import AUTO, PRECISIONS


def add_device(to: argparse._ActionsContainer) -> None:
    """Add the device to compute on."""
    to.add_argument(
        "--device", type=device_of, default="auto", metavar="auto|cpu|cuda|mps", help="device to compute on (auto)"
    )


_PRECISION = (
    "auto = half precision on graphics cards that are fast in it, with models whose masks were measured not to change; "
    "half, single = always"
)


def add_precision(to: argparse._ActionsContainer, said: str = _PRECISION) -> None:
    """Add the precision of the networks; ``said`` is the help."""
    to.add_argument("--precision", choices=PRECISIONS, default=AUTO, help=said)


def add_base_and_device(to: argparse._ActionsContainer) -> None:
    """Add the official weights below a prompt generator, and the device to compute on."""
    to.add_argument(
        "--base", type=Path, metavar="FILE",
        help="official weights that the model's prompt generator was trained on (default: as installed)",
    )  # fmt: skip
    add_device(to)


def add_threads(to: argparse._ActionsContainer, default: int, more: str = "") -> None:
    """Add the number of processor threads.

    Args:
        to: Where the option is added.
        default: Its default.
        more: What the help says beside it.
    """
    to.add_argument("--threads", type=int, default=default, metavar="N", help=f"processor threads ({default}){more}")


def add_display(to: argparse._ActionsContainer) -> None:
    """Add what is shown while a command runs."""
    to.add_argument("--quiet", action="store_true", help="print only what was asked for, warnings and errors")
    to.add_argument(
        "--progress", action="store_true", default=None,
        help="draw a progress bar also where stderr is no terminal, instead of writing a line from time to time",
    )  # fmt: skip


def add_action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], name: str, short: str
) -> argparse.ArgumentParser:
    """Add an action of a subcommand, such as ``models list``, with the options that all of them have.

    Args:
        actions: The actions so far.
        name: Its name.
        short: What it does, without a capital and a stop.
    """
    sub = actions.add_parser(name, help=short, description=f"{short[:1].upper()}{short[1:]}.")
    sub.add_argument("--json", action="store_true", help="print only the result, as JSON on stdout")
    sub.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    add_display(sub)
    return sub
