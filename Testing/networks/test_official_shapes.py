"""The packages still build what the official files hold, and each file is large enough for exactly these tensors."""

from __future__ import annotations

import hashlib

import pytest

torch = pytest.importorskip("torch")

from official_architectures import FOLDER, WRITTEN_OUT, names, state_of
from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.weights.registry import all_entries, find
from ProxyPromptSegmentLib.weights.shapes import check_shapes, lines_of, official_shapes, summary_of

# What a file of tensors needs for each of them beside the values: name, shape, place in the archive.
LEAST_BYTES, MOST_BYTES = 200, 450


@pytest.mark.parametrize("name", names())
def test_an_architecture_has_the_names_shapes_and_types_that_the_official_file_has(name) -> None:
    state = state_of(name)
    assert {tensor.device.type for tensor in state.values()} == {"meta"}, "nothing was allocated"
    assert summary_of(state) == official_shapes()[name]
    check_shapes(state, name)


@pytest.mark.parametrize("name", WRITTEN_OUT)
def test_the_written_list_says_what_differs(name) -> None:
    text = (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    assert lines_of(state_of(name)) == text.splitlines()
    assert hashlib.sha256(text.encode()).hexdigest() == official_shapes()[name]["sha256"]


@pytest.mark.parametrize("name", names())
def test_the_size_of_the_official_file_fits_its_tensors(name) -> None:
    shapes, entry = official_shapes()[name], find(name)
    beside = (entry.bytes - 4 * shapes["values"]) / shapes["tensors"]
    assert LEAST_BYTES < beside < MOST_BYTES


def test_every_backbone_of_the_registry_fits_an_architecture_of_the_list() -> None:
    assert {entry.fits for entry in all_entries() if entry.kind == "backbone"} == set(official_shapes())


@pytest.mark.parametrize("change", ["a name", "a shape", "a type", "one less", "one more"])
def test_a_change_upstream_is_noticed(change) -> None:
    state = dict(state_of("sam-vit-b"))
    name = "mask_decoder.iou_token.weight"
    tensor = state.pop(name)
    changed = {
        "a name": {"mask_decoder.token.weight": tensor},
        "a shape": {name: tensor.transpose(0, 1)},
        "a type": {name: tensor.half()},
        "one less": {},
        "one more": {name: tensor, "new": tensor},
    }[change]
    with pytest.raises(CheckpointError, match="not the tensors of 'sam-vit-b': .*give its official file"):
        check_shapes({**state, **changed}, "sam-vit-b")


def test_weights_of_other_sizes_and_versions_are_told_apart() -> None:
    state = state_of("sam2-hiera-tiny")
    with pytest.raises(CheckpointError, match="468 tensors instead of 471"):
        check_shapes(state, "sam2.1-hiera-tiny")
    with pytest.raises(CheckpointError, match="there are no official weights for 'sam-compact'"):
        check_shapes(state, "sam-compact")
