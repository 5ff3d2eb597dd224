"""What the table of supports says of each support, and how it is kept in the parameter node."""

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
        slices: On how many slices along the row's axis it is annotated.
        segment_id: Its segment; "" in a case of the library.
        shown: Whether it is annotated on one of the chosen slices; only then it prompts.
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
        name: Its name, spelled as the first support has it; capitals do not distinguish objects.
        color_rgb: Red, green, blue in 0..1, of the first support.
        supports: How many supports in use have it.
        of: How many supports are in use; those that lack an object are left out where it is asked for.
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
        key: Stable, made when it was added.
        title: What it is called; by default the volume node's name, or the title in the library.
        volume_id: Node of the image; None for a case of the library, or when the node is gone.
        segmentation_id: Node of the annotation; None likewise.
        library_id: The case of the library; None for nodes.
        objects: Objects with at least one voxel, of those that were chosen when it was added.
        slices: Chosen slices, counted from 0 along ``axis``; None means that they are chosen automatically. A chosen
            slice that has lost its annotation is left out.
        axis: ``k``, ``j`` or ``i``, see `matching.annotated_axis`.
        used: Whether it is ticked.
        problem: "" or a sentence; a row with a problem is not used.
        whole: Whether all annotated slices are used; ``slices`` has them.
        annotated: All annotated slices along ``axis``.
        notes: What the user should know, such as that the segmentation lies on another grid.
        picture: Changes when the picture may have to be drawn anew (voxels, colours, chosen slices); compare only.
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
        """Whether it is ticked and nothing is wrong with it."""
        return self.used and not self.problem

    def find(self, name: str) -> ObjectInfo | None:
        """The object of this name that prompts, whatever its capitals."""
        return next((one for one in self.objects if one.shown and same_name(one.name, name)), None)


@dataclass(frozen=True, kw_only=True)
class SavedRow:
    """What the parameter node keeps of a row; its nodes are node references beside it.

    Attributes:
        key: The row's key; ends the role of its references.
        title: As somebody named it; "" takes the node's name.
        library: Identifier in the library; "" for nodes.
        segments: Identifiers of the chosen segments; None means all.
        slices: Chosen slices; None chooses automatically.
        whole: Whether all annotated slices are used.
        axis: The axis along which ``slices`` were counted; "" where none are chosen.
        used: Whether it is ticked.
        name: The last name of the volume or case, to speak of it when it is gone.
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
    """Whether two names mean the same object, as the engine compares them."""
    return one.strip().casefold() == other.strip().casefold()


def read_saved(text: str) -> tuple[SavedRow, ...]:
    """Reads the parameter; what is damaged or made by a later version is left out with a warning."""
    if not text:
        return ()
    try:
        content = json.loads(text)
        if content["format"] > _FORMAT:
            raise ValueError(f"format {content['format']} is of a later version")
        # A key of a later version of the same format is left out.
        return tuple(read_object(SavedRow, values, known=values) for values in content["rows"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        _log.warning("The list of supports in the scene cannot be read (%s); add them again", error)
        return ()


def write_saved(rows: Iterable[SavedRow]) -> str:
    """The text of the parameter."""
    listed = [{name: value for name, value in asdict(row).items() if value not in ("", None)} for row in rows]
    return json.dumps({"format": _FORMAT, "rows": listed}, ensure_ascii=False) if listed else ""


class SavedRows:
    """The rows in a parameter node, with their node references."""

    def __init__(self, parameter_node: slicer.vtkMRMLScriptedModuleNode) -> None:
        """Reads and writes in ``parameter_node``, a ``vtkMRMLScriptedModuleNode``."""
        self.node = parameter_node
        self._seen: dict[str, tuple[str, str]] = {}
        self._parsed: tuple[str, tuple[SavedRow, ...]] = ("", ())

    def rows(self) -> tuple[SavedRow, ...]:
        """All of them, in the order in which they were added."""
        text = self.node.GetParameter(PARAMETER) or ""
        if text != self._parsed[0]:
            self._parsed = (text, read_saved(text))
        return self._parsed[1]

    def row(self, key: str) -> SavedRow:
        """One of them.

        Raises:
            SupportError: If there is none of this key.
        """
        found = next((one for one in self.rows() if one.key == key), None)
        if found is None:
            raise SupportError(_("This support is not in the table any more; choose another."))
        return found

    def write(self, rows: Iterable[SavedRow]) -> None:
        """Writes all rows; nothing changes where they are the same."""
        self.node.SetParameter(PARAMETER, write_saved(rows))

    def replace(self, row: SavedRow) -> None:
        """Writes one row in the place of the one with its key."""
        self.write([row if one.key == row.key else one for one in self.rows()])

    def add(self, row: SavedRow, volume_id: str = "", segmentation_id: str = "") -> None:
        """Writes a row behind the others, as one change of the node."""
        modified = self.node.StartModify()
        for role, identifier in ((VOLUME_ROLE, volume_id), (SEGMENTATION_ROLE, segmentation_id)):
            if identifier:
                self.node.SetNodeReferenceID(role + row.key, identifier)
        self.write([*self.rows(), row])
        self.node.EndModify(modified)

    def remove(self, key: str) -> None:
        """Takes a row out, as one change of the node."""
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
        """The node of a reference. MRML forgets it when the node is deleted; if that is undone it is found again."""
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
