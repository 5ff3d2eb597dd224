"""The subcommand ``train``: a recipe and data in, a checkpoint out; it can be stopped and gone on with."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ProxyPromptSegmentLib.commands.checks import device_of
from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.commands.interrupt import stop_on_signals
from ProxyPromptSegmentLib.errors import EXIT_INTERRUPTED, EXIT_OK, InputError, OutputError, UsageError
from ProxyPromptSegmentLib.networks.checkpoints import read_checkpoint
from ProxyPromptSegmentLib.resources import resource_path
from ProxyPromptSegmentLib.training.recipe import read_recipe
from ProxyPromptSegmentLib.wording import duration

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.training.trainer import TrainState

SAY_EVERY = 50
STATE = "state.pt"
DESCRIPTION = """\
Trains a model as a recipe says. The time is the recipe's, or --minutes. Ctrl-C keeps the state; the
same command goes on where it stopped.
"""
EXAMPLES = """\
examples:
  proxyprompt train --recipe sam-compact-1 --data DATA --out runs/compact
  proxyprompt train --recipe my_recipe.json --data DATA --out runs/mine --minutes 10 --threads 2
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's options."""
    add = parser.add_argument
    add(
        "--recipe",
        required=True,
        metavar="NAME|FILE",
        help="name of a recipe that comes with the program, or a JSON file",
    )
    add(
        "--data",
        required=True,
        type=Path,
        metavar="FOLDER",
        help="folder of the data sets, with manifest.csv",
    )
    add("--out", required=True, type=Path, metavar="FOLDER", help="folder for the state and the checkpoint")
    add("--initial", type=Path, metavar="FILE", help="checkpoint whose weights it begins with (default: random ones)")
    add("--minutes", type=_positive, metavar="M", help="training time (default: the recipe's)")
    add("--threads", type=int, default=1, metavar="T", help="processor threads (1)")
    add(
        "--device",
        type=device_of,
        default="auto",
        metavar="auto|cpu|cuda|mps",
        help="where to compute (auto)",
    )
    add("--quiet", action="store_true", help="says nothing but warnings and errors")
    add("--progress", action="store_true", default=None, help="shows progress even if stderr is no terminal")


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise ValueError
    return value


def recipes_folder() -> Path:
    """The folder of the recipes that come with the program."""
    return resource_path("recipes")


def find_recipe(name: str) -> Path:
    """A recipe file by path or by name.

    Raises:
        UsageError: If there is none.
    """
    if Path(name).is_file():
        return Path(name)
    folder = recipes_folder()
    known = sorted(path.stem for path in folder.glob("*.json"))
    if name not in known:
        raise UsageError(f"there is no recipe '{name}'; there are {', '.join(known) or 'none'}, or give a JSON file.")
    return folder / f"{name}.json"


def check_folder(out: Path, checkpoint: str) -> None:
    """Refuses a folder that cannot be written, or that holds a checkpoint which is not of a training there.

    Raises:
        OutputError: In these cases.
    """
    existing = next(parent for parent in (out, *out.resolve().parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"{out} cannot be made or written by this user; choose another --out folder.")
    if (out / checkpoint).exists() and not (out / STATE).exists():
        raise OutputError(
            f"{out / checkpoint} exists already, but no state of its training ({STATE}); it is not "
            "overwritten. Choose another --out folder."
        )


def run(args: argparse.Namespace, console: Console) -> int:
    """Runs the subcommand; returns the exit code."""
    if args.threads < 1:
        raise UsageError(f"--threads is {args.threads}; at least one is needed.")
    recipe_file = find_recipe(args.recipe)
    recipe = read_recipe(recipe_file)
    if not args.data.is_dir():
        raise InputError(f"the data folder {args.data} does not exist; give the folder that holds manifest.csv.")
    check_folder(args.out, f"{recipe.name}.safetensors")
    if args.initial and not args.initial.is_file():
        raise InputError(f"there is no checkpoint {args.initial} to begin with; give a .safetensors file.")
    minutes = args.minutes or recipe.minutes
    with stop_on_signals(console.status, "the step") as cancel, console.listening():
        from ProxyPromptSegmentLib.networks.devices import choose_device
        from ProxyPromptSegmentLib.training.run import train_recipe

        device = str(choose_device(args.device))
        reporter = _Reporter(console, 60 * minutes)
        going_on = "goes on" if (args.out / STATE).is_file() else "begins"
        console.say(f"training {recipe.name} {going_on}: {minutes:g} min on {device}, into {args.out}")
        if cancel.cancelled:
            console.status("stopped before the first step.")
            return EXIT_INTERRUPTED
        try:
            initial = _weights(args.initial) if args.initial else None
            checkpoint = train_recipe(
                recipe_file, args.data, args.out, device, args.threads, args.minutes, cancel, reporter.on_step, initial
            )
        finally:
            console.progress.close()
    console.say(f"step {reporter.step}: wrote {checkpoint}")
    if cancel.cancelled and reporter.seconds < 60 * minutes:
        left = duration(60 * minutes - reporter.seconds)
        console.status(f"stopped; the state is kept in {args.out}. Give the same command again to go on ({left} left).")
        return EXIT_INTERRUPTED
    return EXIT_OK


def _weights(path: Path) -> dict[str, Any]:
    """The tensors of a checkpoint, in single precision."""
    return {name: tensor.float() for name, tensor in read_checkpoint(path)[0].items()}


class _Reporter:
    """Shows how far a training is."""

    def __init__(self, console: Console, total_seconds: float) -> None:
        self.console, self.total = console, total_seconds
        self.step, self.seconds = 0, 0.0
        self.shown: int | None = None
        self.losses: list[float] = []

    def on_step(self, state: TrainState, parts: dict[str, float]) -> None:
        """Told after each step."""
        progress = self.console.progress
        if self.shown is None:
            self.shown = int(self.seconds)
            progress.start(int(self.total), "training")
        self.step, self.seconds = state.step, state.seconds
        self.losses.append(parts["loss"])
        now = min(int(state.seconds), int(self.total))
        progress.step(
            now - self.shown,
            f"step {state.step}, loss {sum(self.losses[-SAY_EVERY:]) / len(self.losses[-SAY_EVERY:]):.3f}",
        )
        self.shown = now
        if state.step % SAY_EVERY == 0:
            del self.losses[:-SAY_EVERY]
            progress.close()
            self.console.say(
                f"step {state.step}, {duration(state.seconds)}: loss {sum(self.losses) / len(self.losses):.4f}"
            )
