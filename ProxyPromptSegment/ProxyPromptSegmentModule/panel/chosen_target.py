"""The chosen target and the part of it to segment."""

from __future__ import annotations

import slicer
import slicer.util

from ProxyPromptSegmentLib.imaging.geometry import Axis, VolumeGeometry
from ProxyPromptSegmentModule.panel.state import PanelState
from ProxyPromptSegmentModule.parameters import LAST
from ProxyPromptSegmentModule.scene.nodes import geometry_of, nodes_of
from ProxyPromptSegmentModule.scene.owners import is_ours, results_of, volumes_of
from ProxyPromptSegmentModule.scene.pairing import image_for
from ProxyPromptSegmentModule.scene.sequence_reader import browsers_of
from ProxyPromptSegmentModule.scene.slice_views import slice_count, slices_in_box, slicing_axis
from ProxyPromptSegmentModule.states import PromptBy, Scope
from ProxyPromptSegmentModule.translation import _
from ProxyPromptSegmentModule.wording import explained


class ChosenTarget:
    """The target, its scope and its slices, derived from the state."""

    def __init__(self, state: PanelState) -> None:
        """Derive everything from the panel's state."""
        self._state = state
        self._axis: Axis | None = None
        self._default: slicer.vtkMRMLVolumeNode | None = None

    # --- choosing ---------------------------------------------------------------------------------------------

    def choose_defaults(self) -> None:
        """Choose the first volume that is not a support, if no target is chosen."""
        parameters = self._state.parameters
        target = parameters.targetVolume
        # what was chosen here before the annotation of this very case was loaded is chosen again
        again = target is not None and target is self._default and target in self._annotated() and not self._state.run
        if target is not None and not again:
            return
        found = self.volumes_beside_supports()
        annotated = self._annotated()
        bare = [node for node in found if node not in annotated]
        if bare or (found and target is None):
            self._default = (bare or found)[0]
            self.choose(self._default)

    def _annotated(self) -> list[slicer.vtkMRMLVolumeNode]:
        """Return the volumes that an annotation of the user belongs to."""
        nodes = nodes_of(slicer.mrmlScene, slicer.vtkMRMLSegmentationNode)
        found = [
            image_for(node) for node in nodes if not is_ours(node) and node.GetSegmentation().GetNumberOfSegments()
        ]
        return [node for node in found if node is not None]

    def leave_support_alone(self) -> None:
        """Choose another volume if the target has just become a support and there is no run yet."""
        parameters = self._state.parameters
        target = parameters.targetVolume
        if target is not None and target is parameters.supportVolume and self._state.run is None:
            others = self.volumes_beside_supports()
            if others:
                self.choose(others[0])

    def choose(self, node: slicer.vtkMRMLVolumeNode | None) -> None:
        """Choose another volume; its results are written into its own earlier result, if there is one."""
        parameters = self._state.parameters
        if node is not self._default:
            self._default = None
        with slicer.util.NodeModify(parameters.parameterNode):
            parameters.targetVolume = node
            parameters.firstSlice, parameters.lastSlice = 0, LAST
            parameters.scope = self._usual_scope(node).value
            parameters.outputSegmentation = self._own_result(node)

    def _own_result(self, node: slicer.vtkMRMLVolumeNode | None) -> slicer.vtkMRMLSegmentationNode | None:
        """Return the segmentation to write results of a volume into: that of its latest result, or None."""
        results = results_of(slicer.mrmlScene, node) if node is not None else []
        return results[-1] if results else None

    def others_in_output(self) -> list[str]:
        """Return the names of other volumes whose results, or annotation, the chosen segmentation holds."""
        parameters = self._state.parameters
        node, target = parameters.outputSegmentation, parameters.targetVolume
        if node is None or target is None:
            return []
        ids = [row.volume_id for row in self._state.support_rows() if row.segmentation_id == node.GetID()]
        found = [*volumes_of(node), *(slicer.mrmlScene.GetNodeByID(one) for one in ids if one)]
        return list(dict.fromkeys(one.GetName() for one in found if one is not None and one is not target))

    def volumes_beside_supports(self) -> list[slicer.vtkMRMLScalarVolumeNode]:
        """Return the images of the scene that are not those of supports."""
        parameters = self._state.parameters
        supports = {row.volume_id for row in self._state.support_rows()}
        if parameters.supportVolume is not None:
            supports.add(parameters.supportVolume.GetID())
        return [
            node
            for node in nodes_of(slicer.mrmlScene, slicer.vtkMRMLScalarVolumeNode)
            if node.GetID() not in supports
            and not node.IsA("vtkMRMLLabelMapVolumeNode")
            and not node.GetHideFromEditors()
            and node.GetImageData() is not None
        ]

    def _usual_scope(self, node: slicer.vtkMRMLVolumeNode | None) -> Scope:
        """Return the default scope: the sequence for a cine, else the whole volume, also of a 4D series."""
        image = None if node is None else node.GetImageData()
        if image is None or min(image.GetDimensions()) > 1:
            return Scope.WHOLE
        return Scope.SEQUENCE if self.browser() is not None else Scope.WHOLE

    # --- what is chosen ---------------------------------------------------------------------------------------

    def possible_scopes(self) -> list[Scope]:
        """Return the scopes that the target allows, in the order of the combo box; marks by hand say it themselves."""
        if self._state.prompt_by == PromptBy.HAND:
            return [Scope.WHOLE]
        return [scope for scope in Scope if scope != Scope.SEQUENCE or self.browser() is not None]

    def scope(self) -> Scope:
        """Return the chosen scope, or a possible one."""
        scope = self._state.parameters.scope
        return Scope(scope) if scope in self.possible_scopes() else Scope.WHOLE

    def browser(self) -> slicer.vtkMRMLSequenceBrowserNode | None:
        """Return the sequence browser that shows the target; None if it is not part of a sequence."""
        return next(iter(browsers_of(self._state.parameters.targetVolume)), None)

    def look_again(self) -> None:
        """Forget the cached axis, because target, supports or their transforms may have changed."""
        self._axis = None

    def axis(self) -> Axis:
        """Return the slicing axis of the target; cached until `look_again`."""
        if self._axis is None:
            self._axis = self._find_axis()
        return self._axis

    def _find_axis(self) -> Axis:
        parameters = self._state.parameters
        if parameters.targetVolume is None:
            return "k"
        geometry, own = self._support_geometry()
        try:
            return slicing_axis(parameters.targetVolume, parameters.axis, geometry, own)
        except Exception as error:  # shown when Apply is pressed
            explained(error)
            return "k"

    def slices(self) -> tuple[int, ...] | None:
        """Return the slices along the axis; None means all."""
        parameters, scope, count = self._state.parameters, self.scope(), self.count()
        if scope == Scope.SLICES:
            last = count - 1 if parameters.lastSlice == LAST else min(parameters.lastSlice, count - 1)
            return tuple(range(max(0, parameters.firstSlice), last + 1))
        if scope == Scope.BOX and parameters.box is not None and parameters.targetVolume is not None:
            return tuple(slices_in_box(parameters.targetVolume, self.axis(), parameters.box))
        return None

    def count(self) -> int:
        """Return the number of slices of the target along the axis."""
        return slice_count(self._state.parameters.targetVolume, self.axis())

    def reason(self) -> str:
        """Return why this target cannot be segmented; "" if it can."""
        parameters, scope = self._state.parameters, self.scope()
        if parameters.targetVolume is None:
            return ""
        if parameters.targetVolume.GetImageData() is None:
            return _("The volume to segment has no voxels; choose another one.")
        if scope == Scope.BOX and parameters.box is None:
            return _("Draw or select the box whose slices are to be segmented.")
        if scope == Scope.BOX and not self.slices():
            return _("The box does not intersect the volume; move it to the part to segment.")
        if scope == Scope.SLICES and not self.slices():
            return _("Choose at least one slice.")
        return ""

    def _support_geometry(self) -> tuple[VolumeGeometry | None, Axis]:
        """Return geometry and axis of the first support in use whose geometry can be read."""
        table = self._state.table
        prompted = table is not None and self._state.prompt_by == PromptBy.SUPPORT
        for row in self._state.used_rows() if prompted else []:
            assert table is not None
            node: slicer.vtkMRMLVolumeNode | None = None
            if row.volume_id:
                node = slicer.mrmlScene.GetNodeByID(row.volume_id)
            try:
                found = geometry_of(node) if node is not None else table.case(row.key).volume.geometry
            except Exception as error:  # a problem of the support is reported elsewhere
                explained(error)
                continue
            return found, row.axis
        return None, "k"
