"""Progress without a terminal, as in a log: whole lines at intervals, none if quiet; the same for all commands."""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")

from ProxyPromptSegmentLib.cli import build_parser
from ProxyPromptSegmentLib.commands import progress_lines
from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.commands.progress_bars import BYTE
from ProxyPromptSegmentLib.commands.stages import Stages

COMMANDS = Path(__file__).resolve().parents[2] / "ProxyPromptSegmentLib" / "commands"


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The seconds that lines see."""
    now = [100.0]
    monkeypatch.setattr(progress_lines.time, "monotonic", lambda: now[0])
    return now


def said_in(clock: list[float], seconds: float, total: int, unit: str = "target", first: int = 0) -> list[str]:
    """What a log holds of so many steps, each of which takes so long; ``first`` of them were done before."""
    stream = io.StringIO()
    stages = Stages(Console("proxyprompt evaluate", unit=unit, err=stream).progress)
    for done in range(1, total + 1):
        clock[0] += seconds if done > first else 0
        stages.show("drishti_gs", done, total, "sam-compact")
    assert "\r" not in stream.getvalue()
    return stream.getvalue().splitlines()


def test_lines_are_whole_and_come_every_half_minute(clock) -> None:
    said = said_in(clock, 10.0, 12)
    assert said[0] == "proxyprompt evaluate: drishti_gs: target 3 of 12, 2 min left, sam-compact"
    assert [line.split("target ")[1].split(" ")[0] for line in said] == ["3", "6", "9", "12"]


def test_a_short_run_says_nothing_and_a_long_one_does_not_fill_the_log(clock) -> None:
    assert said_in(clock, 0.5, 50) == []
    day = said_in(clock, 60.0, 24 * 60)
    assert 12 * 24 - 30 < len(day) < 12 * 24 + 30


def test_what_an_earlier_run_did_says_nothing_of_the_speed(clock) -> None:
    said = said_in(clock, 30.0, 100, first=90)
    assert said[0] == "proxyprompt evaluate: drishti_gs: target 91 of 100, 4 min left, sam-compact"


def test_a_download_is_counted_in_bytes(clock) -> None:
    stream = io.StringIO()
    progress = Console("m", unit=BYTE, err=stream).progress
    progress.start(300_000_000, "sam-vit-b")
    progress.step(100_000_000)  # was there before
    clock[0] += 40.0
    progress.step(100_000_000)
    assert stream.getvalue() == "m: sam-vit-b: 200.0 MB of 300.0 MB, 40 s left\n"


def test_stages_of_one_step_and_of_unknown_length_are_named(clock) -> None:
    stream = io.StringIO()
    progress = Console("c", unit="frame", err=stream).progress
    clock[0] += 31.0
    progress.start(1, "loading the model")
    progress.start(0, "tracking")
    clock[0] += 31.0
    progress.step(7)
    progress.close()
    progress.step()
    assert stream.getvalue().splitlines() == ["c: loading the model", "c: tracking: frame 7"]


def test_quiet_writes_none(clock) -> None:
    stream = io.StringIO()
    progress = Console("c", quiet=True, err=stream).progress
    progress.start(2, "segmenting")
    clock[0] += 100.0
    progress.step()
    assert stream.getvalue() == ""


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parsers whose options a user gives: of subcommands, or of their actions."""
    below = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    if not below:
        yield parser
    for one in below:
        for child in one.choices.values():
            yield from leaves(child)


def test_every_command_can_be_quiet_or_draw_a_bar() -> None:
    found = list(leaves(build_parser()))
    assert len(found) > 20
    lacking = [one.prog for one in found if not {"--quiet", "--progress"} <= set(one._option_string_actions)]
    assert lacking == []


def test_nothing_but_a_bar_returns_to_the_beginning_of_a_line() -> None:
    bars = COMMANDS / "progress_bars.py"
    assert "\\r" in bars.read_text("utf-8")
    assert [path.name for path in COMMANDS.glob("*.py") if "\\r" in path.read_text("utf-8") and path != bars] == []
