"""Every setting of a segmentation in every place that lists them: options, requests, reports, tasks, scripts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

from ProxyPromptSegmentLib import api
from ProxyPromptSegmentLib.cli import build_parser, main
from ProxyPromptSegmentLib.commands import segment_run
from ProxyPromptSegmentLib.commands.requests import Request
from ProxyPromptSegmentLib.commands.segment_options import request_of
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.inference.tiling.choice import TileChoice
from ProxyPromptSegmentLib.support.pairs import MOST_READ
from ProxyPromptSegmentLib.worker.tasks import SegmentTask
from settings_cases import CHANGED, NAMES, PLACES, as_text, fields_of

OPTIONS = {
    "threshold": ["--threshold", "0.37"],
    "across_slices": ["--each-slice-alone"],
    "fill_gaps": ["--keep-gaps"],
    "most_read": ["--all-supports"],
    "tiles": ["--tiles", "off"],
    "position": ["--position" if CHANGED["position"] else "--no-position"],
    "register": ["--register" if CHANGED["register"] else "--no-register"],
    "closer": ["--closer" if CHANGED["closer"] else "--no-closer"],
    "device": ["--device", "cpu"],
    "precision": ["--precision", "single"],
}
WORDS = [word for words in OPTIONS.values() for word in words]


def test_every_setting_has_a_value_to_test_with_and_an_option() -> None:
    assert CHANGED.keys() | PLACES == NAMES, "named_settings has another setting: add it to CHANGED in settings_cases"
    assert OPTIONS.keys() == CHANGED.keys()


def test_a_task_has_every_setting_and_no_other() -> None:
    of_the_run = {"job", "model", "first", "follow", "mode", "in_time", "keep", "surrogate"}
    assert fields_of(SegmentTask) - of_the_run == CHANGED.keys(), "a setting of a task belongs into named_settings"


@pytest.mark.parametrize("command", ["segment", "cohort"])
def test_every_option_changes_its_setting_in_the_request_and_in_its_report(command) -> None:
    given = {
        "segment": ["--target", "t.nrrd", "--output", "o.nrrd"],
        "cohort": ["studies", "--output", "results"],
    }[command]
    parser = build_parser(command)
    plain, changed = (
        request_of(parser.parse_args([command, *given, *more]), Path("t.nrrd"), Path("o.nrrd")) for more in ([], WORDS)
    )
    assert {name: as_text(getattr(changed, name)) for name in CHANGED} == CHANGED
    assert {name: changed.settings[name] for name in CHANGED} == CHANGED
    assert [name for name in CHANGED if plain.settings[name] == changed.settings[name]] == []
    assert plain.settings.keys() >= NAMES and fields_of(Request) >= NAMES


def test_every_option_reaches_the_task(desk, monkeypatch) -> None:
    seen = []

    def recorded(job: object, **settings: object) -> None:
        seen.append(settings)
        raise UsageError("seen")

    monkeypatch.setattr(segment_run, "SegmentTask", recorded)
    assert main(desk.words(*WORDS)) == 2
    assert {name: as_text(seen[0][name]) for name in CHANGED} == CHANGED


def test_scripts_can_change_every_setting(desk, monkeypatch) -> None:
    seen: list[SegmentTask] = []
    monkeypatch.setattr(api, "plan", lambda *args, **more: None)
    engine = SimpleNamespace(segment=lambda task, context: seen.append(task))
    model = api.Model(engine, None, "m", CHANGED["device"], CHANGED["precision"])
    model.segment([], None, **{name: CHANGED[name] for name in CHANGED.keys() - {"device", "precision"}})
    assert {name: as_text(getattr(seen[0], name)) for name in CHANGED} == CHANGED


def test_the_values_are_not_the_defaults() -> None:
    task = SegmentTask(None)
    assert [name for name, value in CHANGED.items() if as_text(getattr(task, name)) == value] == []
    assert MOST_READ is not None and str(TileChoice()) != "off" and dataclasses.is_dataclass(Request)
