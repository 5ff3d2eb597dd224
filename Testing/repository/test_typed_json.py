"""Values of parsed JSON get the type of an annotation, or a sentence that names place, value and what it must be."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from ProxyPromptSegmentLib.typed_json import JsonError, read_object, read_value


@dataclass(frozen=True)
class Inner:
    number: float
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner | None = None
    pair: tuple[int, float] = (0, 0.0)
    kind: Literal["a", "b"] = "a"
    more: dict[str, bool] | None = None
    free: Any = None


def test_an_object_becomes_its_data_class_and_missing_keys_take_the_defaults():
    read = read_object(Outer, {"name": "x", "inner": {"number": 1, "words": ["y"]}, "pair": [2, 0.5], "kind": "b"})
    assert read == Outer("x", Inner(1, ("y",)), (2, 0.5), "b")
    assert read_object(Outer, {"name": "x", "inner": None, "more": {"k": True}, "free": [1]}).free == [1]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ([1], r"the whole is \[1\]; it must be an object"),
        ({}, "name is missing"),
        ({"name": 1}, "name is 1; it must be text"),
        ({"name": "x", "other": 1}, "unknown keys: other; known are free, inner"),
        ({"name": "x", "inner": {}}, "inner.number is missing"),
        ({"name": "x", "inner": {"number": True}}, "inner.number is true; it must be a number"),
        ({"name": "x", "inner": {"number": float("inf")}}, "inner.number is Infinity; it must be a number"),
        ({"name": "x", "inner": {"number": 1, "words": "y"}}, 'inner.words is "y"; it must be a list'),
        ({"name": "x", "inner": {"number": 1, "words": ["y", 2]}}, r"inner.words\[1\] is 2; it must be text"),
        ({"name": "x", "pair": [1]}, r"pair is \[1\]; it must be a list of 2 values"),
        ({"name": "x", "pair": [1.0, 2]}, r"pair\[0\] is 1.0; it must be a whole number"),
        ({"name": "x", "kind": "c"}, 'kind is "c"; it must be "a" or "b"'),
        ({"name": "x", "more": {"k": 0}}, "more.k is 0; it must be true or false"),
    ],
)
def test_what_does_not_fit_is_named(values, sentence):
    with pytest.raises(JsonError, match=sentence):
        read_object(Outer, values)


def test_fields_may_have_other_keys_beside_keys_of_others():
    read = read_object(Inner, {"n": 2, "x": 1}, keys={"number": "n"}, known={"n", "x"})
    assert read == Inner(2)
    assert read_value(tuple[Inner, ...], [{"number": 3}], "all") == (Inner(3),)


def test_literals_may_be_joined():
    assert read_value(Literal["a", "b"] | Literal[""], "", "axis") == ""
    with pytest.raises(JsonError, match='axis is "c"; it must be "a" or "b" or ""'):
        read_value(Literal["a", "b"] | Literal[""], "c", "axis")


def test_a_long_value_is_cut():
    with pytest.raises(JsonError) as error:
        read_value(int, "x" * 500, "place")
    assert len(str(error.value)) < 90


def test_it_needs_the_standard_library_alone():
    code = "import sys; import ProxyPromptSegmentLib.typed_json; print({'numpy', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
