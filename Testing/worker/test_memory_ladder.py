"""The memory ladder: every step is reached, told and kept to, and the task finishes; other errors are not swallowed."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from plain_run import run
from ProxyPromptSegmentLib.errors import DeviceError, UsageError
from ProxyPromptSegmentLib.frames import FrameArray
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind
from ProxyPromptSegmentLib.support.pairs import SupportPair, SupportSet
from ProxyPromptSegmentLib.worker.events import Said, SliceReady
from ProxyPromptSegmentLib.worker.memory_ladder import Ladder, fewer_pairs, is_memory_error
from ProxyPromptSegmentLib.worker.tasks import FramesTask, SegmentTask
from worker_doubles import Machine, Talk, a_job, an_engine, embedded, half_precision, whole_slice, whole_slices

PLENTY = 10_000
TELLS = {
    "batch": "at a time",
    "kept": "is cleared",
    "pairs": "support slices; their masks may differ",
    "half": "half precision, which",
    "unusable": "gave unusable values",
    "cpu": "on the CPU",
}


@pytest.fixture(scope="module")
def model():
    return embedded()


def few():
    """The middle slices, with three support slices."""
    return a_job(slices=range(2, 8))


def steps(sentences):
    """The steps that were told, in short."""
    return [next(name for name, words in TELLS.items() if words in sentence) for sentence in sentences]


def do(machine, task):
    """Outcome and steps, which are told while it runs and listed at its end."""
    talk = Talk()
    found = talk.do(task, machine.engine())
    said = [event.text for event in talk.of(Said)]
    assert said == found.rungs
    return found, steps(said), talk


@pytest.fixture(scope="module")
def expected(model):
    """What all supports give where there is memory for everything."""
    return run(Segmenter(model, "cpu", 1), few()).masks


def assert_nearly(found, expected, most=0.02):
    assert found.result.done.sum() == 6 and not found.cancelled
    differing = (found.masks != expected).sum()
    assert differing <= most * expected.sum()


def test_enough_memory_takes_no_step(model, expected):
    found, taken, _ = do(Machine(model, {"small": PLENTY, "cpu": PLENTY}), whole_slices(few()))
    assert (taken, found.device) == ([], "small")
    assert_nearly(found, expected, 0)


def test_fewer_slices_at_a_time_come_first_and_change_nothing(model, expected):
    pairs = len(few().support)
    machine = Machine(model, {"small": pairs, "cpu": PLENTY}, batch=4)
    found, taken, _ = do(machine, whole_slices(few()))
    assert set(taken) == {"batch"} and found.device == "small"
    assert "1 slice at a time" in found.rungs[-1]
    assert_nearly(found, expected, 0)
    # the smaller number is kept for what comes after
    assert [slices for _, _, slices, _ in machine.asked][-5:] == [1] * 5


def test_then_what_is_kept_goes_and_then_support_slices(model, expected):
    pairs = len(few().support)
    machine = Machine(model, {"cpu": pairs // 2}, batch=1)
    found, taken, _ = do(machine, whole_slices(few()))
    assert taken == ["kept", "pairs"]
    assert found.pairs == pairs // 2 and f"{pairs // 2} of the {pairs}" in found.rungs[-1]
    assert found.result.done.sum() == 6 and found.masks.any()
    assert (found.masks != expected).any()
    assert any("may differ" in note.text for note in found.notes)


def test_then_half_precision_where_the_device_has_it(model, expected):
    machine = Machine(model, {"small": 0.5, "cpu": PLENTY}, batch=1, half=("small",))
    found, taken, _ = do(machine, whole_slices(few()))
    assert taken == ["pairs", "half"]
    assert found.half and found.device == "small" and found.pairs == 1
    assert found.result.done.sum() == 6 and found.masks.any()


def test_then_the_processor_with_all_supports_again(model, expected):
    machine = Machine(model, {"small": 0.4, "cpu": PLENTY}, half=("small",))
    found, taken, _ = do(machine, whole_slices(few()))
    assert taken[0] == "batch" and taken[-2:] == ["half", "cpu"] and "pairs" in taken
    assert (found.device, found.pairs, found.half) == ("cpu", len(few().support), False)
    assert_nearly(found, expected, 0)
    assert machine.opened == ["small", "cpu"]


def test_a_device_without_half_precision_skips_that_step(model):
    found, taken, _ = do(Machine(model, {"small": 0.4, "cpu": PLENTY}), whole_slices(few()))
    assert "half" not in taken and taken[-1] == "cpu"


def test_half_precision_that_gives_no_numbers_is_left_again(model, expected):
    machine = Machine(model, {"small": 0.5, "cpu": PLENTY}, half=("small",), nan_in_half=True)
    found, taken, talk = do(machine, whole_slices(few()))
    assert taken[-2:] == ["half", "unusable"]
    assert found.device == "cpu"
    assert_nearly(found, expected, 0)
    assert np.isfinite(found.confidence).all()


def test_a_model_that_does_not_fit_at_all_goes_to_the_processor_at_once(model, expected):
    found, taken, _ = do(Machine(model, {"small": 0, "cpu": PLENTY}), whole_slices(few()))
    assert taken == ["cpu"] and "model does not fit" in found.rungs[0]
    assert_nearly(found, expected, 0)


def test_an_encoder_that_runs_out_of_memory_walks_too(model, expected):
    machine = Machine(model, {"small": PLENTY, "cpu": PLENTY}, encodes={"small": 2}, batch=4)
    found, taken, _ = do(machine, whole_slices(few()))
    assert taken == ["batch"] and "2 slices at a time" in found.rungs[0]
    assert_nearly(found, expected, 0)
    machine = Machine(model, {"small": PLENTY, "cpu": PLENTY}, encodes={"small": 0}, batch=1)
    found, taken, _ = do(machine, whole_slices(few()))
    assert found.device == "cpu"
    assert_nearly(found, expected, 0)


def test_when_the_processor_cannot_either_it_is_an_error_that_says_so(model):
    machine = Machine(model, {"small": 0.4, "cpu": 0.4})
    with pytest.raises(DeviceError, match="one slice does not fit into the memory of cpu") as caught:
        Talk().do(whole_slices(few()), machine.engine())
    assert caught.value.remedy == Remedy(kind=RemedyKind.SAVE_MEMORY, device="cpu")
    assert machine.opened == ["small", "cpu"]


def test_an_error_that_is_not_of_memory_is_not_swallowed(model):
    machine = Machine(model, {"small": PLENTY, "cpu": PLENTY})
    engine = machine.engine()

    def broken(features, support, chosen=None):
        raise RuntimeError("CUDA error: device-side assert triggered")

    engine.open("sam-compact", "small").segmenter.model.generator.prompt = broken
    talk = Talk()
    with pytest.raises(RuntimeError, match="device-side assert"):
        talk.do(whole_slices(few()), engine)
    assert not talk.of(Said) and machine.opened == ["small"]


class Failing:
    """Runs out of memory for good after some prompts."""

    def __init__(self, prompt, after):
        self.prompt, self.left = prompt, after

    def __call__(self, features, support, chosen=None):
        self.left -= 1
        if self.left < 0:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return self.prompt(features, support, chosen)


def test_slices_that_are_done_are_kept_on_the_way_down(model, expected):
    machine = Machine(model, {"small": PLENTY, "cpu": PLENTY}, batch=1)
    engine = machine.engine()
    generator = engine.open("sam-compact", "small").segmenter.model.generator
    generator.prompt = Failing(generator.prompt, 5)
    talk = Talk()
    found = talk.do(whole_slices(few(), first=5), engine)
    assert found.device == "cpu"
    asked = [device for device, *_ in machine.asked]
    assert asked == ["small"] * 5 + ["cpu"] * 1
    assert [event.index for event in talk.of(SliceReady) if not event.final][:6] == [5, 4, 6, 3, 7, 2]
    assert_nearly(found, expected, 0)
    np.testing.assert_array_equal(talk.masks(expected.shape), found.masks)


@pytest.mark.slow
def test_a_slice_whose_closer_look_does_not_fit_is_segmented_again_as_a_whole(model):
    job = few()
    expected = Talk().do(SegmentTask(job), an_engine(Segmenter(model, "cpu", 1)))
    assert expected.helps.closer
    for after in (4, 5):  # the first look of a slice, and the second
        machine = Machine(model, {"small": PLENTY, "cpu": PLENTY}, batch=1)
        engine = machine.engine()
        generator = engine.open("sam-compact", "small").segmenter.model.generator
        generator.prompt = Failing(generator.prompt, after)
        found = Talk().do(SegmentTask(job), engine)
        assert found.device == "cpu" and found.result.done.tolist() == expected.result.done.tolist()
        np.testing.assert_array_equal(found.masks, expected.masks)


def test_following_begins_anew_and_finishes():
    pytest.importorskip("sam2")
    machine = Machine(embedded("sam2-compact"), {"small": PLENTY, "cpu": PLENTY}, batch=1)
    engine, job = machine.engine(), few()
    generator = engine.open("sam2-compact", "small").segmenter.model.generator
    generator.prompt = Failing(generator.prompt, 8)
    talk = Talk()
    found = talk.do(whole_slices(job, model="sam2-compact", follow=True), engine)
    alone = Talk().do(
        whole_slices(job, model="sam2-compact", follow=True), an_engine(Segmenter(embedded("sam2-compact"), "cpu", 1))
    )
    assert found.device == "cpu" and steps(found.rungs)[-1] == "cpu"
    np.testing.assert_array_equal(found.masks, alone.masks)
    np.testing.assert_array_equal(talk.masks(found.masks.shape), alone.masks)


@pytest.mark.parametrize("half", [pytest.param((), marks=pytest.mark.slow), ("small",)])
def test_frames_go_on_where_they_were(half):
    pytest.importorskip("sam2")
    machine = Machine(embedded("sam2-compact"), {"small": PLENTY, "cpu": PLENTY}, batch=1, half=half)
    engine, job, talk = machine.engine(), few(), Talk()
    generator = engine.open("sam2-compact", "small").segmenter.model.generator
    # With half precision there is enough memory on the device, without it there is not.
    generator.prompt = Failing(generator.prompt, 3) if not half else _only_in_half(generator.prompt, 3)
    frames = job.view.take(job.target.array)[2:8].copy()
    found = talk.do(FramesTask(FrameArray(frames, job.view.spacing_mm), job.support, window=job.window), engine)
    assert found.is_done.all() and found.stacked_masks().any()
    assert (found.device, found.half) == (("small", True) if half else ("cpu", False))
    assert [event.index for event in talk.of(SliceReady)] == list(range(6))
    assert any("From frame 3 on" in note.text for note in found.notes)


def _only_in_half(prompt, after):
    whole = Failing(prompt, after)
    return lambda *args: prompt(*args) if half_precision() else whole(*args)


def test_a_live_slice_walks_down_as_well(model):
    found, taken, _ = do(Machine(model, {"small": 0.4, "cpu": PLENTY}), whole_slice(few(), 5))
    assert found.device == "cpu" and taken[-1] == "cpu" and found.masks.any()


# --- its parts --------------------------------------------------------------------------------------------------------


def pairs_showing(*shown):
    """Support pairs of 4 x 4 pixels, on which these objects are marked."""
    pairs = []
    for objects in shown:
        masks = np.zeros((3, 4, 4), np.uint8)
        masks[list(objects)] = 1
        pairs.append(SupportPair(np.arange(16, dtype=np.float32).reshape(4, 4), masks, (1, 1), (0, 15)))
    return SupportSet(tuple(pairs), ("a", "b", "c"))


def test_fewer_pairs_still_show_every_object():
    support = pairs_showing((0,), (0,), (0, 1), (0,), (0,), (2,), (0,), (0,))
    left = fewer_pairs(support, range(8))
    assert len(left) == 4 and {2, 5} <= set(left) and list(left) == sorted(left)
    assert fewer_pairs(support, left) == (2, 5)
    assert fewer_pairs(support, (2, 5)) is None
    assert fewer_pairs(pairs_showing((0, 1, 2)), (0,)) is None
    assert len(fewer_pairs(pairs_showing(*[(0, 1, 2)] * 5), range(5))) == 2


class Ground:
    """Notes what the ladder asks for."""

    def __init__(self, segmenter, kept=()):
        self.segmenter, self.asked, self.kept = segmenter, [], list(kept)

    def open(self, device, half):
        self.asked.append(("open", device, half))
        return self.segmenter

    def has_half(self, device):
        return device == "gpu"

    def release(self, device):
        self.asked.append(("release", device))
        return self.kept.pop() if self.kept else 0

    def leave(self, device):
        self.asked.append(("leave", device))


def test_memory_is_released_between_the_steps_and_a_device_left_before_the_next(model):
    support = few().support
    ground, attempts = Ground(Segmenter(model, "cpu", 2), [5, 5]), []
    ladder = Ladder(ground, ("gpu", "cpu"), support)

    def work(segmenter):
        attempts.append((ladder.footing.device, segmenter.batch, len(ladder.support), ladder.footing.half))
        if ladder.footing.device == "gpu":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return "done"

    assert ladder.run(work) == "done"
    assert steps(ladder.rungs) == ["batch", "kept", "pairs", "half", "cpu"]
    assert [number for _, _, number, _ in attempts] == [3, 3, 3, 1, 1, 3]
    asked = [what[0] for what in ground.asked]
    assert asked == ["open", *["release"] * 4, "open", "release", "leave", "open"]
    assert ground.asked[-2:] == [("leave", "gpu"), ("open", "cpu", False)]


def test_the_slices_at_a_time_are_halved_until_they_fit(model):
    """Halved, because every attempt that fails costs the time of the slices that it had."""
    ladder, attempts = Ladder(Ground(Segmenter(model, "cpu", 13)), ("cpu",), few().support), []

    def work(segmenter):
        attempts.append(segmenter.batch)
        if segmenter.batch > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    ladder.run(work)
    assert attempts == [13, 6, 3, 1]
    assert [next(word for word in rung.split() if word.isdigit()) for rung in ladder.rungs] == ["6", "3", "1"]


def test_memory_errors_are_told_from_others():
    wrapped = DeviceError("one slice does not fit")
    wrapped.__cause__ = torch.cuda.OutOfMemoryError("CUDA out of memory")
    for error in (
        torch.cuda.OutOfMemoryError("x"),
        MemoryError(),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 10 bytes."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        wrapped,
    ):
        assert is_memory_error(error), error
    for error in (RuntimeError("shape mismatch"), DeviceError("there is no device"), ValueError("out of memory")):
        assert not is_memory_error(error), error


def test_an_unknown_device_is_refused_before_anything_is_loaded():
    from ProxyPromptSegmentLib.worker.engine import Engine

    with pytest.raises((DeviceError, UsageError), match="no device 'tpu'"):
        Talk().do(whole_slices(few(), device="tpu"), Engine())
