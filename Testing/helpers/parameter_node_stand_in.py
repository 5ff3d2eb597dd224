"""A stand-in for `slicer.parameterNodeWrapper`, which slicer-core does not have; enough for the panel's parameters.

As the real one it keeps values as texts and nodes as node references of the real parameter node, so saving, importing
and deleting behave as in Slicer; it checks types, writes defaults at once, and reads anew after every change.
"""

from __future__ import annotations

import types
import typing
import weakref


def parameterNodeWrapper(described):  # noqa: N802
    """Class decorator: typed fields become properties that read and write a ``vtkMRMLScriptedModuleNode``."""
    import slicer

    fields = {}
    for name, kind in typing.get_type_hints(described).items():
        node = issubclass(kind, slicer.vtkMRMLNode)
        fields[name] = _NodeField(name, kind) if node else _ValueField(name, kind, getattr(described, name, kind()))
        setattr(described, name, property(*_accessors(name, fields[name])))
    described.allParameters = fields
    described.__init__ = _start
    return described


def _start(self, parameter_node):
    """Writes defaults, reads everything, and reads it anew when the node tells that it was modified, as in Slicer."""
    self.parameterNode = parameter_node
    self._values = {}
    for field in self.allParameters.values():
        if not parameter_node.HasParameter(field.name):
            field.write(parameter_node, field.first)
    _read_all(self)
    me = weakref.ref(self)
    parameter_node.AddObserver("ModifiedEvent", lambda caller, event: me() is not None and _read_all(me()))


def _read_all(self):
    self._values = {name: field.read(self.parameterNode) for name, field in self.allParameters.items()}


def _accessors(name, field):
    import slicer.util

    def put(self, value):
        field.check(value)
        with slicer.util.NodeModify(self.parameterNode):  # whoever is told of the change finds the new value
            field.write(self.parameterNode, value)
            self._values[name] = field.read(self.parameterNode)

    return (lambda self: self._values[name]), put


class _ValueField:
    def __init__(self, name, kind, first):
        self.name, self.kind, self.first = name, kind, first

    def check(self, value):
        kinds = (int, float) if self.kind is float else self.kind
        if not isinstance(value, kinds) or (self.kind is not bool and isinstance(value, bool)):
            raise TypeError(f"{self.name} is {self.kind.__name__}, not {value!r}")

    def read(self, node):
        text = node.GetParameter(self.name)
        return text == "true" if self.kind is bool else self.kind(text)

    def write(self, node, value):
        node.SetParameter(self.name, str(value).lower() if self.kind is bool else str(value))


class _NodeField:
    first = None

    def __init__(self, name, kind):
        self.name, self.kind = name, kind

    def check(self, value):
        if value is not None and not isinstance(value, self.kind):
            raise TypeError(f"{self.name} is {self.kind.__name__}, not {value!r}")

    def read(self, node):
        return node.GetNodeReference(self.name)

    def write(self, node, value):
        node.SetParameter(self.name, "")
        node.SetNodeReferenceID(self.name, value.GetID() if value is not None else None)


def make_module():
    """The module that ``from slicer.parameterNodeWrapper import ...`` gives."""
    module = types.ModuleType("slicer.parameterNodeWrapper")
    module.parameterNodeWrapper = parameterNodeWrapper
    return module
