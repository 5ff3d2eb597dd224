"""``proxyprompt segment``: positions and registered supports are used, said, reported and turned off."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("SimpleITK")

from command_cases import DONE, Desk
from ProxyPromptSegmentLib.cli import main


@pytest.fixture
def real(tmp_path, random_checkpoint) -> Desk:
    """A desk with the compact network, which reads both."""
    return Desk(tmp_path, str(random_checkpoint))


def report_of(desk, capsys, *words):
    assert main(desk.words("--json", "--force", "--slices", "2:3", *words)) in DONE
    said = capsys.readouterr()
    return json.loads(said.out), said.err


def test_positions_are_used_by_a_model_that_reads_them_if_asked_for(real, capsys) -> None:
    known, _ = report_of(real, capsys, "--position", "--no-closer", "--no-register")
    assert known["helps"]["position"] is True and known["settings"]["position"] is True
    assert (
        known["helps"]["sentence"] == "Used in addition to whole slices: the position of the slices in their volumes."
    )
    off, _ = report_of(real, capsys, "--no-position", "--no-register", "--no-closer")
    assert off["helps"] == {"position": False, "registered": [], "closer": [], "sentence": ""}


def test_small_structures_are_looked_at_closer_unless_that_is_declined_and_the_report_says_so(real, capsys) -> None:
    report, _ = report_of(real, capsys, "--no-register")
    assert report["settings"]["closer"] is True and report["helps"]["closer"] == ["gland", "stone"]
    assert report["helps"]["sentence"] == "Used in addition to whole slices: a closer look at gland, stone."
    assert report_of(real, capsys, "--no-register", "--no-closer")[0]["settings"]["closer"] is False


def test_supports_are_registered_unless_that_is_declined_and_the_report_says_how_that_went(real, capsys) -> None:
    report, said = report_of(real, capsys)
    (one,) = report["helps"]["registered"]
    assert one["support"] == "old"
    assert report["settings"]["register"] is True
    assert "registration" in report["seconds"]
    if one["problem"] is None:
        assert "(old)" in report["helps"]["sentence"]
    else:
        assert one["problem"] in said
    assert not report_of(real, capsys, "--no-register")[0]["helps"]["registered"]


def test_a_model_that_reads_no_positions_uses_none(desk, capsys) -> None:
    report, _ = report_of(desk, capsys, "--position")
    assert report["helps"]["position"] is False
