"""The subcommand ``models``: what is installed."""

from __future__ import annotations

import argparse
import dataclasses
import json

from ProxyPromptSegmentLib.console import Console
from ProxyPromptSegmentLib.errors import EXIT_OK
from ProxyPromptSegmentLib.registry import checkpoint_of, read_registry

DESCRIPTION = "Lists the models that --model knows by name."
EXAMPLES = """\
example:
  proxyprompt models list
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's options."""
    parser.add_argument("action", choices=("list",), help="list: name, file, size, licence and SHA-256 of each model")
    parser.add_argument("--json", action="store_true", help="prints the list as JSON")


def run(args: argparse.Namespace, console: Console) -> int:
    """Runs the subcommand; returns the exit code."""
    entries = read_registry()
    if args.json:
        listed = [{**dataclasses.asdict(e), "installed": checkpoint_of(e).is_file()} for e in entries]
        console.result(json.dumps(listed, indent=2, ensure_ascii=False))
        return EXIT_OK
    for entry in entries:
        path = checkpoint_of(entry)
        size = f"{path.stat().st_size / 1e6:.1f} MB" if path.is_file() else "not installed"
        console.result(f"{entry.name}\n  {entry.description}")
        console.result(
            f"  file {entry.file}, {size}, licence {entry.licence}\n  SHA-256 {entry.sha256 or 'not yet fixed'}"
        )
        if entry.citation:
            console.result(f"  cite {entry.citation}")
    return EXIT_OK
