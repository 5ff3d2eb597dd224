"""Helps in the engine: supports are registered once, positions are known, and what was used is in the result."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("SimpleITK")

from engine_doubles import EVERYTHING, tiny_model
from ProxyPromptSegmentLib.inference.job import plan
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.support.registration.prior import MaskPrior, Registered
from ProxyPromptSegmentLib.worker import priors
from ProxyPromptSegmentLib.worker.events import StageStarted
from ProxyPromptSegmentLib.worker.tasks import LiveTask, SegmentTask, WhyTask
from worker_doubles import Talk, a_job, a_support_case, an_engine, phantom


@pytest.fixture(scope="module")
def model():
    made = tiny_model(**EVERYTHING, depth=True)
    with torch.no_grad():
        made.generator.depth_scale.fill_(3.0)
    return made


@pytest.fixture
def engine(model):
    return an_engine(Segmenter(model, "cpu", batch=4))


@pytest.fixture
def registrations(monkeypatch):
    """Every registration that was asked for; its prior is a box."""
    asked = []

    def mask_prior(volumes, target, axis, progress=None, cancel=None, view=None, backwards=None, compared=False):
        asked.append([one.name for one in volumes])
        progress.start(len(volumes), "registering supports")
        masks = np.zeros((target.array.shape[0], 1, *target.array.shape[1:]), np.float32)
        masks[3:7, :, 10:30, 10:30] = 1.0
        found = tuple(
            Registered(name=one.name, similarity=0.4, deformed=True, seconds=0.1, problem="it is odd" * (number > 0))
            for number, one in enumerate(volumes)
        )
        cancelled = cancel is not None and cancel.cancelled
        return MaskPrior(masks=None if cancelled else masks, supports=found, cancelled=cancelled)

    monkeypatch.setattr(priors, "mask_prior", mask_prior)
    return asked


def volume_job(register=True, supports=(11,)):
    return plan([a_support_case(seed) for seed in supports], phantom(12)[0], register=register)


def test_positions_are_used_if_the_user_wants_it(engine):
    known = Talk().do(SegmentTask(a_job(), position=True), engine)
    plain = Talk().do(SegmentTask(a_job(), position=False), engine)
    assert (known.helps.position, plain.helps.position) == (True, False)
    assert np.abs(known.result.probability - plain.result.probability).max() > 1e-4
    assert known.embedded and not plain.embedded  # both from the same embeddings


def test_frames_in_time_have_no_position(engine):
    assert not Talk().do(SegmentTask(a_job(), in_time=True, position=True), engine).helps.position


def test_registered_supports_are_read_and_said(engine, registrations):
    plain = Talk().do(SegmentTask(volume_job(), position=False, register=False), engine)
    assert registrations == []
    talk = Talk()
    found = talk.do(SegmentTask(volume_job(supports=(11, 13)), position=False, register=True), engine)
    assert np.abs(plain.result.probability - found.result.probability).max() > 1e-4
    assert [stage.what for stage in talk.of(StageStarted)].count("registering supports") == 1
    assert found.helps.names == ("phantom-11",)
    said = [note.text for note in found.notes]
    assert "The support phantom-13 was not registered to the target: it is odd." in said
    assert not any("phantom-11" in text for text in said)
    assert found.seconds["registration"] >= 0


def test_another_threshold_needs_no_new_registration_and_another_target_does(engine, registrations):
    for threshold in (0.5, 0.4):
        Talk().do(SegmentTask(volume_job(), register=True, threshold=threshold), engine)
    assert len(registrations) == 1
    other = plan([a_support_case(11)], phantom(13)[0], register=True)
    Talk().do(SegmentTask(other, register=True), engine)
    assert len(registrations) == 2
    engine.forget()
    Talk().do(SegmentTask(other, register=True), engine)
    assert len(registrations) == 3


def test_a_job_without_volumes_registers_nothing(engine, registrations):
    assert Talk().do(SegmentTask(volume_job(register=False), register=True), engine).helps.registered == ()
    assert registrations == []


def test_a_cancelled_registration_ends_the_run_and_is_not_kept(engine, registrations):
    talk = Talk(lambda event: isinstance(event, StageStarted) and "register" in event.what and talk.cancel.cancel())
    found = talk.do(SegmentTask(volume_job(), register=True), engine)
    assert found.cancelled
    assert not found.result.done.any()
    assert Talk().do(SegmentTask(volume_job(), register=True), engine).helps.names == ("phantom-11",)


def test_registered_masks_help_a_model_that_knows_nothing_of_positions(registrations):
    engine = an_engine(Segmenter(tiny_model(**EVERYTHING), "cpu", batch=4))
    plain, found = (
        Talk().do(SegmentTask(volume_job(), register=asked, position=True), engine) for asked in (False, True)
    )
    assert not found.helps.position
    assert found.helps.names == ("phantom-11",)
    inside, outside = (slice(3, 7), 0, slice(10, 30), slice(10, 30)), (slice(3, 7), 0, slice(32, 40), slice(32, 40))
    change = found.result.probability - plain.result.probability
    assert (change[inside] > 0).all() and (change[outside] < 0).all()


def test_a_live_slice_and_the_why_view_know_the_position(engine, model, monkeypatch):
    seen = []
    prompt, why = model.generator.prompt, model.generator.why

    def noting(method):
        def noted(features, support, *more):
            seen.append(None if features.depth is None else features.depth.tolist())
            return method(features, support, *more)

        return noted

    monkeypatch.setattr(model.generator, "prompt", noting(prompt))
    monkeypatch.setattr(model.generator, "why", noting(why))
    job = a_job()
    Talk().do(LiveTask(job, 4, position=True), engine)
    assert seen == [[pytest.approx(float(job.depths[4]))]]
    seen.clear()
    Talk().do(WhyTask(job, 4, 20.0, 20.0, position=True), engine)
    assert seen and all(one == [pytest.approx(float(job.depths[4]))] for one in seen)
    seen.clear()
    Talk().do(LiveTask(job, 4, position=False), engine)
    assert seen == [None]


def test_a_preview_of_one_slice_joins_the_registered_supports_if_it_corrects_their_result(engine, registrations):
    job = volume_job()
    whole = Talk().do(SegmentTask(job, across_slices=False), engine)
    plain, joined = (Talk().do(LiveTask(job, 5, register=register), engine) for register in (False, True))
    np.testing.assert_array_equal(joined.masks, whole.masks[5])
    assert len(registrations) == 1 and (plain.masks != joined.masks).any()
