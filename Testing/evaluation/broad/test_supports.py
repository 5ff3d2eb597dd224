"""Supports are drawn from other patients, on slices that show every object, and nested for growing K."""

from __future__ import annotations

import numpy as np

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.evaluation.broad.supports import draw_pairs


def a_case(patient: str, shown: list[tuple[int, int]], dataset: str = "made") -> Case:
    """Slices of two objects, each shown or not."""
    masks = np.zeros((len(shown), 2, 8, 8), np.uint8)
    for index, both in enumerate(shown):
        for n, there in enumerate(both):
            masks[index, n, 2 + n, 2] = there
    images = np.random.default_rng(1).normal(size=(len(shown), 8, 8)).astype(np.float32)
    names = {"objects": ("one", "two"), "spacing_mm": None, "name": f"{patient} scan"}
    return Case(dataset=dataset, patient=patient, images=images, masks=masks, **names)


POOL = [a_case(f"p{n}", [(0, 1), (1, 1), (1, 0), (1, 1)]) for n in range(5)]


def sources(pairs) -> list[str]:
    return [pair.source for pair in pairs]


def test_no_support_is_of_the_targets_patient_and_each_shows_every_object():
    for target in POOL:
        pairs = draw_pairs(POOL, target, 4, 0)
        patients = {source.split(" scan")[0] for source in sources(pairs)}
        assert len(patients) == 4 and target.patient not in patients
        assert all(pair.masks.any(axis=(1, 2)).all() and pair.slice_index in (1, 3) for pair in pairs)


def test_a_patient_of_another_data_set_with_the_same_name_is_another_patient():
    target = a_case("p0", [(1, 1)], dataset="elsewhere")
    assert {source.split(" scan")[0] for source in sources(draw_pairs(POOL, target, 5, 0))} == {
        f"p{n}" for n in range(5)
    }


def test_fewer_supports_are_the_first_of_more_and_another_seed_draws_others():
    drawn = {k: sources(draw_pairs(POOL, POOL[0], k, 3)) for k in (1, 4, 8)}
    assert drawn[1] == drawn[8][:1] and drawn[4] == drawn[8][:4]
    assert len({tuple(sources(draw_pairs(POOL, POOL[0], 4, seed))) for seed in range(8)}) > 4


def test_patients_give_a_second_slice_only_after_all_others_and_none_twice():
    drawn = sources(draw_pairs(POOL, POOL[0], 8, 0))
    assert len(set(drawn)) == 8 and len({source.split(":")[0] for source in drawn[:4]}) == 4
    assert len(draw_pairs(POOL, POOL[0], 20, 0)) == 8, "no more slices show both"
    assert draw_pairs(POOL[:1], POOL[0], 1, 0) == []
