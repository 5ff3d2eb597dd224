"""AutoMedSAM as a system of the tables: trained on the classes of a table, on all of its data sets at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ProxyPromptSegmentLib.data.splits import Split
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.evaluation.paper.image_prompts import ClassModel
from ProxyPromptSegmentLib.evaluation.paper.loading import Division, load, what_is_there
from ProxyPromptSegmentLib.evaluation.paper.protocol import DataNeed
from ProxyPromptSegmentLib.evaluation.systems.frozen import Frozen
from ProxyPromptSegmentLib.evaluation.systems.system import Fitted, Kind, Lesson
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.networks.checkpoints import load_model
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.resources import resource_path
from ProxyPromptSegmentLib.training.vocabulary.recipe import TaughtClass, VocabularyRecipe, read_vocabulary_recipe
from ProxyPromptSegmentLib.training.vocabulary.run import train_vocabulary
from ProxyPromptSegmentLib.weights.hashing import weights_sha256
from ProxyPromptSegmentLib.weights.registry import resolve
from ProxyPromptSegmentLib.weights.vocabulary import PromptClass

NAME = "AutoMedSAM, trained on the sets of the table"
FORM = {"corrects": False, "readout": False}  # the paper's: no readings of this project below it
MOST_SLICES = 80  # images of a data set that are embedded


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainedClasses:
    """A class prompt encoder on a frozen compact model.

    Attributes:
        model: Name or path of the frozen model.
        data: Folder of the data sets.
        sets: The data sets that are learned from.
        division: How the table divides original sets, whose test patients would be learned from otherwise.
        changes: Losses and keys of the generator that differ, as in a recipe: ``losses``, ``generator``.
        folder: Where trainings are kept and continued.
        kept: Identity of a training -> its result, shared by the rows of a table.
    """

    model: str
    data: Path
    sets: Sequence[DataNeed]
    division: Division
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    folder: Path
    kept: dict[str, Frozen] = field(default_factory=dict)
    name: str = NAME
    kind: Kind = Kind.FULL
    source: str = "AutoMedSAM, arXiv:2502.06817; the frozen compact model stands in for MedSAM"

    def fit(
        self, lesson: Lesson, progress: Callable[[float], None] | None = None, cancel: CancelToken | None = None
    ) -> Fitted:
        """Train on the training parts of all sets, or take the training that was kept.

        Raises:
            UsageError: If none of the sets is there, or a class of the lesson is not learned.
        """
        recipe = self.recipe(lesson)
        base = resolve(self.model)[0]
        identity = json.dumps([recipe.to_dict(), weights_sha256(base), asdict(self.division)], sort_keys=True)
        key = hashlib.sha256(identity.encode()).hexdigest()[:20]
        if key not in self.kept:
            path = train_vocabulary(
                recipe,
                self.data,
                self.folder / key,
                threads=lesson.threads,
                cancel=cancel,
                base=base,
                read=self._read,
            )
            self.kept[key] = Frozen.of(Segmenter(load_model(path)[0], "cpu", 1), NAME)
        return ClassModel(frozen=self.kept[key], name=NAME).fit(lesson)

    def recipe(self, lesson: Lesson) -> VocabularyRecipe:
        """Return the settings of the training.

        Raises:
            UsageError: If none of the sets is there.
        """
        there = [need for need in self.sets if what_is_there(need, self.data)]
        if not there:
            titles = ", ".join(need.title for need in self.sets)
            raise UsageError(f"{self.data} holds none of the data sets that are learned from: {titles}")
        classes: dict[str, dict[str, tuple[str, ...]]] = {}
        for need in there:
            for one in need.objects:
                classes.setdefault(one, {})[self._name(need)] = (one,)
        recipe = read_vocabulary_recipe(resource_path("recipes/automedsam-compact.json"))
        return replace(
            recipe,
            classes=tuple(TaughtClass(about=PromptClass(one), sets=sets) for one, sets in classes.items()),
            losses=replace(recipe.losses, **self.changes.get("losses", {})),
            generator={**recipe.generator, **FORM, **self.changes.get("generator", {})},
            others=(),
            sided=(),
            alike=(),
            most_slices=MOST_SLICES,
            only_better=False,
            minutes=lesson.seconds / 60,
            steps=0,
            seed=lesson.seed,
            # The encoder of boxes is learned from first, where there is such a loss.
            decode_from=recipe.decode_from if self.changes.get("losses", {}).get("transfer", True) else 0.0,
        )

    def _name(self, need: DataNeed) -> str:
        return need.original if what_is_there(need, self.data) == "original" else need.stand_in

    def _read(self, data: Path, name: str) -> Split:
        """Read a set of the table, with the columns of the table as its objects."""
        need = next(one for one in self.sets if name in (one.original, one.stand_in))
        parts = load(need, data, self.division).parts
        return Split(**{part: [item.read() for item in items] for part, items in parts.items()})
