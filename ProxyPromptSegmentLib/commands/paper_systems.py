"""Makes the systems of the papers' tables: those of the evaluation, and those whose trainings live above it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.evaluation.paper import systems as named
from ProxyPromptSegmentLib.evaluation.paper.automedsam_tables import SETS
from ProxyPromptSegmentLib.evaluation.paper.image_prompts import ClassModel, Drawn, MaskPrompt
from ProxyPromptSegmentLib.evaluation.paper.run import Making
from ProxyPromptSegmentLib.evaluation.systems.catalogue import names, systems_for
from ProxyPromptSegmentLib.evaluation.systems.frozen import Frozen
from ProxyPromptSegmentLib.evaluation.systems.system import System
from ProxyPromptSegmentLib.networks.protocols import has_memory
from ProxyPromptSegmentLib.training.adapting.compared import OFFER
from ProxyPromptSegmentLib.training.few_images.system import Choices, FewImages, Trainings
from ProxyPromptSegmentLib.training.vocabulary.system import TrainedClasses

# Name in the tables -> name in the catalogue of systems.
KEYS = {
    named.AS_GIVEN: "proxy-prompt",
    named.ADAPTED: OFFER.key,
    named.MEAN_MASK: "mean-mask",
    named.UNET: "unet",
    named.NNUNET: "nnunet",
    named.SPECIALIST: "unet-all",
    named.SAM_POINT: "sam-point",
    named.SAM_BOX: "sam-box",
    named.SAM_EVERYTHING: "sam-everything",
    named.MEDSAM_BOX: "medsam-box",
    named.MED_SA_POINT: "med-sa-point",
    named.MED_SA_BOX: "med-sa-box",
    named.SAMED: "samed",
    named.AUTOSAM: "autosam",
    named.SAM2_MASK: "sam-mask",
    named.SAM2_BOX: "sam-box",
    named.SAM2_POINT: "sam-point",
    named.MEDICAL_SAM2: "first-frame",
}
REMEMBERS = (named.SAM2_MASK, named.SAM2_BOX, named.SAM2_POINT, named.MEDICAL_SAM2)
MEDSAM = "medsam-vit-b"
MEMORY = "sam2-compact"
"""The frozen start of systems that need a memory, where the one that is given has none."""
OWN = ("preset", "generator", "encoder", "learns_from", "masks", "dice", "memory")


class PaperSystems:
    """Makes the systems of one table; models are loaded once, trainings kept beside the scores."""

    def __init__(self, model: str, device: str, data: Path, folder: Path | None) -> None:
        """Remember what systems are made with.

        Args:
            model: Name or path of the frozen start.
            device: The device.
            data: Folder of the data sets.
            folder: Where trainings are kept; None keeps none.
        """
        self._model, self._device, self._data, self._folder = model, device, data, folder
        self._frozen: dict[str, Frozen] = {}
        self._trainings = Trainings(folder)
        self._classes: dict[str, Frozen] = {}
        self._unkept: tempfile.TemporaryDirectory[str] | None = None

    def __call__(self, making: Making) -> System:
        """Return the system of a row; see `evaluation.paper.run.Maker`."""
        options, wanted = making.row.options, making.row.system
        if wanted == named.PROXY_PROMPT:
            return FewImages(
                frozen=self.remembering() if options.get("memory") else self.frozen(str(options.get("model", ""))),
                choices=Choices(**{key: value for key, value in options.items() if key in OWN}),
                others=making.others,
                trainings=self._trainings,
            )
        if wanted in (named.IMAGE_PROMPT, named.CLASS_PROMPT):
            return self._class_model(making)
        if wanted == named.SURROGATE:
            return ClassModel(frozen=self.frozen(str(options["model"])), drawn=Drawn.SURROGATE, name=wanted)
        if wanted == named.MASK_OF_IMAGE_PROMPT:
            return MaskPrompt(frozen=self.frozen(), by=self._class_model(making), name=wanted)
        if wanted == named.MASK_OF_TRUTH:
            return MaskPrompt(frozen=self.frozen(), by=None, name=wanted)
        if wanted == named.CLASS_TRAINED:
            return TrainedClasses(
                model=self._model,
                data=self._data,
                sets=SETS,
                division=making.division,
                changes=options.get("trial", {}),
                folder=self._kept_classes(),
                kept=self._classes,
            )
        return self._compared(wanted, str(options.get("model", "")))

    def frozen(self, model: str = "") -> Frozen:
        """Return a model, by default the frozen start; it is loaded when it is first used."""
        name = model or self._model
        if name not in self._frozen:
            self._frozen[name] = Frozen(name, self._device)
        return self._frozen[name]

    def remembering(self, start: Frozen | None = None) -> Frozen:
        """Return a model with a memory: one that is given, by default the frozen start, if it has one."""
        start = start or self.frozen()
        return start if has_memory(start.segmenter.model.backbone) else self.frozen(MEMORY)

    def _class_model(self, making: Making) -> ClassModel:
        return ClassModel(frozen=self.frozen(str(making.row.options["model"])), name=making.row.system)

    def _kept_classes(self) -> Path:
        if self._folder is not None:
            return self._folder
        self._unkept = self._unkept or tempfile.TemporaryDirectory(prefix="classes-")
        return Path(self._unkept.name)

    def _compared(self, wanted: str, model: str) -> System:
        """Return a system of the catalogue.

        Raises:
            UsageError: If it has none of this name.
        """
        key = KEYS.get(wanted, wanted)
        if key not in names((OFFER,)):
            raise UsageError(f"the system '{wanted}' is not a part of this version")
        # No other weights are given MedSAM's name: the row needs them.
        frozen = self.frozen(model or (MEDSAM if wanted == named.MEDSAM_BOX else ""))
        if wanted in REMEMBERS:
            frozen = self.remembering(frozen)
        return systems_for(frozen, [key], self._device, more=(OFFER,))[key]
