"""The compared systems by name; nothing is loaded before a system is asked for.

Each has the name of its row, and a short one for the command line. Systems of trainings that live above the evaluation
are added by whoever may import them, see `systems_for`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.evaluation.systems.copied import CopiedMeanMask
from ProxyPromptSegmentLib.evaluation.systems.frozen import Frozen
from ProxyPromptSegmentLib.evaluation.systems.matching import FeatureMatching
from ProxyPromptSegmentLib.evaluation.systems.system import Kind, System

TRUTHS = {
    "point": "a point in the truth",
    "box": "a box around the truth",
    "mask": "the true mask",
    "everything": "a grid of points; what overlaps most with the truth",
}


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A system that can be asked for.

    Attributes:
        key: Its name on the command line.
        kind: How it knows what to segment.
        about: What it is, in a line.
        make: Makes it for a frozen model.
    """

    key: str
    kind: Kind
    about: str
    make: Callable[[Frozen], System]


def offers(trunk: Path | None = None) -> tuple[Offer, ...]:
    """Return all systems of this package, in the order of a table.

    Args:
        trunk: File of ImageNet weights, for matched features and AutoSAM; None for those of the model.
    """
    return (
        Offer(key="proxy-prompt", kind=Kind.FREE, about="the model as given, in context", make=_proxy_prompt),
        *(
            Offer(key=f"sam-{key}", kind=Kind.TRUTH, about=f"SAM or SAM 2 prompted with {about}", make=_truth(key))
            for key, about in TRUTHS.items()
        ),
        Offer(key="medsam-box", kind=Kind.TRUTH, about="MedSAM with a box around the truth", make=_medsam),
        Offer(key="med-sa-point", kind=Kind.TRUTH, about="Med-SA with a point in the truth", make=_med_sa("point")),
        Offer(key="med-sa-box", kind=Kind.TRUTH, about="Med-SA with a box around the truth", make=_med_sa("box")),
        Offer(key="samed", kind=Kind.FEW, about="SAMed, without a prompt", make=_samed),
        Offer(
            key="autosam",
            kind=Kind.FEW,
            about="AutoSAM, which prompts by the image",
            make=lambda frozen: _auto_sam(frozen, trunk),
        ),
        Offer(key="autosam-all", kind=Kind.FULL, about="our AutoSAM models, by name of the class", make=_auto_sam_all),
        Offer(key="automedsam", kind=Kind.FULL, about="our AutoMedSAM model, by name of the class", make=_auto_med_sam),
        Offer(key="mean-mask", kind=Kind.FREE, about="the mean of the supports' masks, copied", make=_mean_mask),
        Offer(key="registration-affine", kind=Kind.FREE, about="affine label transfer", make=_affine),
        Offer(key="registration-deformable", kind=Kind.FREE, about="deformable label transfer", make=_deformable),
        Offer(
            key="matching",
            kind=Kind.FREE,
            about="matching of pretrained features",
            make=lambda frozen: _matching(frozen, trunk),
        ),
        Offer(key="persam", kind=Kind.FREE, about="PerSAM, on SAM", make=_persam),
        Offer(key="persam-f", kind=Kind.FEW, about="PerSAM-F, on SAM", make=_persam_f),
        Offer(key="first-frame", kind=Kind.FREE, about="SAM 2 with the supports as first frames", make=_first_frame),
        Offer(key="unet", kind=Kind.FEW, about="MONAI's U-Net on the few cases", make=lambda _: _unet(False)),
        Offer(key="nnunet", kind=Kind.FEW, about="nnU-Net v2, if it is installed", make=_nnunet(False)),
        Offer(key="unet-all", kind=Kind.FULL, about="MONAI's U-Net on all training cases", make=lambda _: _unet(True)),
        Offer(key="nnunet-all", kind=Kind.FULL, about="nnU-Net v2 on all training cases", make=_nnunet(True)),
    )


def names(more: Iterable[Offer] = ()) -> tuple[str, ...]:
    """Return the names of all systems for the command line."""
    return tuple(one.key for one in (*offers(), *more))


def systems_for(
    model: str | Path | Frozen,
    chosen: Iterable[str] | None = None,
    device: str = "cpu",
    trunk: Path | None = None,
    more: Iterable[Offer] = (),
) -> dict[str, System]:
    """Return systems on a frozen model, by the name of their command line; the model is loaded when one needs it.

    Args:
        model: Name or path of the model or of official weights, or the model itself.
        chosen: Names of the systems, in the order of the table; all by default.
        device: The device to compute on.
        trunk: File of ImageNet weights, for matched features and AutoSAM; None for those of the model.
        more: Systems of other packages.

    Raises:
        UsageError: If there is no system of a name.
    """
    frozen = model if isinstance(model, Frozen) else Frozen(str(model), device)
    known: Mapping[str, Offer] = {one.key: one for one in (*offers(trunk), *more)}
    wanted = list(known if chosen is None else chosen)
    for key in wanted:
        if key not in known:
            raise UsageError(f"there is no system '{key}' to compare with; choose from {', '.join(known)}.")
    return {key: known[key].make(frozen) for key in wanted}


def _proxy_prompt(frozen: Frozen) -> System:
    from ProxyPromptSegmentLib.evaluation.systems.proxy_prompt import InContext

    return InContext(frozen)


def _truth(key: str) -> Callable[[Frozen], System]:
    def make(frozen: Frozen) -> System:
        from ProxyPromptSegmentLib.evaluation.systems.truth import Said, TruthPrompted

        return TruthPrompted(frozen, Said[key.upper()])

    return make


def _medsam(frozen: Frozen) -> System:
    from ProxyPromptSegmentLib.evaluation.systems.truth import MEDSAM, Said, TruthPrompted

    return TruthPrompted(frozen, Said.BOX, MEDSAM)


def _med_sa(key: str) -> Callable[[Frozen], System]:
    def make(frozen: Frozen) -> System:
        from ProxyPromptSegmentLib.evaluation.systems.med_sa import MedSa
        from ProxyPromptSegmentLib.evaluation.systems.truth import Said

        return MedSa(frozen, Said[key.upper()])

    return make


def _samed(frozen: Frozen) -> System:
    from ProxyPromptSegmentLib.evaluation.systems.samed import Samed

    return Samed(frozen)


def _auto_sam(frozen: Frozen, trunk: Path | None) -> System:
    from ProxyPromptSegmentLib.evaluation.systems.auto_sam import AutoSam

    return AutoSam(frozen, trunk)


def _auto_sam_all(frozen: Frozen) -> System:
    from ProxyPromptSegmentLib.evaluation.systems.known_classes import AUTO_SAM, IMAGE_MODELS, KnownClasses

    return KnownClasses(AUTO_SAM, IMAGE_MODELS, frozen.device)


def _auto_med_sam(frozen: Frozen) -> System:
    from ProxyPromptSegmentLib.evaluation.systems.known_classes import KnownClasses

    return KnownClasses(device=frozen.device)


def _persam(frozen: Frozen) -> System:
    from ProxyPromptSegmentLib.evaluation.systems.persam import PerSam

    return PerSam(frozen)


def _persam_f(frozen: Frozen) -> System:
    from ProxyPromptSegmentLib.evaluation.systems.persam_f import PerSamF

    return PerSamF(frozen)


def _first_frame(frozen: Frozen) -> System:
    from ProxyPromptSegmentLib.evaluation.systems.first_frame import FirstFrame

    return FirstFrame(frozen)


def _mean_mask(frozen: Frozen) -> System:
    return CopiedMeanMask()


def _affine(frozen: Frozen) -> System:
    from ProxyPromptSegmentLib.evaluation.systems.registered import LabelTransfer

    return LabelTransfer()


def _deformable(frozen: Frozen) -> System:
    from ProxyPromptSegmentLib.evaluation.systems.registered import LabelTransfer

    return LabelTransfer(deforms=True)


def _matching(frozen: Frozen, trunk: Path | None) -> System:
    return FeatureMatching(frozen, trunk)


def _nnunet(full: bool) -> Callable[[Frozen], System]:
    def make(frozen: Frozen) -> System:
        from ProxyPromptSegmentLib.evaluation.systems.nnunet import NnUnet

        return NnUnet(full, device=frozen.device)

    return make


def _unet(full: bool) -> System:
    from ProxyPromptSegmentLib.evaluation.systems.unet import UnetSystem

    return UnetSystem(full)
