"""Texts of the panel are translated in the context of the file that names them, and looked up once."""

from __future__ import annotations

import inspect
import os
import types

import pytest

from ProxyPromptSegmentModule import translation


@pytest.fixture
def asked(monkeypatch):
    """Slicer's function, which derives the context from the file that calls it."""
    found = []

    def tr(text):
        caller = inspect.getsourcefile(inspect.currentframe().f_back)
        found.append((os.path.basename(caller), text))
        return f"{text} ({os.path.basename(caller)})"

    monkeypatch.setattr(translation, "tr", tr)
    translation._translated.cache_clear()
    yield found
    translation._translated.cache_clear()


def test_a_text_is_translated_once_for_each_file_that_names_it(asked):
    assert translation._("Undo") == translation._("Undo") == "Undo (test_translation.py)"
    other = types.FunctionType((lambda: translation._("Undo")).__code__.replace(co_filename=os.__file__), globals())
    assert other() == "Undo (os.py)"
    assert asked == [("test_translation.py", "Undo"), ("os.py", "Undo")]
