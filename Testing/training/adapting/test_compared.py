"""The adaptation as a system of the tables: the few cases, the model that `adapt` gives, and nothing left behind."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from compared_cases import check_masks, drawn_case
from ProxyPromptSegmentLib.errors import CancelledError
from ProxyPromptSegmentLib.evaluation.systems.catalogue import names, systems_for
from ProxyPromptSegmentLib.evaluation.systems.frozen import Frozen
from ProxyPromptSegmentLib.evaluation.systems.system import Lesson
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.training.adapting import compared as module
from ProxyPromptSegmentLib.training.adapting.compared import OFFER, Adapted, annotated_cases


def test_the_catalogue_takes_it_up():
    assert names([OFFER])[-1] == OFFER.key == "proxy-prompt-adapted"
    assert isinstance(systems_for("sam-compact", [OFFER.key], more=[OFFER])[OFFER.key], Adapted)


def test_cases_keep_patients_masks_and_what_is_known_of_their_spacing():
    case = drawn_case(1, slices=3)
    (one,) = annotated_cases([case])
    assert one.patient == "p1" and not one.case.volume.has_spacing
    assert [segment.name for segment in one.case.segmentation.segments] == ["disc", "core"]
    assert (one.case.segmentation.segments[1].mask == case.masks[:, 1]).all()


def test_it_segments_with_weights_that_learned_and_the_first_ones_stay(clinic):
    few = tuple(drawn_case(number, shift=number, slices=2) for number in range(2))
    frozen, said = Frozen("small"), []
    first = {name: one.clone() for name, one in frozen.segmenter.model.state_dict().items()}
    files = sorted(path for path in clinic.rglob("*") if path.is_file())
    fitted = Adapted(frozen, steps=2).fit(Lesson(few=few, seconds=30, threads=1), said.append)
    assert said == [0.5, 1.0]
    own = fitted.segmenter.model.state_dict()
    assert any(not torch.equal(one, own[name]) for name, one in first.items())
    assert all(torch.equal(one, first[name]) for name, one in frozen.segmenter.model.state_dict().items())
    target = drawn_case(9, slices=1)
    check_masks(fitted.segment(target), target)
    assert sorted(path for path in clinic.rglob("*") if path.is_file()) == files


@pytest.mark.parametrize(("seconds", "steps"), [(5.0, 4), (0.1, 1)])
def test_it_makes_as_many_steps_as_the_time_allows_and_one_at_least(clinic, monkeypatch, seconds, steps):
    now, rates = iter(range(10**6)), []
    monkeypatch.setattr(module, "training_clock", lambda _: float(next(now)))
    advance = module.Stage.advance
    monkeypatch.setattr(module.Stage, "advance", lambda self: rates.append(self._rate()) or advance(self))
    Adapted(Frozen("small")).fit(Lesson(few=(drawn_case(1), drawn_case(2)), seconds=seconds, threads=1))
    assert len(rates) == steps and rates[0] < module.AdaptSettings().learning_rate / 10


def test_a_cancel_is_reported_before_anything_is_learned(clinic, monkeypatch):
    monkeypatch.setattr(module.Stage, "advance", lambda self: pytest.fail("a step was made"))
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(CancelledError, match="adaptation"):
        Adapted(Frozen("small"), steps=1).fit(Lesson(few=(drawn_case(1), drawn_case(2)), threads=1), cancel=cancel)
