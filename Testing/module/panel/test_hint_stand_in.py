"""The hint in an empty scene."""

from __future__ import annotations

import numpy as np

from mrml_scene import add_volume
from widget_cases import add_case, text_of


def test_an_empty_scene_offers_the_sample_data_and_one_press_loads_it(panel, monkeypatch):
    import slicer

    from ProxyPromptSegmentModule.scene import sample_data

    drawn = []
    monkeypatch.setattr(sample_data, "load_support", lambda: drawn.append(add_case("support")))
    monkeypatch.setattr(sample_data, "load_target", lambda: drawn.append(add_case("target", objects=())))
    panel.refresh()
    assert not panel.ui.hintFrame.real.isHidden() and "sample data" in text_of(panel.ui.hintLabel)
    panel.ui.sampleButton.click()
    assert len(drawn) == 2 and panel.ui.hintFrame.real.isHidden()
    slicer.mrmlScene.Clear(0)
    panel.refresh()
    assert not panel.ui.hintFrame.real.isHidden()


def test_the_hint_is_hidden_with_an_image_and_hidden_images_do_not_count(panel):
    hidden = add_volume(np.zeros((4, 4, 4), np.int16), np.eye(4), "hidden")
    hidden.SetHideFromEditors(True)
    panel.refresh()
    assert not panel.ui.hintFrame.real.isHidden()
    add_case("one")
    panel.refresh()
    assert panel.ui.hintFrame.real.isHidden()


def test_a_failure_of_the_sample_data_is_said(panel, monkeypatch, caplog):
    from ProxyPromptSegmentLib.errors import InputError
    from ProxyPromptSegmentModule.scene import sample_data

    def fail():
        raise InputError("the drawing cannot be made")

    monkeypatch.setattr(sample_data, "load_support", fail)
    said = []
    monkeypatch.setattr("ProxyPromptSegmentModule.panel.hint_section.HintSection.refresh", lambda self: None)
    panel.ui.sampleButton.click()
    said = text_of(panel.ui.hintLabel)
    assert said == "The drawing cannot be made"
