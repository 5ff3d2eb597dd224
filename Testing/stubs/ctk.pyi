import qt

class ctkCollapsibleButton(qt.QWidget):
    collapsed: bool
    text: str

class ctkCollapsibleGroupBox(qt.QWidget):
    collapsed: bool

class ctkSliderWidget(qt.QWidget):
    value: float

class ctkRangeWidget(qt.QWidget):
    maximumValue: float
    minimumValue: float
    def setRange(self, minimum: float, maximum: float) -> None: ...
    def setValues(self, minimum: float, maximum: float) -> None: ...
