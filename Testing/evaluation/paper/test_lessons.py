"""What the systems of a table learn from."""

from __future__ import annotations

import numpy as np
import pytest

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.data.original.items import Item
from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.evaluation.paper.lessons import Budget, Lessons, single_images, slices_around
from ProxyPromptSegmentLib.evaluation.paper.loading import Loaded, with_columns
from ProxyPromptSegmentLib.evaluation.paper.protocol import DataNeed, Few
from ProxyPromptSegmentLib.evaluation.systems.system import Kind


def case(number, first=8, last=25, slices=32, side=8, patient=""):
    masks = np.zeros((slices, 1, side, side), np.uint8)
    masks[first:last, 0, 2:6, 2:6] = 1
    name = f"case{number}"
    images = np.random.default_rng(number).normal(50, 5, (slices, side, side)).astype(np.float32)
    return Case(
        dataset="toy", patient=patient or name, images=images, masks=masks, objects=("o",), spacing_mm=None, name=name
    )


def item(one):
    return Item(one.name, one.patient, lambda: one)


def lessons(cases, seed=0):
    need = DataNeed(title="Toy", objects={"o": "o"})
    parts = {"train": [item(one) for one in cases], "validation": [], "test": []}
    return Lessons(Loaded(need=need, name="toy", original=True, parts=parts), Budget(10.0, seed, 1))


def test_the_slices_are_those_with_the_object_and_their_neighbours_on_both_sides():
    chosen = slices_around([case(0, 8, 25), case(1, 0, 13), case(2, 7, 25)], 58)
    assert sum(len(one.images) for one in chosen) == 58
    assert [int(one.masks.any((1, 2, 3)).sum()) for one in chosen] == [17, 13, 18]
    assert not chosen[0].masks[0].any() and not chosen[0].masks[-1].any()
    with pytest.raises(InputError, match="no slice of case9 shows o"):
        slices_around([case(9, 0, 0)], 58)


def test_three_patients_are_drawn_by_seed():
    few = Few(patients=3, slices=58)
    drawn = [lessons([case(n) for n in range(9)], seed).lesson(few, Kind.FEW, 0).few for seed in (0, 0, 5)]
    names = [[one.name for one in found] for found in drawn]
    assert names[0] == names[1] != names[2] and len(names[0]) == 3


def test_images_are_of_as_many_patients_as_there_are():
    cases = [case(n, patient=f"p{n % 3}") for n in range(9)] + [case(9, 0, 0, patient="p3")]
    found = single_images([item(one) for one in cases], 5, 0)
    patients = [one.patient for one in found]
    assert sorted(patients.count(name) for name in set(patients)) == [1, 2, 2] and "p3" not in patients
    assert all(len(one.images) == 1 and one.masks.any() for one in found)
    with pytest.raises(InputError, match="10 annotated images are needed, but only 9 of the training part"):
        single_images([item(one) for one in cases], 10, 0)


def test_support_frames_are_first_frames_of_sweeps_that_are_kept_apart():
    own = lessons([case(n, 2, 20) for n in range(6)])
    given = [own.lesson(Few(frames=1, images=4), Kind.FEW, draw) for draw in range(3)]
    supports = [one.few[0] for one in given]
    assert all(one.name.endswith(":2") and len(one.images) == 1 for one in supports[:2])
    assert supports[0].patient != supports[1].patient
    assert supports[2].patient == supports[0].patient and supports[2].name != supports[0].name  # a later frame
    assert len(given[0].full) == 4 and not {one.patient for one in supports} & {one.patient for one in given[0].full}


def test_where_sweeps_are_fewer_than_what_is_learned_from_each_of_them_gives_a_support_frame():
    own = lessons([case(n, 2, 20) for n in range(5)])
    drawn = {own.lesson(Few(frames=1, images=8), Kind.FEW, draw).few[0].patient for draw in range(5)}
    assert len(drawn) == 5


def test_a_column_may_be_the_union_of_objects():
    first, second = case(0), case(1, 0, 3)
    masks = np.concatenate([first.masks, second.masks], axis=1)
    both = Case(
        dataset="toy", patient="p", images=first.images, masks=masks, objects=("a", "b"), spacing_mm=None, name="x"
    )
    whole = with_columns(both, {"tumour": "a + b", "core": "a"})
    assert whole.objects == ("tumour", "core")
    assert np.array_equal(whole.masks[:, 0], masks.max(axis=1)) and np.array_equal(whole.masks[:, 1], masks[:, 0])
    with pytest.raises(InputError, match="toy x has no object 'c', but a, b"):
        with_columns(both, {"tumour": "a + c"})
