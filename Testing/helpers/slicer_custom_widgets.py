"""The widgets of Slicer and CTK that Qt does not have, as thin PySide6 classes; `slicer_stand_ins` wraps them.

Only what the panel touches behaves as in Slicer: which nodes a selector lists and what happens when one is deleted, how
a range keeps its ends in order, when a section tells that it was opened.
"""

from __future__ import annotations

from PySide6 import QtCore, QtWidgets

Property, Signal = QtCore.Property, QtCore.Signal


def _stored(kind, name, first, told=None):
    """A Qt property that is only kept."""

    def get(self):
        return self.__dict__.get(name, first)

    def put(self, value):
        changed = get(self) != value
        self.__dict__[name] = value
        if changed and told is not None:
            told(self, value)

    return Property(kind, get, put)


class qMRMLWidget(QtWidgets.QWidget):  # noqa: N801
    """Passes the scene on."""

    mrmlSceneChanged = Signal(object)  # noqa: N815

    def setMRMLScene(self, scene):  # noqa: N802
        self.mrmlSceneChanged.emit(scene)


class ctkCollapsibleButton(QtWidgets.QWidget):  # noqa: N801
    """A section that can be closed; as in CTK, its size hint is its least width, so a wide content widens the panel."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Minimum, QtWidgets.QSizePolicy.Policy.Preferred)

    contentsCollapsed = Signal(bool)  # noqa: N815
    text = _stored(str, "text", "")
    collapsed = _stored(bool, "collapsed", False, lambda self, value: self.contentsCollapsed.emit(value))


class ctkCollapsibleGroupBox(QtWidgets.QGroupBox):  # noqa: N801
    """A box that can be closed."""

    collapsed = _stored(bool, "collapsed", False)


class ctkSliderWidget(QtWidgets.QWidget):  # noqa: N801
    """A number between two others."""

    valueChanged = Signal(float)  # noqa: N815
    decimals = _stored(int, "decimals", 2)
    singleStep = _stored(float, "singleStep", 1.0)  # noqa: N815
    minimum = _stored(float, "minimum", 0.0)
    maximum = _stored(float, "maximum", 99.0)

    def _get(self):
        return self.__dict__.get("value", 0.0)

    def _put(self, value):
        value = round(min(max(value, self.minimum), self.maximum), self.decimals)
        if value != self._get():
            self.__dict__["value"] = value
            self.valueChanged.emit(value)

    value = Property(float, _get, _put)


class ctkRangeWidget(QtWidgets.QWidget):  # noqa: N801
    """Two numbers in order, inside of a range."""

    valuesChanged = Signal(float, float)  # noqa: N815
    decimals = _stored(int, "decimals", 2)
    singleStep = _stored(float, "singleStep", 1.0)  # noqa: N815

    def __init__(self, parent=None):
        super().__init__(parent)
        self._ends, self._values = [0.0, 99.0], [0.0, 99.0]

    def setRange(self, low, high):  # noqa: N802
        self._ends = [low, max(low, high)]
        self.setValues(*self._values)

    def setValues(self, low, high):  # noqa: N802
        low, high = sorted((low, high))
        values = [min(max(one, self._ends[0]), self._ends[1]) for one in (low, high)]
        if values != self._values:
            self._values = values
            self.valuesChanged.emit(*values)

    minimum = Property(float, lambda s: s._ends[0], lambda s, v: s.setRange(v, s._ends[1]))
    maximum = Property(float, lambda s: s._ends[1], lambda s, v: s.setRange(s._ends[0], v))
    minimumValue = Property(float, lambda s: s._values[0], lambda s, v: s.setValues(v, s._values[1]))  # noqa: N815
    maximumValue = Property(float, lambda s: s._values[1], lambda s, v: s.setValues(s._values[0], v))  # noqa: N815


def _with_node(told):
    """Return an observer that calls a function with the node of an event of the scene."""
    import vtk

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def observer(caller, event, node):
        told(node)

    return observer


class qMRMLNodeComboBox(QtWidgets.QWidget):  # noqa: N801
    """Chooses a node of the real scene; if it is removed, Slicer's shows the last one of the others."""

    currentNodeChanged = Signal(object)  # noqa: N815
    nodeAboutToBeRemoved = Signal(object)  # noqa: N815
    nodeTypes = _stored("QStringList", "nodeTypes", [])  # noqa: N815
    hideChildNodeTypes = _stored("QStringList", "hideChildNodeTypes", [])  # noqa: N815
    showChildNodeTypes = _stored(bool, "showChildNodeTypes", True)  # noqa: N815
    noneEnabled = _stored(bool, "noneEnabled", False)  # noqa: N815
    addEnabled = _stored(bool, "addEnabled", True)  # noqa: N815
    removeEnabled = _stored(bool, "removeEnabled", True)  # noqa: N815
    renameEnabled = _stored(bool, "renameEnabled", False)  # noqa: N815
    selectNodeUponCreation = _stored(bool, "selectNodeUponCreation", True)  # noqa: N815
    noneDisplay = _stored(str, "noneDisplay", "None")  # noqa: N815

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene, self._id, self._tags = None, None, []

    def setMRMLScene(self, scene):  # noqa: N802
        for tag in self._tags:
            self._scene.RemoveObserver(tag)
        self._scene = scene
        self._tags = [scene.AddObserver(event, self._look) for event in (scene.NodeRemovedEvent, scene.EndCloseEvent)]
        self._tags.append(scene.AddObserver(scene.NodeAboutToBeRemovedEvent, _with_node(self._leaving)))

    def _leaving(self, node):
        if any(node is one for one in self.nodes()):
            self.nodeAboutToBeRemoved.emit(node)

    def _look(self, caller=None, event=None):
        if self._id is not None and self._scene.GetNodeByID(self._id) is None:
            others = self.nodes()
            self._id = others[-1].GetID() if others else None
            self.currentNodeChanged.emit(self.currentNode())

    def nodes(self):
        """What the list offers."""
        found = []
        for number in range(self._scene.GetNumberOfNodes()):
            node = self._scene.GetNthNode(number)
            kinds = self.nodeTypes
            fits = any(node.IsA(kind) if self.showChildNodeTypes else node.GetClassName() == kind for kind in kinds)
            hidden = any(node.IsA(kind) for kind in self.hideChildNodeTypes) or node.GetHideFromEditors()
            if fits and not hidden:
                found.append(node)
        return found

    def currentNode(self):  # noqa: N802
        return self._scene.GetNodeByID(self._id) if self._id is not None and self._scene is not None else None

    def nodeCount(self):  # noqa: N802
        return len(self.nodes())

    def setCurrentNode(self, node):  # noqa: N802
        offered = node is not None and any(node is one for one in self.nodes())
        identifier = node.GetID() if offered else None
        if identifier != self._id:
            self._id = identifier
            self.currentNodeChanged.emit(self.currentNode())


class qMRMLSegmentationShow3DButton(QtWidgets.QPushButton):  # noqa: N801
    """Knows the segmentation that it would show."""

    _node = None

    def setSegmentationNode(self, node):  # noqa: N802
        self._node = node

    def segmentationNode(self):  # noqa: N802
        return self._node


CUSTOM = {
    kind.__name__: kind
    for kind in (
        qMRMLWidget,
        ctkCollapsibleButton,
        ctkCollapsibleGroupBox,
        ctkSliderWidget,
        ctkRangeWidget,
        qMRMLNodeComboBox,
        qMRMLSegmentationShow3DButton,
    )
}
