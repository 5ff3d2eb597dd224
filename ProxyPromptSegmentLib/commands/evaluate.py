"""The subcommand ``evaluate``; its work is in `evaluation.command`."""

from __future__ import annotations

import argparse

from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.evaluation import command

DESCRIPTION = """\
Measures a model on public data: tables of Dice with the same supports for every method, sweeps and
volumes followed with SAM 2's memory, and speed.
"""
EXAMPLES = """\
examples:
  proxyprompt evaluate promise12 --data DATA --out results/promise12
  proxyprompt evaluate ccaus_video --data DATA --model sam2-compact --protocol track
  proxyprompt evaluate speed
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's options."""
    command.add_arguments(parser)


def run(args: argparse.Namespace, console: Console) -> int:  # noqa: ARG001 - the commands share a signature
    """Runs the subcommand; returns the exit code."""
    return command.run(args)
