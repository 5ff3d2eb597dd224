"""Work of the main thread in pieces."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")


def test_the_views_render_between_the_pieces_and_never_in_the_middle_of_one(scene, monkeypatch):
    import slicer

    from ProxyPromptSegmentModule.scene.pieces import WaitingWork

    paused = []
    monkeypatch.setattr(slicer.app, "pauseRender", lambda: paused.append(True))
    monkeypatch.setattr(slicer.app, "resumeRender", paused.pop)
    seen, waiting = [], WaitingWork()

    def work():
        for _piece in range(3):
            seen.append(len(paused))
            yield

    assert not waiting.do_some(time.perf_counter()) and not paused, "nothing waits: the views are left alone"
    waiting.add(work())
    turns = 1
    while waiting.do_some(time.perf_counter() - 1):  # the time is over after each piece
        assert not paused
        turns += 1
    assert seen == [1, 1, 1] and turns == 4 and not paused


def test_a_piece_after_which_the_views_are_to_render_is_the_last_of_its_turn(scene):
    from ProxyPromptSegmentModule.scene.pieces import RENDERING_SECONDS, WaitingWork

    done, waiting = [], WaitingWork()

    def work():
        for piece, rendered in enumerate((None, True, None, None)):
            done.append(piece)
            yield rendered

    waiting.add(work())
    assert waiting.do_some(time.perf_counter() + 60) and done == [0, 1]
    assert waiting.do_some(time.perf_counter() + 60) and done == [0, 1], "the views render alone"
    time.sleep(RENDERING_SECONDS)
    assert waiting.do_some(time.perf_counter() + 60) and done == [0, 1], "also where their timers are just due"
    assert not waiting.do_some(time.perf_counter() + 60) and done == [0, 1, 2, 3]


def test_what_was_promised_is_done_before_the_end_and_the_rest_is_not(scene):
    from ProxyPromptSegmentModule.scene.pieces import WaitingWork

    done, waiting = [], WaitingWork()

    def work(name):
        try:
            for piece in range(3):
                done.append((name, piece))
                yield
        finally:
            done.append((name, "end"))

    waiting.add(work("read"))
    waiting.add(work("saved"), promised=True)
    waiting.do_some(time.perf_counter() - 1)
    waiting.close()
    assert [piece for name, piece in done if name == "read"] == [0, "end"]
    assert [piece for name, piece in done if name == "saved"] == [0, 1, 2, "end"]
    assert not waiting.waits and not waiting.do_some(time.perf_counter())
