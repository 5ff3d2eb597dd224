"""Transfers of weights beside the main thread: seen, stopped, gone on with, queued, and never left behind."""

from __future__ import annotations

from download_cases import AT_ONCE, CONTENT
from ProxyPromptSegmentLib.weights import registry
from ProxyPromptSegmentLib.weights.cache import ModelCache
from ProxyPromptSegmentModule.models.transfers import Meter, Transfer, TransferQueue
from ProxyPromptSegmentModule.states import TransferState as State
from shelf_cases import OTHER, PATIENCE, SLOW, a_generator, an_own, midway, own, threads


def test_a_slow_download_shows_progress_stops_and_goes_on_where_it_stopped(home, shelf, server) -> None:
    own(home, an_own(server.serve("/w", CONTENT, **SLOW)))
    transfer = shelf.download("mine", AT_ONCE)
    state = midway(transfer)
    assert state.state == State.RUNNING and state.total == len(CONTENT) and shelf.transfers == [transfer]
    assert shelf.download("mine", AT_ONCE) is transfer, "the same button pressed twice"
    transfer.cancel()
    stopped = transfer.wait(PATIENCE)
    row = shelf.row("mine")
    assert stopped.state == State.CANCELLED and not stopped.error and 0 < row.kept < len(CONTENT)
    assert row.kept == stopped.received and row.state == "can be downloaded" and row.can_remove
    again = shelf.download("mine", AT_ONCE)
    assert again is not transfer and again.wait(PATIENCE) == again.poll()
    assert again.poll().state == State.FINISHED and again.poll().received == len(CONTENT)
    assert server.asked[-1].start == row.kept, "the bytes that were there are not fetched again"
    cache = ModelCache()
    assert cache.path_of(registry.find("mine")).read_bytes() == CONTENT
    assert shelf.row("mine").state == "installed" and not shelf.row("mine").can_download
    assert not shelf.transfers


def test_a_missing_file_is_told_in_a_sentence(home, shelf, server) -> None:
    own(home, an_own(server.url("/gone")))
    ended = shelf.download("mine", AT_ONCE).wait(PATIENCE)
    assert ended.state == State.FAILED and "404" in ended.error and "press “Import file”" in ended.error
    assert not shelf.row("mine").here


def test_another_file_is_told_and_not_kept(home, shelf, server) -> None:
    own(home, an_own(server.serve("/w", OTHER)))
    ended = shelf.download("mine", AT_ONCE).wait(PATIENCE)
    assert ended.state == State.FAILED and "SHA-256" in ended.error
    assert not shelf.row("mine").here and not shelf.row("mine").kept


def test_http_is_not_used_unless_it_is_allowed(home, shelf, server) -> None:
    own(home, an_own(server.serve("/w", CONTENT)))
    ended = shelf.download("mine").wait(PATIENCE)
    assert ended.state == State.FAILED and "not encrypted" in ended.error and not server.asked


def test_a_folder_is_a_source(home, shelf) -> None:
    (home / "shared.pth").write_bytes(CONTENT)
    own(home, an_own((home / "shared.pth").as_uri()))
    assert shelf.download("mine").wait(PATIENCE).state == State.FINISHED
    assert shelf.row("mine").here


def test_two_downloads_queue_and_a_waiting_one_can_be_taken_back(home, shelf, server) -> None:
    own(
        home,
        an_own(server.serve("/1", CONTENT, **SLOW)),
        an_own(server.serve("/2", OTHER), "second", OTHER),
        an_own(server.serve("/3", OTHER), "third", OTHER),
    )
    first, second, third = (shelf.download(name, AT_ONCE) for name in ("mine", "second", "third"))
    midway(first)
    assert [one.poll().state for one in (first, second, third)] == [
        State.RUNNING,
        State.WAITING,
        State.WAITING,
    ]
    assert shelf.transfers == [first, second, third] and len(threads()) == 1
    third.cancel()
    assert third.poll().state == State.CANCELLED and shelf.transfers == [first, second]
    assert second.wait(PATIENCE).state == State.FINISHED and first.poll().state == State.FINISHED
    assert shelf.close(PATIENCE) and [asked.path for asked in server.asked] == ["/1", "/2"]


def test_closing_cancels_everything_and_leaves_no_thread(home, shelf, server) -> None:
    own(home, an_own(server.serve("/1", CONTENT, **SLOW)), an_own(server.serve("/2", OTHER), "second", OTHER))
    first, second = shelf.download("mine", AT_ONCE), shelf.download("second", AT_ONCE)
    midway(first)
    assert shelf.close(PATIENCE) and not threads()
    assert [one.poll().state for one in (first, second)] == [State.CANCELLED, State.CANCELLED]
    assert shelf.row("mine").kept > 0
    assert shelf.download("second", AT_ONCE).wait(PATIENCE).state == State.FINISHED, (
        "a closed shelf can be opened again"
    )


def test_a_generator_brings_its_base_weights(home, shelf, server) -> None:
    own(home, an_own(server.serve("/w", CONTENT)), a_generator(server.serve("/p", OTHER)))
    (needed,) = shelf.needed("prompts")
    assert needed.name == "mine" and not needed.here and not shelf.needed("mine")
    transfer = shelf.download("prompts", AT_ONCE)
    ended = transfer.wait(PATIENCE)
    assert ended.state == State.FINISHED and ended.received == ended.total == len(CONTENT) + len(OTHER)
    assert shelf.needed("prompts")[0].here and shelf.row("prompts").usable
    shelf.remove("mine")
    row = shelf.row("prompts")
    assert row.state == "needs the weights mine" and not row.usable and "'mine'" in row.reason


def test_a_fault_is_told_and_the_next_transfer_goes_on() -> None:
    def fails(_: Transfer) -> bool:
        raise ZeroDivisionError("a fault")

    queue = TransferQueue()
    one, other = queue.add(Transfer("a", "A", fails)), queue.add(Transfer("b", "B", lambda _: True))
    assert one.wait(PATIENCE).state == State.FAILED and "ZeroDivisionError" in one.poll().error
    assert other.wait(PATIENCE).state == State.FINISHED and queue.close(PATIENCE)


def test_speed_and_time_left_are_those_of_the_last_seconds() -> None:
    now = [0.0]
    meter = Meter(3000, clock=lambda: now[0])
    meter.start(2000, "w")
    meter.step(1000)  # was there from an earlier attempt
    assert (
        meter.reading(State.RUNNING).bytes_per_second,
        meter.reading(State.RUNNING).seconds_left,
    ) == (0.0, None)
    for second in range(1, 11):
        now[0] = float(second)
        meter.step(50 if second <= 5 else 100)
    state = meter.reading(State.RUNNING)
    assert (state.received, state.total, state.bytes_per_second, state.seconds_left) == (1750, 3000, 100.0, 12.5)
    now[0] = 60.0
    assert meter.reading(State.RUNNING).seconds_left is None, "nothing has come for a minute"
    meter.next_file(2000)
    assert meter.reading(State.RUNNING).received == 2000
    meter.start(1000, "p")
    meter.step(1000)
    assert meter.reading(State.FINISHED).received == 3000 and meter.reading(State.FINISHED).seconds_left is None
