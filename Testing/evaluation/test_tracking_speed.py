"""Speed and memory of tracking: every field is there, and the sam2 package runs on our weights."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sam2")

from ProxyPromptSegmentLib.evaluation import tracking_memory, tracking_speed
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.networks.model import build_model
from ProxyPromptSegmentLib.networks.values import FrameMemory
from ProxyPromptSegmentLib.tracking.memory_bank import MemoryBank
from ProxyPromptSegmentLib.tracking.tracker import Tracker


def test_the_speed_of_a_short_sweep_has_every_field(segmenter):
    result = tracking_speed.measure_tracking_speed(segmenter, 3, 1, 6, 2, 40)
    json.dumps(result, allow_nan=False)
    for clock in (result, result["processor_time"]):
        assert clock["ours_over_sam2"] > 0 and clock["ours_unchecked_over_sam2"] > 0
    assert all(rate > 0 for rate in result["frames_per_second"].values()) and len(result["frames_per_second"]) == 3
    memory = result["memory"]
    assert memory["looks_at"] == [2, 4, 6]
    assert memory["bank_bytes"]["last"] >= memory["bank_bytes"]["first"] > 0
    if memory["resident_mib"] is not None:
        assert len(memory["resident_mib"]["values"]) == 3
        assert memory["resident_mib"]["peak"] >= memory["resident_mib"]["last"]


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
    package = tracking_speed.PackagePropagation(ours, 16, 128)
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
    package = tracking_speed.PackagePropagation(segmenter, 2, 40)
    masks = package.run(np.stack([image, image]), mask)
    assert [one.shape for one in masks] == [(1, 40, 40)] * 2
    assert (masks[0] == mask).mean() > 0.97


def test_the_package_reads_the_weights_and_leaves_ours_alone(segmenter):
    before = type(segmenter.model.backbone.sam2)
    predictor = tracking_speed.PackagePropagation(segmenter, 2, 32).predictor
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


def test_a_ratio_is_the_median_of_the_rounds_and_above_one_where_we_are_faster():
    theirs, ours = np.array([[4.0, 2.0], [6.0, 2.0], [1.0, 2.0]]), np.array([[2.0, 4.0]] * 3)
    assert tracking_speed._ratios(theirs, ours) == [2.0, 0.5]
    assert tracking_speed._rate(10, theirs) == 2.5


def test_a_drawn_sweep_moves_slowly_and_its_frames_do_not_depend_on_each_other():
    masks = [tracking_memory.sweep_frame(n, 64)[1] for n in range(4)]
    for one, other in zip(masks, masks[1:], strict=False):
        assert 0.7 < 2 * (one & other).sum() / (one.sum() + other.sum()) < 1
    assert np.array_equal(tracking_memory.sweep_frame(3, 64)[0], tracking_memory.sweep_frame(3, 64)[0])
