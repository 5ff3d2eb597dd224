"""The sam2 package runs on our weights, and the rows of tracking have every field."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sam2")

from ProxyPromptSegmentLib.evaluation import tracking_memory
from ProxyPromptSegmentLib.evaluation.speed_table import propagation, tracker_rows
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.networks.model import build_model
from ProxyPromptSegmentLib.networks.values import FrameMemory
from ProxyPromptSegmentLib.tracking.memory_bank import MemoryBank
from ProxyPromptSegmentLib.tracking.tracker import Tracker


def test_a_short_sweep_gives_a_row_with_and_without_the_check_and_one_of_memory(segmenter):
    rows = tracker_rows.tracker_rows(segmenter, 2, 3, 40)
    assert [len(row.ratios) for row in rows] == [2, 2] and all(row.ratio > 0 for row in rows)
    assert rows[0].goal.most == 1.1
    (memory,) = tracker_rows.memory_rows(segmenter, 6, 2, 40)
    json.dumps([row.to_dict() for row in (*rows, memory)], allow_nan=False)
    course = memory.more["memory"]
    assert course["looks_at"] == [2, 4, 6]
    assert course["bank_bytes"]["last"] >= course["bank_bytes"]["first"] > 0
    assert len(course["resident_mib"]["values"]) == 3
    assert course["resident_mib"]["peak"] >= course["resident_mib"]["last"]


def test_the_package_propagates_with_our_weights_what_our_memory_alone_predicts():
    """The two that are timed do the same work: the same frames, options and weights give the same probabilities.

    Ours is made to round its memories as the package stores them. The first mask is the whole frame, because the
    package takes a given mask through the decoder's coarse grid before it remembers it; the sweep is no shorter than
    the pointers reach, because the package measures their age by the sweep's length.
    """
    torch.manual_seed(3)
    model = build_model("sam2-compact")
    with torch.no_grad():  # at random weights the memory would say next to nothing
        for layer in model.backbone.sam2.memory_attention.layers:
            layer.cross_attn_image.v_proj.weight *= 10
        model.backbone.sam2.sam_mask_decoder.output_hypernetworks_mlps[0].layers[-1].weight *= 10

    def rounding(remember):
        def rounded(*words):
            memory = remember(*words)
            return replace(memory, spatial=memory.spatial.bfloat16().float())

        return rounded

    ours = Segmenter(model, "cpu")
    frames = [tracking_memory.sweep_frame(n, 128) for n in range(16)]
    images = np.stack([image for image, _ in frames])
    package = propagation.PackagePropagation(ours, 16, 128)
    model.backbone.remember = rounding(model.backbone.remember)
    model.backbone.remember_mask = rounding(model.backbone.remember_mask)
    whole = np.ones_like(frames[0][1])
    tracker = Tracker(ours, "bank_only")
    tracker.start(None, tracking_memory.WINDOW)
    tracker.anchor(images[0], whole)
    expected = np.stack([tracker.step(image).probability for image in images[1:]])
    for first, same in ((whole, True), (frames[0][1], False), (whole, True)):
        logits = package.propagate(images, first)  # every run starts afresh
        found = torch.sigmoid(torch.stack(logits[1:])).numpy()
        assert found.shape == expected.shape and (np.abs(found - expected).max() < 1e-5) == same


def test_the_package_answers_with_masks_of_the_frames_size(segmenter):
    image, mask = tracking_memory.sweep_frame(0, 40)
    package = propagation.PackagePropagation(segmenter, 2, 40)
    masks = package.run(np.stack([image, image]), mask)
    assert [one.shape for one in masks] == [(1, 40, 40)] * 2
    assert (masks[0] == mask).mean() > 0.97


def test_the_package_reads_the_weights_and_leaves_ours_alone(segmenter):
    before = type(segmenter.model.backbone.sam2)
    predictor = propagation.PackagePropagation(segmenter, 2, 32).predictor
    assert type(segmenter.model.backbone.sam2) is before and type(predictor) is not before
    own = segmenter.model.backbone.sam2.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in predictor.state_dict().items())


def test_a_banks_bytes_are_those_of_whole_storages_each_counted_once():
    class Holder:
        pass

    bank = MemoryBank()
    whole = torch.zeros(10, 4)  # 160 bytes
    bank.add(FrameMemory(frame=0, spatial=whole[:1], pointer=torch.zeros(2)))  # a view holds all of it
    bank.add(FrameMemory(frame=1, spatial=whole[1:], pointer=torch.zeros(2)))
    holder = Holder()
    holder.banks, holder.again, holder.other = (bank,), {"same": bank}, torch.zeros(1000)
    assert tracking_memory.bank_bytes(holder) == 160 + 2 * 8


def test_the_slope_of_memory_is_per_hundred_frames():
    course = tracking_memory._course([50, 100, 150], [10.0, 12.0, 14.0])
    assert (course["first"], course["last"], course["peak"]) == (10, 14, 14)
    assert course["slope_per_100_frames"] == pytest.approx(4)
    assert tracking_memory._course([50, 100], [None, None]) is None
    assert tracking_memory._course([50], [3.0])["slope_per_100_frames"] is None


def test_a_drawn_sweep_moves_slowly_and_its_frames_do_not_depend_on_each_other():
    masks = [tracking_memory.sweep_frame(n, 64)[1] for n in range(4)]
    for one, other in zip(masks, masks[1:], strict=False):
        assert 0.7 < 2 * (one & other).sum() / (one.sum() + other.sum()) < 1
    assert np.array_equal(tracking_memory.sweep_frame(3, 64)[0], tracking_memory.sweep_frame(3, 64)[0])
