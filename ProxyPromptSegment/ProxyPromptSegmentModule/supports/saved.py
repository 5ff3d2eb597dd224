"""Rows of the table of supports and their storage in the parameter node."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

import slicer

from ProxyPromptSegmentLib.errors import SupportError
from ProxyPromptSegmentLib.imaging.geometry import Axis
from ProxyPromptSegmentLib.typed_json import read_object
from ProxyPromptSegmentModule.scene.nodes import N
from ProxyPromptSegmentModule.translation import _

PARAMETER = "supports"
VOLUME_ROLE, SEGMENTATION_ROLE = "SupportVolume.", "SupportSegmentation."
_FORMAT = 1
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ObjectInfo:
    """An object of a support.

    Attributes:
        name: Name of the segment.
        color_rgb: Red, green, blue in 0..1.
        slices: Number of annotated slices along the row's axis.
        segment_id: Id of the segment; "" for a case of the library.
        shown: Whether it is annotated on one of the chosen slices; otherwise it is not used.
    """

    name: str
    color_rgb: tuple[float, float, float]
    slices: int
    segment_id: str = ""
    shown: bool = True


@dataclass(frozen=True, kw_only=True)
class ObjectChoice:
    """An object that can be segmented with the supports in use.

    Attributes:
        name: Its name as spelled in the first support; case is ignored when names are compared.
        color_rgb: Red, green, blue in 0..1, of the first support.
        supports: Number of supports in use that have it.
        of: Number of supports in use; those without a chosen object are not used.
    """

    name: str
    color_rgb: tuple[float, float, float]
    supports: int
    of: int

    @property
    def everywhere(self) -> bool:
        """Whether every support in use has it."""
        return self.supports == self.of


@dataclass(frozen=True, kw_only=True)
class SupportRow:
    """One support, as the table shows it.

    Attributes:
        key: Permanent identifier of the row.
        title: Title; by default the volume node's name, or the title in the library.
        volume_id: Id of the image node; None for a case of the library or a removed node.
        segmentation_id: Id of the annotation node; None likewise.
        library_id: Id of the library's case; None for nodes.
        objects: The chosen objects that have at least one voxel.
        slices: Chosen slices, counted from 0 along ``axis``; None means automatic choice. Chosen slices whose
            annotation was removed are left out.
        axis: ``k``, ``j`` or ``i``, see `matching.annotated_axis`.
        used: Whether it is ticked.
        problem: Why the row cannot be used, as a sentence, or "".
        whole: Whether all annotated slices are used; ``slices`` contains them.
        annotated: All annotated slices along ``axis``.
        notes: Notes for the user, for example that the segmentation has another grid.
        picture: Changes whenever the thumbnail may have changed (voxels, colours, chosen slices); only for comparison.
    """

    key: str
    title: str
    volume_id: str | None
    segmentation_id: str | None
    library_id: str | None
    objects: tuple[ObjectInfo, ...] = ()
    slices: tuple[int, ...] | None = None
    axis: Axis = "k"
    used: bool = True
    problem: str = ""
    whole: bool = False
    annotated: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    picture: int = 0

    @property
    def ready(self) -> bool:
        """Whether it is ticked and has no problem."""
        return self.used and not self.problem

    def find(self, name: str) -> ObjectInfo | None:
        """Return the object of this name on the chosen slices, ignoring case, or None."""
        return next((one for one in self.objects if one.shown and same_name(one.name, name)), None)


@dataclass(frozen=True, kw_only=True)
class SavedRow:
    """The part of a row that is stored in the parameter node; its nodes are stored as node references.

    Attributes:
        key: The row's key; also the end of its reference roles.
        title: Title given by the user; "" uses the node's name.
        library: Identifier in the library; "" for nodes.
        segments: Identifiers of the chosen segments; None means all.
        slices: Chosen slices; None chooses automatically.
        whole: Whether all annotated slices are used.
        axis: The axis along which ``slices`` are counted; "" without chosen slices.
        used: Whether it is ticked.
        name: Last known name of the volume or case, for messages after its removal.
    """

    key: str
    title: str = ""
    library: str = ""
    segments: tuple[str, ...] | None = None
    slices: tuple[int, ...] | None = None
    whole: bool = False
    axis: Axis | Literal[""] = ""
    used: bool = True
    name: str = ""


def same_name(one: str, other: str) -> bool:
    """Return whether two names mean the same object, as the library compares them."""
    return one.strip().casefold() == other.strip().casefold()


def read_saved(text: str) -> tuple[SavedRow, ...]:
    """Read the parameter; a damaged one, or one of a later version, is ignored with a warning."""
    if not text:
        return ()
    try:
        content = json.loads(text)
        if content["format"] > _FORMAT:
            raise ValueError(f"format {content['format']} is of a later version")
        # Keys added by a later version of the same format are ignored.
        return tuple(read_object(SavedRow, values, known=values) for values in content["rows"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        _log.warning("The list of supports in the scene cannot be read (%s); add them again", error)
        return ()


def write_saved(rows: Iterable[SavedRow]) -> str:
    """Return the text of the parameter."""
    listed = [{name: value for name, value in asdict(row).items() if value not in ("", None)} for row in rows]
    return json.dumps({"format": _FORMAT, "rows": listed}, ensure_ascii=False) if listed else ""


class SavedRows:
    """The rows in a parameter node, with their node references."""

    def __init__(self, parameter_node: slicer.vtkMRMLScriptedModuleNode) -> None:
        """Use ``parameter_node``, a ``vtkMRMLScriptedModuleNode``, as storage."""
        self.node = parameter_node
        self._seen: dict[str, tuple[str, str]] = {}
        self._parsed: tuple[str, tuple[SavedRow, ...]] = ("", ())

    def rows(self) -> tuple[SavedRow, ...]:
        """Return all rows in the order in which they were added."""
        text = self.node.GetParameter(PARAMETER) or ""
        if text != self._parsed[0]:
            self._parsed = (text, read_saved(text))
        return self._parsed[1]

    def row(self, key: str) -> SavedRow:
        """Return a row.

        Raises:
            SupportError: If there is no row with this key.
        """
        found = next((one for one in self.rows() if one.key == key), None)
        if found is None:
            raise SupportError(_("This support is not in the table any more; choose another."))
        return found

    def write(self, rows: Iterable[SavedRow]) -> None:
        """Write all rows; the node does not change if they are equal."""
        self.node.SetParameter(PARAMETER, write_saved(rows))

    def replace(self, row: SavedRow) -> None:
        """Replace the row that has the same key."""
        self.write([row if one.key == row.key else one for one in self.rows()])

    def add(self, row: SavedRow, volume_id: str = "", segmentation_id: str = "") -> None:
        """Append a row, as one change of the node."""
        modified = self.node.StartModify()
        for role, identifier in ((VOLUME_ROLE, volume_id), (SEGMENTATION_ROLE, segmentation_id)):
            if identifier:
                self.node.SetNodeReferenceID(role + row.key, identifier)
        self.write([*self.rows(), row])
        self.node.EndModify(modified)

    def remove(self, key: str) -> None:
        """Remove a row, as one change of the node."""
        modified = self.node.StartModify()
        for role in (VOLUME_ROLE + key, SEGMENTATION_ROLE + key):
            self.node.RemoveNodeReferenceIDs(role)
            self._seen.pop(role, None)
        self.write([one for one in self.rows() if one.key != key])
        self.node.EndModify(modified)

    def nodes(self, row: SavedRow) -> tuple[slicer.vtkMRMLVolumeNode | None, slicer.vtkMRMLSegmentationNode | None]:
        """Volume and segmentation of a row; None where they are not in the scene."""
        volume = self._referenced(VOLUME_ROLE + row.key, slicer.vtkMRMLVolumeNode)
        return volume, self._referenced(SEGMENTATION_ROLE + row.key, slicer.vtkMRMLSegmentationNode)

    def _referenced(self, role: str, kind: type[N]) -> N | None:
        """Return the referenced node. MRML drops references of deleted nodes; after an undo the node is found again."""
        found, scene = self.node.GetNodeReference(role), self.node.GetScene()
        if found is None and scene is not None and role in self._seen:
            identifier, name = self._seen[role]
            again = scene.GetNodeByID(identifier)
            if again is not None and again.GetName() == name:
                self.node.SetNodeReferenceID(role, identifier)
                found = again
        if found is not None:
            self._seen[role] = (found.GetID(), found.GetName())
        return found if isinstance(found, kind) else None
