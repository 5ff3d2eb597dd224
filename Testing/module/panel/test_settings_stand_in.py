"""What the panel sets of a segmentation: everything that the command line does, but for what it does not show."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

from settings_cases import CHANGED


def test_every_setting_follows_the_panel(stand_ins) -> None:
    """All but the precision, which stays automatic there, and the number of support slices."""
    from ProxyPromptSegmentModule.panel.requests import Requests
    from ProxyPromptSegmentModule.runs.request import Settings

    names = {
        "fill_gaps": "fillGaps",
        "position": "usePosition",
        "register": "registerSupports",
        "closer": "lookCloser",
        "tiles": "tiles",
        "device": "device",
        "threshold": "threshold",
    }
    shown = {there: CHANGED[here] for here, there in names.items()}
    parameters = SimpleNamespace(**shown, axis="j", followMemory=True, chooseSupports=False)
    model = SimpleNamespace(name="m", follows=True)
    found = Requests(SimpleNamespace(parameters=parameters), None, None, model, None).settings()
    here = {name: value for name, value in CHANGED.items() if name != "across_slices"}
    expected = replace(Settings(**here), precision=Settings().precision, model="m", axis="j", follow=True)
    assert found == expected
