"""The ablations of AutoMedSAM's class prompt encoder, in short equal trainings: Docs/results/automedsam.md.

    proxyprompt train --recipe classes-compact --data DATA_FOLDER --output runs/readings
    python Testing/benchmarks/class_trials.py measure DATA_FOLDER --output runs/trials --steps 60 \
        --readings runs/readings/classes-compact.safetensors
    python Testing/benchmarks/class_trials.py table runs/trials

Each trial is the recipe automedsam-compact with one change, from the same readings of the classes, on the same embedded
images, for the same number of steps. Validation images that show a class are drawn with presence; what is not measured
yet is measured by the same command.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ProxyPromptSegmentLib.imaging.metrics import summarize
from ProxyPromptSegmentLib.networks.checkpoints import load_model
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel
from ProxyPromptSegmentLib.resources import resource_path
from ProxyPromptSegmentLib.training.vocabulary.features import KeptImages, embed
from ProxyPromptSegmentLib.training.vocabulary.recipe import VocabularyRecipe, read_vocabulary_recipe
from ProxyPromptSegmentLib.training.vocabulary.run import FEATURES, model_on, train_vocabulary
from ProxyPromptSegmentLib.training.vocabulary.validation import validation_scores

READING, ALL = "the readings alone, without a training", "all losses, uncertainty, both branches"
TRIALS: dict[str, dict] = {
    ALL: {},
    "without cross-entropy": {"losses": {"bce": False}},
    "without Dice": {"losses": {"dice": False}},
    "without the distribution loss": {"losses": {"distribution": "none"}},
    "signed distance for the distribution": {"losses": {"distribution": "sdf"}},
    "without transfer": {"losses": {"transfer": False}},
    "equal weights": {"losses": {"weighting": "equal"}},
    "the sparse branch alone": {"generator": {"branches": "sparse"}},
    "the dense branch alone": {"generator": {"branches": "dense"}},
    "the encoder without the readings": {"generator": {"corrects": False, "readout": False}},
}


def changed(recipe: VocabularyRecipe, changes: dict, steps: int) -> VocabularyRecipe:
    """The recipe of a trial."""
    losses = dataclasses.replace(recipe.losses, **changes.get("losses", {}))
    generator = {**recipe.generator, **changes.get("generator", {})}
    return dataclasses.replace(recipe, losses=losses, generator=generator, steps=steps, only_better=False)


def scores(model: ProxyPromptModel, kept: list[KeptImages], recipe: VocabularyRecipe) -> dict[str, dict[str, float]]:
    """Mean Dice of each class and set, and the share of classes of other images that stay empty."""
    found = validation_scores(model, kept, recipe)
    names = {key: f"{recipe.classes[key[0]].about.name} / {key[1]}" for key in found.dice}
    dice = {names[key]: float(np.mean(values)) for key, values in found.dice.items() if values}
    return {"dice": dice, "empty": {"": float(np.mean(found.empty))}}


def measure(options: argparse.Namespace) -> None:
    """Train and score what is not there yet."""
    torch.set_num_threads(1)
    recipe = read_vocabulary_recipe(resource_path("recipes/automedsam-compact.json"))
    reading = load_model(options.readings)[0]
    readings = {k: v for k, v in reading.state_dict().items() if k.startswith("generator.") and "_place" not in k}
    features = options.out / FEATURES
    model, whole, _ = model_on(recipe)
    held = embed(recipe, options.data, features, model.eval().backbone, whole.sha256, part="validation")
    path = options.out / "scores.json"
    stored = json.loads(path.read_text()) if path.is_file() else {}

    def keep(name: str, value: dict) -> None:
        stored[name] = value
        path.write_text(json.dumps(stored, indent=1))

    if READING not in stored:
        keep(READING, scores(reading.eval(), held, recipe))
    for file in options.trained:
        keep(f"trained: {file.stem}", scores(load_model(file)[0].eval(), held, recipe))
    for name, changes in TRIALS.items():
        if name in stored or (options.only and name not in options.only):
            continue
        mine = changed(recipe, changes, options.steps)
        out = options.out / "".join(letter if letter.isalnum() else "_" for letter in name)
        out.mkdir(parents=True, exist_ok=True)
        if not (out / FEATURES).exists():
            (out / FEATURES).symlink_to(features.resolve())
        initial = readings if mine.generator.get("readout", True) else None
        written = train_vocabulary(mine, options.data, out, initial=initial)
        keep(name, scores(load_model(written)[0].eval(), held, recipe))


def table(options: argparse.Namespace) -> None:
    """Print the table: mean over classes and sets, and the difference to the readings, paired over these."""
    stored = json.loads((options.out / "scores.json").read_text())
    first = stored[READING]["dice"]
    print("| trial | mean Dice | minus the readings | classes of other images left empty |")
    print("|---|---|---|---|")
    for name, value in stored.items():
        dice = value["dice"]
        gain = summarize([dice[key] - first[key] for key in first], draws=2000)
        mean = np.mean(list(dice.values()))
        change = "" if name == READING else f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
        print(f"| {name} | {mean:.3f} | {change} | {value['empty']['']:.3f} |")


def main() -> None:
    """Measures, or prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("data", type=Path)
    measuring.add_argument("--output", dest="out", type=Path, required=True)
    measuring.add_argument("--readings", type=Path, required=True, help="the readings alone, which trials begin from")
    measuring.add_argument("--steps", type=int, default=60)
    measuring.add_argument("--only", nargs="+", help="some of the trials")
    measuring.add_argument("--trained", nargs="+", type=Path, default=[], help="models to score as well")
    measuring.set_defaults(run=measure)
    listing = commands.add_parser("table")
    listing.add_argument("out", type=Path)
    listing.set_defaults(run=table)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
