"""Shares of the open studies: each study in one of them, whatever is done meanwhile, and none lost after a crash."""

from __future__ import annotations

from ProxyPromptSegmentLib.cohort.shards import Shards

STUDIES = [f"s{number}" for number in range(10)]


def test_shares_cover_all_and_do_not_overlap_whenever_their_tasks_start(tmp_path) -> None:
    found, still_open = [], list(STUDIES)
    for index in (2, 3, 1):
        own = Shards(tmp_path, index, 3).first(still_open)
        found += own
        still_open = [study for study in still_open if study not in own]  # done before the next task starts
    assert sorted(found) == STUDIES and len(found) == len(set(found))


def test_after_a_crash_what_is_open_is_shared_by_all(tmp_path) -> None:
    shares = [Shards(tmp_path, index, 2).first(STUDIES) for index in (1, 2)]
    left = [study for study in STUDIES if study in shares[1]]
    again = Shards(tmp_path, 1, 2)
    own = again.first(left)
    assert 0 < len(own) < len(left)
    assert Shards(tmp_path, 2, 2).first(left) | own == set(left)


def test_a_task_that_follows_an_older_plan_does_its_share_of_the_newer_one_too(tmp_path) -> None:
    shares = [Shards(tmp_path, index, 2).first(STUDIES) for index in (1, 2)]
    left = [study for study in STUDIES if study in shares[1]]
    slow, quick = Shards(tmp_path, 2, 2), Shards(tmp_path, 1, 2)
    assert slow.first(left) == set(left) and slow.next(left) == set()
    own = quick.first(left)
    assert slow.next(left) == set(left) - own and slow.next(left) == set()


def test_studies_that_were_added_are_shared(tmp_path) -> None:
    Shards(tmp_path, 1, 2).first(STUDIES)
    more = [*STUDIES, "new"]
    assert Shards(tmp_path, 1, 2).first(more) | Shards(tmp_path, 2, 2).first(more) == set(more)


def test_more_shares_than_studies_and_nothing_open(tmp_path) -> None:
    assert [Shards(tmp_path, index, 5).first(["a", "b"]) for index in range(1, 6)] == [
        {"a"},
        {"b"},
        set(),
        set(),
        set(),
    ]
    assert Shards(tmp_path, 1, 5).first([]) == set()


def test_another_number_of_shares_is_another_plan(tmp_path) -> None:
    Shards(tmp_path, 1, 2).first(STUDIES)
    assert len(Shards(tmp_path, 1, 5).first(STUDIES)) == 2
