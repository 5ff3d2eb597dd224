"""Progress on a terminal: what a line says, and that it is gone in the end."""

from __future__ import annotations

import io
import os
import struct

import pytest

from ProxyPromptSegmentLib.commands import progress_bars
from ProxyPromptSegmentLib.commands.console import Console
from ProxyPromptSegmentLib.commands.progress_bars import ByteProgress, ConsoleProgress
from ProxyPromptSegmentLib.commands.stages import Stages


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The seconds that bars see."""
    now = [100.0]

    class Timed(progress_bars._Bar):
        def __init__(self, **options) -> None:
            super().__init__(**options)
            self._time = lambda: now[0]
            self.start_t = self.last_print_t = now[0]

    monkeypatch.setattr(progress_bars, "_Bar", Timed)
    return now


def lines(stream: io.StringIO) -> list[str]:
    return [line.rstrip() for line in stream.getvalue().split("\r") if line.strip()]


def test_slices_are_counted_with_the_time_that_is_left(clock) -> None:
    stream = io.StringIO()
    progress = ConsoleProgress(stream)
    progress.start(8, "segmenting")
    for _ in range(4):
        clock[0] += 2.0
        progress.step()
    assert lines(stream)[-1] == "segmenting [############............] slice 4 of 8, 8 s left"
    for _ in range(4):
        progress.step()  # no time passes, but the last step is drawn
    assert lines(stream)[-1].startswith("segmenting [########################] slice 8 of 8")
    progress.close()
    assert stream.getvalue().endswith("\r") and not stream.getvalue().split("\r")[-2].strip()


def test_loading_a_model_is_no_slice(clock) -> None:
    stream = io.StringIO()
    progress = ConsoleProgress(stream)
    progress.start(1, "loading the model")
    progress.step()
    assert all("slice" not in line for line in lines(stream))


def test_frames_of_unknown_number_are_counted_with_their_speed(clock) -> None:
    stream = io.StringIO()
    progress = ConsoleProgress(stream, "frame")
    progress.start(0, "tracking")
    for _ in range(6):
        clock[0] += 0.5
        progress.step(note="vessel")
    assert lines(stream)[-1] == "tracking: frame 6, 2.0 per second, vessel"


def test_a_download_tells_amount_speed_and_time_left(clock) -> None:
    stream = io.StringIO()
    progress = ByteProgress(stream)
    progress.start(300_000_000, "sam-vit-b")
    progress.step(100_000_000)  # was there before: it must not count as speed
    for _ in range(10):
        clock[0] += 1.0
        progress.step(10_000_000)
    assert lines(stream)[-1] == "sam-vit-b [################........] 200.0 MB of 300.0 MB, 10.0 MB/s, 10 s left"


def test_what_an_earlier_run_did_says_nothing_of_the_speed(clock) -> None:
    stream = io.StringIO()
    stages = Stages(ConsoleProgress(stream, "target"))
    for done in range(1, 91):
        stages.show("promise12", done, 100)  # read from the file of scores
    for done in (91, 92):
        clock[0] += 60.0
        stages.show("promise12", done, 100)
    assert lines(stream)[-1] == "promise12 [######################..] target 92 of 100, 8 min left"
    stages.show("psfhs", 1, 50)
    assert lines(stream)[-1].startswith("psfhs [")


def test_what_is_printed_meanwhile_has_a_line_of_its_own_and_the_bar_comes_back(clock) -> None:
    stream = io.StringIO()
    console = Console("c", progress=True, out=stream, err=stream)
    console.progress.start(4, "segmenting")
    clock[0] += 1.0
    console.progress.step()
    for text in ("warned", "said"):
        (console.warn if text == "warned" else console.say)(text)
        clock[0] += 1.0
        console.progress.step()
    console.error("ended")
    said = [line.split("\r")[-1] for line in stream.getvalue().split("\n")]
    assert said == ["c: warning: warned", "said", "c: ended", ""]
    assert "slice 3 of 4" in stream.getvalue().split("said\n")[1]


def test_a_step_without_a_stage_draws_nothing() -> None:
    stream = io.StringIO()
    ConsoleProgress(stream).step()
    assert stream.getvalue() == ""


@pytest.mark.skipif(os.name == "nt", reason="needs a terminal that can be made")
@pytest.mark.parametrize("columns", [80, 40, 20])
def test_a_line_is_never_longer_than_the_terminal_is_wide(columns) -> None:
    fcntl, termios = pytest.importorskip("fcntl"), pytest.importorskip("termios")
    reader, writer = os.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 25, columns, 0, 0))
    with open(writer, "w", encoding="utf-8") as stream:
        for made, amount in ((ConsoleProgress(stream), 1), (ByteProgress(stream), 10**9)):
            made.start(40 * amount, "segmenting a structure with a long name")
            made.step(amount)
            made.step(amount, "a note that takes a lot of room beside the bar and the time that is left")
            made.start(0, "searching for what is like the support in a clip without a length")
            made.step(1)
            made.close()
        stream.flush()
        said = os.read(reader, 1 << 16).decode("utf-8")
    os.close(reader)
    assert "segmenting" in said and max(len(line.strip("\n")) for line in said.split("\r")) < columns
