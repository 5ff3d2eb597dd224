"""Sample data: two artificial pelves, drawn on this computer when somebody asks for them; nothing is downloaded.

They are the cases of ``proxyprompt demo``: the first with its prostate marked, to be the support, the second to be
segmented. For a look at real images, Slicer's own sample data has a prostate ("MR-US Prostate", volume MRProstate); it
has no annotation, so a support has to be painted first.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer

from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
    from ProxyPromptSegmentLib.imaging.segmentations import Segmentation
    from ProxyPromptSegmentLib.imaging.volumes import Volume

CATEGORY = "Proxy Prompt"
SUPPORT, TARGET = "ProxyPromptPelvisSupport", "ProxyPromptPelvisTarget"
# Those of the command line's demo.
SUPPORT_SEED, TARGET_SEED = 1, 2
ICONS = Path(__file__).resolve().parents[2] / "Resources" / "Icons"


def register() -> None:
    """Adds both cases to the module Sample Data; does nothing where they are there already."""
    from SampleData import SampleDataLogic

    if hasattr(SampleDataLogic, "registerCustomSampleDataCategory"):  # Slicer 5.12
        SampleDataLogic.registerCustomSampleDataCategory(CATEGORY, title=_("Proxy Prompt"))
    known = {source.sampleName for source in getattr(slicer.modules, "sampleDataSources", {}).get(CATEGORY, [])}
    for name, title, load in (
        (SUPPORT, _("Artificial pelvis, annotated (support)"), load_support),
        (TARGET, _("Artificial pelvis (target)"), load_target),
    ):
        if name in known:
            continue
        SampleDataLogic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=name,
            # Never opened, because the loader is ours; Sample Data wants one address for each node.
            uris=f"generated:{name}",
            fileNames=f"{name}.nrrd",
            nodeNames=name,
            thumbnailFileName=str(ICONS / f"{name}.png"),
            customDownloader=lambda source, load=load: load(),
        )
        # What the button says; only the class, not the function above, has a place for it.
        slicer.modules.sampleDataSources[CATEGORY][-1].sampleDescription = title


def load_support() -> tuple[Any, Any]:
    """Draws the annotated case; returns its volume node and its segmentation node."""
    from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom

    volume, marks = pelvis_phantom(SUPPORT_SEED)
    volume_node = _add_volume(volume, SUPPORT)
    return volume_node, _add_segmentation(marks, volume_node, f"{SUPPORT} annotation")


def load_target() -> Any:
    """Draws the case to be segmented; returns its volume node."""
    from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom

    return _add_volume(pelvis_phantom(TARGET_SEED)[0], TARGET)


def target_truth() -> npt.NDArray[np.uint8]:
    """The prostate as it was drawn in the target; uint8 ``(K, J, I)``."""
    from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom

    return pelvis_phantom(TARGET_SEED)[1].segments[0].mask


def dice_of_sample_case(logic: Any) -> float:
    """Segments the target by the support, and compares with what was drawn.

    Args:
        logic: A `SegmentationLogic`; it is shut down afterwards.

    Raises:
        RuntimeError: If the run does not finish; with its sentence.
    """
    import slicer.util

    support, target = load_support(), load_target()
    try:
        run = logic.segment(target, [support])
        if run.state != "finished":
            raise RuntimeError(f"the run is {run.state}: {run.error}")
        (segment_id,) = run.segment_ids.values()
        found = slicer.util.arrayFromSegmentBinaryLabelmap(run.segmentation, segment_id, target) > 0
    finally:
        logic.shutdown()
    truth = target_truth() > 0
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))


def ijk_to_ras(geometry: VolumeGeometry) -> npt.NDArray[np.float64]:
    """From voxel indices to RAS mm, ``(4, 4)``; the library's world is LPS."""
    import numpy as np

    matrix = np.eye(4)
    matrix[:3, :3] = geometry.direction * np.array(geometry.spacing_mm)
    matrix[:3, 3] = geometry.origin_lps
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix


def _add_volume(volume: Volume, name: str) -> Any:
    """A new volume node, shown in the slice views where there are any."""
    import numpy as np
    import slicer.util

    array = np.round(volume.array).astype(np.int16)
    node = slicer.util.addVolumeFromArray(array, ijk_to_ras(volume.geometry), name)
    if hasattr(slicer.app, "layoutManager"):
        slicer.util.setSliceViewerLayers(background=node, fit=True)
    return node


def _add_segmentation(segmentation: Segmentation, volume_node: Any, name: str) -> Any:
    """A new segmentation node on a volume's lattice."""
    import slicer.util

    from ProxyPromptSegmentModule.scene.terminology import terminology_to_text

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
    for segment in segmentation.segments:
        segment_id = node.GetSegmentation().AddEmptySegment(segment.name, segment.name, segment.color_rgb)
        made = node.GetSegmentation().GetSegment(segment_id)
        made.SetTag(made.GetTerminologyEntryTagName(), terminology_to_text(segment.terminology))
        slicer.util.updateSegmentBinaryLabelmapFromArray(segment.mask, node, segment_id, volume_node)
    return node
