"""Stand-ins for Slicer's widgets, so that the panel can be tried without Slicer. They prove less than Slicer does.

PySide6 holds the widgets that the real .ui files describe; each is reached through a `StandIn`, which has the members
that a running Slicer 5.13 named for that class (slicer_widget_api.json) and no others, with PythonQt's habits: Qt
properties are attributes, signals are connected by their C++ signature, nothing takes keywords. `qt` here is not
Slicer's. What they cannot show: PythonQt's strictness with overloads and enums, C++ slots, modal dialogs, and which
nodes Slicer's selectors choose of themselves.
"""

from __future__ import annotations

import ctypes
import inspect
import json
import os
import sys
import types
import xml.etree.ElementTree as ElementTree
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets  # noqa: F401

from slicer_custom_widgets import CUSTOM

if sys.version_info < (3, 12):
    # PySide gives back references to None that it never took, and a long test runs out of them; later Pythons do not
    # count them.
    ctypes.c_ssize_t.from_address(id(None)).value += 1 << 40

API = json.loads((Path(__file__).parent / "slicer_widget_api.json").read_text(encoding="utf-8"))
COMMON = API["_common_QWidget"]
ERRORS: list[BaseException] = []
"""What slots have raised; Qt swallows it, tests look here."""


def api_of(real):
    """The named members of a widget's class; None for layouts and other things that are no widgets of the list."""
    for kind in type(real).__mro__:
        for module in ("qt", "ctk", "slicer"):
            found = API.get(f"{module}.{kind.__name__}")
            if found is not None:
                return found
    nothing_own = {"properties": {}, "signals": [], "slots": [], "methods": []}
    return nothing_own if isinstance(real, QtWidgets.QWidget) else None


class StandIn:
    """One widget or timer as Slicer's Python sees it."""

    def __init__(self, real):
        object.__setattr__(self, "real", real)
        api = api_of(real)
        object.__setattr__(self, "_api", api)

    def __getattr__(self, name):
        real, api = self.real, self._api
        if name == "name":  # PythonQt's other word for objectName
            return real.objectName()
        if api is None:
            if name in ("children", "addWidget", "addStretch", "property", "setContentsMargins"):
                return _call(getattr(real, name))
            raise AttributeError(f"{type(real).__name__}.{name} was not looked up in Slicer")
        if name in api["properties"] or name in COMMON["properties"]:
            return wrapped(real.property(name))
        if any(name == signal.split("(")[0] for signal in api["signals"]) and name not in _SIGNALS_THAT_ARE_METHODS:
            return _Signal(self, name)
        if name == "connect":
            return self._connect
        if name in api["methods"] or name in COMMON["methods"] or _is_slot(name, api):
            return _call(getattr(real, name))
        raise AttributeError(f"Slicer's {type(real).__name__} has no '{name}'")

    def __setattr__(self, name, value):
        kind = self._api["properties"].get(name, "") if self._api else None
        if kind is None or (name not in self._api["properties"] and name not in COMMON["properties"]):
            raise AttributeError(f"Slicer's {type(self.real).__name__} has no property '{name}'")
        if "[ro]" in kind:
            raise AttributeError(f"{type(self.real).__name__}.{name} can only be read")
        expected = {"bool": bool, "QString": str, "int": int, "double": (int, float)}.get(kind)
        if expected is not None and (not isinstance(value, expected) or (kind == "int" and isinstance(value, bool))):
            raise TypeError(f"{type(self.real).__name__}.{name} is {kind}, not {type(value).__name__}")
        self.real.setProperty(name, unwrapped(value))

    def __eq__(self, other):
        return isinstance(other, StandIn) and other.real is self.real

    def __hash__(self):
        return hash(id(self.real))

    def __bool__(self):
        return True

    def __repr__(self):
        return f"<stand-in of {type(self.real).__name__} {self.real.objectName()!r}>"

    def _connect(self, signature, slot):
        if signature not in self._api["signals"] and signature not in COMMON["signals"]:
            raise AttributeError(f"Slicer's {type(self.real).__name__} has no signal '{signature}'")
        name, arguments = signature.rstrip(")").split("(")
        count = len([one for one in arguments.split(",") if one])
        getattr(self.real, name).connect(_as_slot(slot, count))
        return True


_SIGNALS_THAT_ARE_METHODS = ("toggle", "click")


class _Signal:
    """``widget.someSignal`` with connect and disconnect."""

    def __init__(self, owner, name):
        self._signal = getattr(owner.real, name)

    def connect(self, slot):
        self._signal.connect(_as_slot(slot, None))

    def disconnect(self):
        self._signal.disconnect()


def _as_slot(slot, count):
    """Passes on as many arguments as the signature names and the slot takes, as PythonQt does, and keeps errors."""
    takes = inspect.signature(slot).parameters.values()
    most = None if any(one.kind is one.VAR_POSITIONAL for one in takes) else len(takes)

    def called(*arguments):
        given = [wrapped(one) for one in arguments][:count][:most]
        try:
            slot(*given)
        except BaseException as error:  # noqa: BLE001
            ERRORS.append(error)

    return called


def _is_slot(name, api):
    return any(name == slot.split("(")[0] for slot in [*api["slots"], *COMMON["slots"]])


def _call(function):
    def called(*arguments):
        return wrapped(function(*[unwrapped(one) for one in arguments]))

    return called


def wrapped(value):
    """Widgets and timers become stand-ins; items, pictures and numbers stay what they are, as in PythonQt."""
    if isinstance(value, list):
        return [wrapped(one) for one in value]
    if isinstance(value, (QtWidgets.QHeaderView, QtWidgets.QApplication)) or not isinstance(value, QtCore.QObject):
        return value
    return StandIn(value)


def unwrapped(value):
    return value.real if isinstance(value, StandIn) else value


# --- the module qt --------------------------------------------------------------------------------------------------


def _maker(name, kind):
    def make(*arguments):
        return StandIn(kind(*[unwrapped(one) for one in arguments]))

    if f"qt.{name}" not in API:
        raise AttributeError(f"{name} was not looked up in Slicer")
    return make


class _Timer:
    """``qt.QTimer()`` and its one static function."""

    def __call__(self, *arguments):
        return StandIn(QtCore.QTimer())

    @staticmethod
    def singleShot(milliseconds, slot):  # noqa: N802
        QtCore.QTimer.singleShot(milliseconds, _as_slot(slot, 0))


class _Loader:
    """``qt.QUiLoader``: makes our custom widgets, refuses unknown ones, makes the connections that the file names."""

    def load(self, file):
        path = Path(file.fileName())
        tree = ElementTree.parse(path)
        for widget in tree.iter("widget"):
            kind = widget.get("class")
            known = any(f"{module}.{kind}" in API for module in ("qt", "ctk", "slicer"))
            if not known and kind not in ("QFrame", "QWidget"):
                raise LookupError(f"{path.name}: nobody has looked up the class {kind} in Slicer")
            self._check_properties(widget, kind, path)
        top = _QtLoader().load(file)
        if top is None:
            raise RuntimeError(f"{path.name} could not be loaded")
        for connection in tree.iter("connection"):
            self._link(top, connection)
        return StandIn(top)

    @staticmethod
    def _check_properties(widget, kind, path):
        api = next((API[f"{module}.{kind}"] for module in ("qt", "ctk", "slicer") if f"{module}.{kind}" in API), None)
        for one in widget.findall("property"):
            name = one.get("name")
            if api is not None and name not in api["properties"] and name not in COMMON["properties"]:
                raise LookupError(f"{path.name}: {kind} has no property {name} in Slicer")

    @staticmethod
    def _link(top, connection):
        part = {one.tag: one.text for one in connection}
        ends = [
            top if top.objectName() == part[end] else top.findChild(QtCore.QObject, part[end])
            for end in ("sender", "receiver")
        ]
        if part["signal"] not in api_of(ends[0])["signals"] or part["slot"] not in api_of(ends[1])["slots"]:
            raise LookupError(f"no such connection in Slicer: {part}")
        getattr(ends[0], part["signal"].split("(")[0]).connect(getattr(ends[1], part["slot"].split("(")[0]))


class _QtLoader(QtUiTools.QUiLoader):
    def createWidget(self, kind, parent=None, name=""):  # noqa: N802
        if kind in CUSTOM:
            made = CUSTOM[kind](parent)
            made.setObjectName(name)
            return made
        return super().createWidget(kind, parent, name)


class Dialogs:
    """``qt.QFileDialog``: answers what a test has put into `path`; PythonQt returns the path alone."""

    path = ""

    @classmethod
    def getExistingDirectory(cls, parent, title, folder):  # noqa: N802
        return cls.path

    @classmethod
    def getOpenFileName(cls, parent, title, folder, names):  # noqa: N802
        return cls.path

    @classmethod
    def getSaveFileName(cls, parent, title, folder, names):  # noqa: N802
        return cls.path


def make_qt():
    """The module that ``import qt`` gives."""
    QtWidgets.QApplication.instance() or QtWidgets.QApplication(["stand-ins"])
    QtCore.qInstallMessageHandler(lambda *ignored: None)  # Qt says that it does not know vtkMRMLScene*
    module = types.ModuleType("qt")
    module.Qt = QtCore.Qt
    for name in ("QFile", "QByteArray", "QSize", "QObject", "QEvent"):
        setattr(module, name, getattr(QtCore, name))
    for name in ("QPixmap", "QIcon", "QColor", "QBrush", "QKeySequence"):
        setattr(module, name, getattr(QtGui, name))
    for name in ("QTableWidgetItem", "QListWidgetItem", "QHeaderView", "QApplication"):
        setattr(module, name, getattr(QtWidgets, name))
    for name in ("QLabel", "QPushButton", "QTableWidget", "QListWidget", "QCheckBox", "QComboBox", "QLineEdit"):
        setattr(module, name, _maker(name, getattr(QtWidgets, name)))
    module.QWidget = lambda *parent: StandIn(QtWidgets.QWidget(*map(unwrapped, parent)))
    module.QVBoxLayout = lambda parent: StandIn(QtWidgets.QVBoxLayout(parent.real))
    module.QShortcut = _maker("QShortcut", QtGui.QShortcut)
    module.QTimer, module.QUiLoader, module.QFileDialog = _Timer(), _Loader, Dialogs
    module.QFile.ReadOnly = QtCore.QIODevice.OpenModeFlag.ReadOnly
    return module


def process_events():
    """Lets Qt do what waits."""
    QtWidgets.QApplication.processEvents()
