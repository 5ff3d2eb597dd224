"""Sample data: two synthetic pelves, generated on this computer on request; nothing is downloaded.

They are the cases of ``proxyprompt demo``: the first with an annotated prostate, the support; the second is the target.
For real images, Slicer's own sample data contains a prostate ("MR-US Prostate", volume MRProstate); it has no
annotation, so a support has to be painted first.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import slicer

from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom
from ProxyPromptSegmentModule.scene.nodes import add_node
from ProxyPromptSegmentModule.scene.slice_views import layout_manager
from ProxyPromptSegmentModule.scene.terminology import terminology_to_text
from ProxyPromptSegmentModule.states import RunState
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
    from ProxyPromptSegmentLib.imaging.segmentations import Segmentation
    from ProxyPromptSegmentLib.imaging.volumes import Volume


class SampleRun(Protocol):
    """The part of a run that is used here."""

    @property
    def state(self) -> str:
        """Final state of the run."""

    @property
    def error(self) -> str:
        """Sentence of a failure."""

    @property
    def segmentation(self) -> slicer.vtkMRMLSegmentationNode | None:
        """The result."""

    @property
    def segment_ids(self) -> dict[str, str]:
        """Segment of each object."""


class SampleLogic(Protocol):
    """The part of `SegmentationLogic` that is used here."""

    def segment(
        self,
        target: slicer.vtkMRMLVolumeNode,
        supports: list[tuple[slicer.vtkMRMLVolumeNode, slicer.vtkMRMLSegmentationNode]],
    ) -> SampleRun:
        """Segment a volume with annotated cases as supports."""

    def shutdown(self) -> bool:
        """End the worker thread."""


CATEGORY = "Proxy Prompt"
SUPPORT, TARGET = "ProxyPromptPelvisSupport", "ProxyPromptPelvisTarget"
# The seeds of the command line's demo.
SUPPORT_SEED, TARGET_SEED = 1, 2
ICONS = Path(__file__).resolve().parents[2] / "Resources" / "Icons"


def register() -> None:
    """Add both cases to the module Sample Data unless they are registered already."""
    from SampleData import SampleDataLogic

    if hasattr(SampleDataLogic, "registerCustomSampleDataCategory"):  # not before Slicer 5.12
        SampleDataLogic.registerCustomSampleDataCategory(CATEGORY, title=_("Proxy Prompt"))
    known = {source.sampleName for source in getattr(slicer.modules, "sampleDataSources", {}).get(CATEGORY, [])}
    cases: tuple[tuple[str, str, Callable[[], object]], ...] = (
        (SUPPORT, _("Artificial pelvis, annotated (support)"), load_support),
        (TARGET, _("Artificial pelvis (target)"), load_target),
    )
    for name, title, load in cases:
        if name in known:
            continue
        SampleDataLogic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=name,
            # Never opened, because we provide the loader; Sample Data requires one address per node.
            uris=f"generated:{name}",
            fileNames=f"{name}.nrrd",
            nodeNames=name,
            thumbnailFileName=str(ICONS / f"{name}.png"),
            customDownloader=_drawn_by(load),
        )
        # The text of the button; the function above has no parameter for it.
        slicer.modules.sampleDataSources[CATEGORY][-1].sampleDescription = title


def _drawn_by(load: Callable[[], object]) -> Callable[[object], object]:
    """Return the loader in the form that Sample Data calls."""
    return lambda source: load()


def load_support() -> tuple[slicer.vtkMRMLScalarVolumeNode, slicer.vtkMRMLSegmentationNode]:
    """Generate the annotated case; return its volume node and its segmentation node."""
    volume, marks = pelvis_phantom(SUPPORT_SEED)
    volume_node = _add_volume(volume, SUPPORT)
    return volume_node, _add_segmentation(marks, volume_node, f"{SUPPORT} annotation")


def load_target() -> slicer.vtkMRMLScalarVolumeNode:
    """Generate the target; return its volume node."""
    return _add_volume(pelvis_phantom(TARGET_SEED)[0], TARGET)


def target_truth() -> npt.NDArray[np.uint8]:
    """Return the true mask of the target's prostate; uint8 ``(K, J, I)``."""
    return pelvis_phantom(TARGET_SEED)[1].segments[0].mask


def dice_of_sample_case(logic: SampleLogic) -> float:
    """Segment the target with the support; return the Dice coefficient with the truth.

    Args:
        logic: The logic; it is shut down afterwards.

    Raises:
        RuntimeError: If the run does not finish; contains its error.
    """
    import slicer.util

    support, target = load_support(), load_target()
    try:
        run = logic.segment(target, [support])
        if run.state != RunState.FINISHED or run.segmentation is None:
            raise RuntimeError(f"the run is {run.state}: {run.error}")
        (segment_id,) = run.segment_ids.values()
        found = slicer.util.arrayFromSegmentBinaryLabelmap(run.segmentation, segment_id, target) > 0
    finally:
        logic.shutdown()
    truth = target_truth() > 0
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))


def ijk_to_ras(geometry: VolumeGeometry) -> npt.NDArray[np.float64]:
    """Return the matrix from voxel indices to RAS mm, ``(4, 4)``; the library uses LPS."""
    import numpy as np

    matrix = np.eye(4)
    matrix[:3, :3] = geometry.direction * np.array(geometry.spacing_mm)
    matrix[:3, 3] = geometry.origin_lps
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix


def _add_volume(volume: Volume, name: str) -> slicer.vtkMRMLScalarVolumeNode:
    """Add a volume node and show it in the slice views, if there are any."""
    import numpy as np
    import slicer.util

    array = np.round(volume.array).astype(np.int16)
    node = slicer.util.addVolumeFromArray(array, ijk_to_ras(volume.geometry), name)
    if layout_manager() is not None:
        slicer.util.setSliceViewerLayers(background=node, fit=True)
    return node


def _add_segmentation(
    segmentation: Segmentation, volume_node: slicer.vtkMRMLVolumeNode, name: str
) -> slicer.vtkMRMLSegmentationNode:
    """Add a segmentation node on a volume's lattice."""
    import slicer.util

    node = add_node(slicer.mrmlScene, slicer.vtkMRMLSegmentationNode, name)
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
    for segment in segmentation.segments:
        segment_id = node.GetSegmentation().AddEmptySegment(segment.name, segment.name, segment.color_rgb)
        made = node.GetSegmentation().GetSegment(segment_id)
        made.SetTag(made.GetTerminologyEntryTagName(), terminology_to_text(segment.terminology))
        slicer.util.updateSegmentBinaryLabelmapFromArray(segment.mask, node, segment_id, volume_node)
    return node
