"""The memory bank: what the network still reads is kept, everything else is released."""

from __future__ import annotations

import gc
import weakref

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("hypothesis")

from hypothesis import given
from hypothesis import strategies as st

from ProxyPromptSegmentLib.networks.values import FrameMemory
from ProxyPromptSegmentLib.tracking.memory_bank import MemoryBank, joined, track_of


def memory(frame, conditioning=False, tracks=1):
    spatial = torch.full((tracks, 2, 3, 3), float(frame)) + torch.arange(tracks).view(-1, 1, 1, 1) / 10
    return FrameMemory(frame=frame, spatial=spatial, pointer=spatial[:, 0, 0, :1].clone(), conditioning=conditioning)


def frames(memories):
    return [m.frame for m in memories]


def with_spatial(memories):
    return [m for m in memories if m.spatial.numel()]


def test_six_spatial_memories_and_sixteen_pointers_are_kept():
    bank = MemoryBank()
    for frame in range(40):
        bank.add(memory(frame))
    assert len(bank._predicted) == 16
    read = bank.read(40)
    assert frames(read) == list(range(25, 40))
    assert frames(with_spatial(read)) == list(range(34, 40))
    assert all(m.pointer.item() == m.frame for m in read)


def test_what_leaves_the_ring_is_released():
    bank, spatial, pointers = MemoryBank(2, 3), [], []
    for frame in range(6):
        one = memory(frame)
        spatial.append(weakref.ref(one.spatial))
        pointers.append(weakref.ref(one.pointer))
        bank.add(one)
    del one
    gc.collect()
    assert [ref() is not None for ref in spatial] == [False] * 4 + [True] * 2
    assert [ref() is not None for ref in pointers] == [False] * 3 + [True] * 3


def test_a_released_spatial_part_does_not_live_on_in_its_pointer():
    """A slice of a tensor would keep all of its storage."""
    bank = MemoryBank(1, 3)
    bank.add(memory(0))
    bank.add(memory(1))
    old = bank.read(2)[0]
    assert old.frame == 0
    assert old.spatial.numel() == 0
    assert old.spatial.untyped_storage().nbytes() == 0


@given(st.lists(st.tuples(st.integers(1, 5), st.booleans()), max_size=40))
def test_the_bank_reads_what_a_full_history_would(steps):
    """Time passes by 1 to 5 frames between memories; the network's own reach decides what it reads."""
    bank, history, frame = MemoryBank(), [], 0
    for gap, conditioning in steps:
        frame += gap
        bank.add(memory(frame, conditioning))
        history.append(memory(frame, conditioning))
    now = frame + 1
    assert frames(m for m in bank.read(now) if m.conditioning) == frames([m for m in history if m.conditioning][-4:])
    predicted = [m for m in history if not m.conditioning]
    assert frames(m for m in bank.read(now) if not m.conditioning) == frames(m for m in predicted if now - m.frame < 16)
    near = [m for m in bank.read(now) if not m.conditioning and now - m.frame <= 6]
    assert frames(near) == frames(m for m in predicted if now - m.frame <= 6)
    assert all(m.spatial.numel() for m in near)
    assert len(with_spatial(bank._predicted)) <= 6
    assert len(bank._predicted) <= 16
    assert len(bank._given) <= 4


def test_only_earlier_frames_are_read():
    bank = MemoryBank()
    for frame in (0, 1, 2):
        bank.add(memory(frame, conditioning=frame == 1))
    assert frames(bank.read(2)) == [1, 0]
    assert frames(bank.read(1)) == [0]
    assert bank.read(0) == []


def test_a_given_mask_is_read_from_any_distance():
    bank = MemoryBank()
    bank.add(memory(0, conditioning=True))
    for frame in range(1, 100):
        bank.add(memory(frame))
    assert frames(bank.read(100))[0] == 0


def test_a_frame_is_remembered_once_and_the_last_word_counts():
    bank = MemoryBank()
    bank.add(memory(3))
    bank.add(memory(3, conditioning=True))
    assert [(m.frame, m.conditioning) for m in bank.read(4)] == [(3, True)]
    bank.add(memory(3))
    assert [(m.frame, m.conditioning) for m in bank.read(4)] == [(3, False)]


def test_clearing_keeps_given_masks_if_asked():
    bank = MemoryBank()
    bank.add(memory(0, conditioning=True))
    bank.add(memory(1))
    bank.clear(keep_conditioning=True)
    assert frames(bank.read(2)) == [0]
    assert bank.has_given
    bank.clear()
    assert bank.read(2) == []
    assert not bank.has_given


def test_a_copy_goes_its_own_way():
    bank = MemoryBank()
    bank.add(memory(0))
    other = bank.copy()
    other.add(memory(1))
    bank.clear()
    assert bank.read(9) == []
    assert frames(other.read(9)) == [0, 1]


def test_tracks_with_the_same_frames_are_read_together_and_others_apart():
    banks = [MemoryBank() for _ in range(3)]
    for frame in (0, 1):
        together = memory(frame, tracks=3)
        for track, bank in enumerate(banks):
            bank.add(track_of(together, track))
    ((tracks, memories),) = joined(banks, 2)
    assert tracks == [0, 1, 2]
    assert all(torch.equal(m.spatial, memory(m.frame, tracks=3).spatial) for m in memories)
    banks[1].clear()
    banks[1].add(memory(1, conditioning=True))
    groups = joined(banks, 2)
    assert [tracks for tracks, _ in groups] == [[0, 2], [1]]
    assert torch.equal(groups[0][1][0].spatial, memory(0, tracks=3).spatial[[0, 2]])
    assert [(m.frame, m.conditioning) for m in groups[1][1]] == [(1, True)]
