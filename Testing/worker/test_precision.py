"""Precision: half by default only where a device is fast in it and masks were measured; refused, reported, left."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from engine_doubles import tiny_model
from ProxyPromptSegmentLib.errors import DeviceError, UsageError
from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom
from ProxyPromptSegmentLib.inference.by_hand.found import EverythingChoice
from ProxyPromptSegmentLib.inference.job_by_hand import plan_everything
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.worker import machine
from ProxyPromptSegmentLib.worker.engine import Engine
from ProxyPromptSegmentLib.worker.tasks import EverythingTask
from worker_doubles import Machine, Talk, a_job, loaded, whole_slices

PLENTY = 10_000
A_SLICE = plan_everything(pelvis_phantom(4, (8, 48, 48))[0], slices=[4])
FEW_POINTS = EverythingChoice(points=2, quality=0.1, stability=0.1)


@pytest.fixture(scope="module")
def model():
    return tiny_model(prompt="both")


@pytest.fixture(scope="module")
def job():
    return a_job(slices=range(4, 6))


def a_card(model, memory=PLENTY, fast=True, **options):
    """A machine whose first device has half precision, and may be fast in it, like a graphics card."""
    return Machine(model, {"small": memory, "cpu": PLENTY}, half=("small",), fast=("small",) if fast else (), **options)


def in_half(machine_):
    """Whether each prompt was computed in half precision."""
    return {half for _, half, *_ in machine_.asked}


@pytest.mark.parametrize(
    ("precision", "fast", "expected"),
    [("auto", True, "bfloat16"), ("auto", False, "float32"), ("single", True, "float32"), ("half", False, "bfloat16")],
)
def test_a_card_computes_in_half_precision_if_it_is_fast_in_it_or_asked_to(model, job, precision, fast, expected):
    card = a_card(model, fast=fast)
    found = Talk().do(whole_slices(job, precision=precision), card.engine())
    assert (found.precision, found.device, found.rungs) == (expected, "small", [])
    assert found.half == (expected == "bfloat16") and in_half(card) == {found.half}


def test_a_model_that_was_not_measured_keeps_single_precision_unless_asked(model, job):
    engine = a_card(model).engine()
    engine.open("sam-compact", "small").segmenter.model.backbone.name = "sam-vit-b"
    assert Talk().do(whole_slices(job), engine).precision == "float32"
    assert Talk().do(whole_slices(job, precision="half"), engine).precision == "bfloat16"


def test_unusable_values_of_a_default_lead_to_single_precision_on_the_same_device(model, job):
    found = Talk().do(whole_slices(job), a_card(model, nan_in_half=True).engine())
    assert (found.precision, found.device, found.result.done.sum()) == ("float32", "small", 2)
    assert found.rungs == [
        "On small half precision gave unusable values; the remaining slices are computed in single precision."
    ]


def test_single_precision_rules_half_precision_out_when_memory_runs_out(model, job):
    for precision, expected in (("single", ("cpu", "float32")), ("auto", ("small", "bfloat16"))):
        card = a_card(model, memory=0.5, fast=False)
        found = Talk().do(whole_slices(job, precision=precision), card.engine())
        assert (found.device, found.precision) == expected


@pytest.mark.parametrize(("precision", "expected"), [("auto", False), ("single", False), ("half", True)])
def test_everything_is_found_in_the_precision_that_was_chosen(model, precision, expected):
    card, task = a_card(model), EverythingTask(A_SLICE, choice=FEW_POINTS, precision=precision)
    found = Talk().do(task, card.engine())
    assert found.precision == ("bfloat16" if expected else "float32") and set(card.encoded) == {expected}


def test_everything_with_unusable_values_is_found_in_single_precision(model):
    card, task = a_card(model, nan_in_half=True), EverythingTask(A_SLICE, choice=FEW_POINTS, precision="half")
    found = Talk().do(task, card.engine())
    assert (found.precision, found.device, found.done.sum()) == ("float32", "small", 1)
    assert any("half precision gave unusable values" in note.text for note in found.notes)


def test_half_precision_is_refused_where_there_is_none(model, job):
    engine = Engine(load=lambda name, device: loaded(Segmenter(model, "cpu", 1)), devices=lambda device: ("cpu",))
    with pytest.raises(DeviceError, match="cpu has no half precision here.*'auto' or 'single'"):
        Talk().do(whole_slices(job, precision="half"), engine)


def test_what_is_no_precision_is_refused(model, job):
    with pytest.raises(UsageError, match="no precision 'double'; choose auto, single, half"):
        Talk().do(whole_slices(job, precision="double"), a_card(model).engine())


def test_a_processor_is_not_computed_on_in_half_precision_by_default(model, job):
    engine = Engine(load=lambda name, device: loaded(Segmenter(model, "cpu", 1)), devices=lambda device: ("cpu",))
    assert Talk().do(whole_slices(job), engine).precision == "float32"


@pytest.mark.parametrize(("bfloat16", "kind"), [(True, torch.bfloat16), (False, torch.float16)])
def test_cards_without_bfloat16_are_not_fast_in_half_precision(monkeypatch, bfloat16, kind):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bfloat16)
    assert machine.fast_in_half("cuda:0") is bfloat16 and machine.half_type_of("cuda:0") is kind
    assert not machine.fast_in_half("cpu") and not machine.fast_in_half("mps")
