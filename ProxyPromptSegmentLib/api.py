"""The public API for scripts: read volumes and supports, load a model, segment, track, write.

`import ProxyPromptSegmentLib` offers the same names, each loaded when it is first used. Everything else in the package
may change from one version to the next. Docs/api.md has examples.
"""

from __future__ import annotations

from collections.abc import Sequence

from ProxyPromptSegmentLib.errors import ProxyPromptError, UsageError
from ProxyPromptSegmentLib.frames import FrameSource, open_frames
from ProxyPromptSegmentLib.frames.frame_choice import FrameChoice
from ProxyPromptSegmentLib.imaging.dicom_seg import write_dicom_seg
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.label_files import write_labels
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation, read_segmentation, write_segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume, read_volume, write_volume
from ProxyPromptSegmentLib.inference.by_hand.found import EverythingChoice
from ProxyPromptSegmentLib.inference.by_hand.prompts import ByHand, VoxelBox, VoxelMask, VoxelPoint
from ProxyPromptSegmentLib.inference.by_hand.result import EverythingResult
from ProxyPromptSegmentLib.inference.classes import plan_classes
from ProxyPromptSegmentLib.inference.closer.choice import USE_CLOSER
from ProxyPromptSegmentLib.inference.helps import REGISTER, USE_POSITION
from ProxyPromptSegmentLib.inference.job import plan
from ProxyPromptSegmentLib.inference.job_by_hand import (
    plan_by_hand,
    plan_everything,
    plan_tracked_by_hand,
    with_hand,
)
from ProxyPromptSegmentLib.inference.results import THRESHOLD, ModelFacts
from ProxyPromptSegmentLib.inference.tiling.choice import AUTO, TileChoice
from ProxyPromptSegmentLib.inference.volume_result import VolumeResult
from ProxyPromptSegmentLib.library.store import SupportLibrary
from ProxyPromptSegmentLib.progress import CancelToken, Progress
from ProxyPromptSegmentLib.remedies import Note, Severity
from ProxyPromptSegmentLib.support.case import SupportCase, read_support_case
from ProxyPromptSegmentLib.support.pairs import MOST_READ
from ProxyPromptSegmentLib.tracking.choices import TrackingMode
from ProxyPromptSegmentLib.tracking.clip_job import plan_clip
from ProxyPromptSegmentLib.tracking.result import FramesResult, frames_of_volume
from ProxyPromptSegmentLib.tracking.result_file import write_frames
from ProxyPromptSegmentLib.weights.registry import DEFAULT_MODEL
from ProxyPromptSegmentLib.weights.vocabulary import chosen_classes, vocabulary_in
from ProxyPromptSegmentLib.worker.for_scripts import OnSlice, Where, check_settings, context_of, names_of
from ProxyPromptSegmentLib.worker.precision import AUTO as AUTO_PRECISION
from ProxyPromptSegmentLib.worker.precision import check_precision
from ProxyPromptSegmentLib.worker.tasks import EverythingTask, FramesTask, SegmentTask, TaskEngine

__all__ = [
    "ByHand",
    "CancelToken",
    "EverythingChoice",
    "EverythingResult",
    "FrameSource",
    "FramesResult",
    "Model",
    "ModelFacts",
    "Note",
    "Progress",
    "ProxyPromptError",
    "Segment",
    "Segmentation",
    "Severity",
    "SupportCase",
    "SupportLibrary",
    "TrackingMode",
    "Volume",
    "VolumeGeometry",
    "VolumeResult",
    "VoxelBox",
    "VoxelMask",
    "VoxelPoint",
    "dice",
    "load_model",
    "open_frames",
    "read_segmentation",
    "read_support_case",
    "read_volume",
    "write_dicom_seg",
    "write_frames",
    "write_labels",
    "write_segmentation",
    "write_volume",
]


class Model:
    """A loaded model, as returned by `load_model`.

    It caches prepared supports and image embeddings, so that another support or object on the same target needs no
    further pass through the image encoder. Use it on one thread only.

    Attributes:
        facts: Name, file, hash and metadata of the weights.
    """

    def __init__(
        self, engine: TaskEngine, facts: ModelFacts, model: str, device: str, precision: str = AUTO_PRECISION
    ) -> None:
        """Wrap an engine that has opened the model."""
        self.facts = facts
        self._engine = engine
        self._where: Where = {"model": model, "device": device, "precision": precision}

    def segment(
        self,
        supports: Sequence[SupportCase],
        target: Volume,
        objects: Sequence[str] | str | None = None,
        *,
        axis: str = "auto",
        slices: Sequence[int] | None = None,
        threshold: float = THRESHOLD,
        across_slices: bool = True,
        fill_gaps: bool = True,
        most_read: int | None = MOST_READ,
        follow: bool = False,
        tiles: TileChoice | str | float = AUTO,
        position: bool = USE_POSITION,
        register: bool = REGISTER,
        closer: bool = USE_CLOSER,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
        on_slice: OnSlice | None = None,
    ) -> VolumeResult:
        """Segment a volume or a picture.

        Args:
            supports: Annotated cases, at least one.
            target: The volume.
            objects: Names of segments of the supports; by default all that every support has.
            axis: Slicing axis of the target: ``k``, ``j``, ``i`` or ``auto``.
            slices: 0-based indices of the slices along that axis; all by default.
            threshold: Voxels of higher probability belong to the object, 0..1.
            across_slices: Whether masks use what neighbouring slices show.
            fill_gaps: Whether empty slices inside an object are filled where the mask itself supports it.
            most_read: Number of support slices that a slice reads if more are given: those most like it. None means
                all.
            follow: Whether the slices are tracked with the memory of a SAM 2 model.
            position: Whether the relative position of slices along their volumes is used, if the model reads it.
            register: Whether supports that are volumes are registered to the target and joined with the prediction.
            closer: Whether small structures are segmented a second time, enlarged; ignored with ``follow``.
            tiles: Whether slices are cut into overlapping tiles: ``auto`` for objects that are too thin or too small
                for the model, ``off``, ``on``, or how many times larger tiles show them. Ignored with ``follow``.
            progress: Informed of each slice.
            cancel: Cancels between two slices; finished slices are kept.
            on_slice: Called with the preliminary masks of each slice, and again if its final masks differ.

        Raises:
            ProxyPromptError: As its subclasses say.
        """
        check_settings(threshold, most_read)
        job = plan(
            supports,
            target,
            names_of(objects),
            axis,
            slices,
            register=register and not follow,
            reslice=not follow,
            cancel=cancel,
        )
        task = SegmentTask(
            job,
            **self._where,
            threshold=threshold,
            across_slices=across_slices,
            fill_gaps=fill_gaps,
            most_read=most_read,
            follow=follow,
            position=position,
            register=register,
            closer=closer,
            tiles=TileChoice.of(tiles),
        )
        return task(self._engine, context_of(progress, cancel, on_slice))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that the model knows without a support; none for a model of supports."""
        return tuple(one.name for one in vocabulary_in(self.facts.metadata))

    def segment_classes(
        self,
        target: Volume,
        classes: Sequence[str] | str | None = None,
        *,
        axis: str = "auto",
        slices: Sequence[int] | None = None,
        threshold: float = THRESHOLD,
        across_slices: bool = True,
        fill_gaps: bool = True,
        any_modality: bool = False,
        surrogate: bool = False,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
        on_slice: OnSlice | None = None,
    ) -> VolumeResult:
        """Segment structures that the model knows by name, without a support.

        Args:
            target: The volume or picture.
            classes: Names, synonyms or codes of `classes`; by default all of them.
            axis: See `segment`.
            slices: See `segment`.
            threshold: See `segment`.
            across_slices: See `segment`.
            fill_gaps: See `segment`.
            any_modality: Whether a class is also looked for where the target's modality excludes it.
            surrogate: Whether AutoSAM's surrogate decoder draws: a coarse and fast preview without SAM.
            progress: See `segment`.
            cancel: See `segment`.
            on_slice: See `segment`.

        Raises:
            UsageError: If the model knows no classes, or not these; the nearest ones are named.
        """
        check_settings(threshold, None)
        known = vocabulary_in(self.facts.metadata)
        if not known:
            raise UsageError(f"'{self.facts.name}' knows no classes; give it annotated cases with `segment`.")
        chosen = chosen_classes(known, names_of(classes) or (), f"'{self.facts.name}'")
        task = SegmentTask(
            plan_classes(chosen, target, axis, slices, any_modality),
            **self._where,
            threshold=threshold,
            across_slices=across_slices,
            fill_gaps=fill_gaps,
            surrogate=surrogate,
        )
        return task(self._engine, context_of(progress, cancel, on_slice))

    def mark(
        self,
        target: Volume,
        said: ByHand,
        supports: Sequence[SupportCase] = (),
        objects: Sequence[str] | str | None = None,
        *,
        axis: str = "auto",
        slices: Sequence[int] | None = None,
        threshold: float = THRESHOLD,
        follow: bool = False,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
        on_slice: OnSlice | None = None,
    ) -> VolumeResult:
        """Segment what is pointed at by hand, alone or as corrections of what supports prompt.

        A slice that was segmented before is not embedded again, so that one more click costs a decoding only.

        Args:
            target: The volume.
            said: Points, boxes and masks, in voxels of the target.
            supports: Annotated cases whose result is corrected; none for what is said alone.
            objects: Names of segments of the supports; by default all that every support has.
            axis: Slicing axis of the target: ``k``, ``j``, ``i`` or ``auto``.
            slices: 0-based indices of the slices; by default all with supports or ``follow``, else those prompted.
            threshold: Voxels of higher probability belong to the object, 0..1.
            follow: Whether what is said is carried on to the other slices with the memory of a SAM 2 model.
            progress: Informed of each slice.
            cancel: Cancels between two slices; finished slices are kept.
            on_slice: Called with the masks of each slice.

        Raises:
            ProxyPromptError: As its subclasses say.
        """
        check_settings(threshold, None)
        if supports:
            names = names_of(objects)
            job = with_hand(plan(supports, target, names, axis, slices, register=False, reslice=False), said)
        else:
            job = (plan_tracked_by_hand if follow else plan_by_hand)(target, said, axis, slices)
        task = SegmentTask(
            job,
            **self._where,
            threshold=threshold,
            follow=follow,
        )
        return task(self._engine, context_of(progress, cancel, on_slice))

    def everything(
        self,
        target: Volume,
        choice: EverythingChoice | None = None,
        *,
        axis: str = "auto",
        slices: Sequence[int] | None = None,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
    ) -> EverythingResult:
        """Segment everything that the slices of a target show, as labels without a meaning.

        Args:
            target: The volume.
            choice: Which masks are kept.
            axis: Slicing axis of the target: ``k``, ``j``, ``i`` or ``auto``.
            slices: 0-based indices of the slices along that axis; all by default.
            progress: Informed of each point of the grid.
            cancel: Cancels between two batches of points; finished slices are kept.

        Raises:
            ProxyPromptError: As its subclasses say.
        """
        task = EverythingTask(
            plan_everything(target, axis, slices),
            choice=choice or EverythingChoice(),
            **self._where,
        )
        return task(self._engine, context_of(progress, cancel, None))

    def follow(
        self,
        supports: Sequence[SupportCase],
        frames: FrameSource,
        objects: Sequence[str] | str | None = None,
        *,
        numbers: Sequence[int] | None = None,
        threshold: float = THRESHOLD,
        mode: TrackingMode = TrackingMode.PROXY_AND_BANK,
        fill_gaps: bool = True,
        most_read: int | None = MOST_READ,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
        on_frame: OnSlice | None = None,
    ) -> FramesResult:
        """Track objects through frames in time, or through the slices of a volume in both directions, with SAM 2.

        Args:
            supports: Annotated cases, at least one.
            frames: The target, as returned by `open_frames`.
            objects: Names of segments of the supports; by default all that every support has.
            numbers: 0-based indices of the frames; all by default.
            threshold: Pixels of higher probability belong to the object, 0..1.
            mode: With or without the memory of earlier frames.
            fill_gaps: Whether empty slices of a volume inside an object are filled where the mask itself supports it.
            most_read: Number of support slices that a frame reads if more are given: those most like it. None means
                all.
            progress: Informed of each frame.
            cancel: Cancels between two frames; finished frames are kept.
            on_frame: Called with each frame.

        Raises:
            ProxyPromptError: As its subclasses say.
        """
        check_settings(threshold, most_read)
        objects, context = names_of(objects), context_of(progress, cancel, on_frame)
        if frames.volume is not None:
            job = plan(supports, frames.volume, objects, frames.view.axis, numbers, reslice=False)
            found = SegmentTask(
                job,
                **self._where,
                threshold=threshold,
                follow=True,
                mode=mode,
                fill_gaps=fill_gaps,
                most_read=most_read,
            )(self._engine, context)
            return frames_of_volume(found, job.slices, job.window)
        task = FramesTask(
            frames,
            plan_clip(supports, frames, objects).support_set,
            choice=FrameChoice() if numbers is None else FrameChoice.of(numbers),
            **self._where,
            threshold=threshold,
            mode=mode,
            most_read=most_read,
        )
        return task(self._engine, context)


def load_model(model: str = DEFAULT_MODEL, device: str = "auto", precision: str = AUTO_PRECISION) -> Model:
    """Load a model onto a device.

    Args:
        model: Name of a registered model, or path of a ``.safetensors`` file.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``auto`` for half precision on graphics cards where that was measured to change no mask that
            matters (`Model.everything`: single precision), ``single``, or ``half``.

    Raises:
        UsageError: If there is no such precision.
        CheckpointError: If the model is unknown, damaged or has another hash.
        DeviceError: If the device does not exist.
    """
    from ProxyPromptSegmentLib.networks.devices import choose_device
    from ProxyPromptSegmentLib.worker.engine import Engine
    from ProxyPromptSegmentLib.worker.kept_supports import KeptSupports

    check_precision(precision)
    engine = Engine(kept=KeptSupports.of_user())
    return Model(engine, engine.open(model, str(choose_device(device))).facts, model, device, precision)
