"""The adaptation as a system of the tables: the few cases, the model that `adapt` gives, and nothing left behind."""

from __future__ import annotations

import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

from compared_cases import check_masks, drawn_case
from ProxyPromptSegmentLib.errors import CancelledError
from ProxyPromptSegmentLib.evaluation.systems.catalogue import names, systems_for
from ProxyPromptSegmentLib.evaluation.systems.frozen import Frozen
from ProxyPromptSegmentLib.evaluation.systems.system import Lesson
from ProxyPromptSegmentLib.networks.checkpoints import load_model, save_checkpoint
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.training.adapting import compared as module
from ProxyPromptSegmentLib.training.adapting.compared import OFFER, Adapted, annotated_cases, remove_leftovers
from ProxyPromptSegmentLib.weights.own import register
from ProxyPromptSegmentLib.weights.registry import all_entries


def test_the_catalogue_takes_it_up():
    assert names([OFFER])[-1] == OFFER.key == "proxy-prompt-adapted"
    assert isinstance(systems_for("sam-compact", [OFFER.key], more=[OFFER])[OFFER.key], Adapted)


def test_cases_keep_patients_masks_and_what_is_known_of_their_spacing():
    case = drawn_case(1, slices=3)
    (one,) = annotated_cases([case])
    assert one.patient == "p1" and not one.case.volume.has_spacing
    assert [segment.name for segment in one.case.segmentation.segments] == ["disc", "core"]
    assert (one.case.segmentation.segments[1].mask == case.masks[:, 1]).all()


@pytest.mark.slow
def test_it_segments_with_the_adapted_weights_and_leaves_no_model(clinic, monkeypatch):
    few = tuple(drawn_case(number, shift=number, slices=3) for number in range(1))
    loaded, before = [], sorted(path for path in clinic.rglob("*") if path.is_file())
    real = module.load
    monkeypatch.setattr(module, "load", lambda *args: loaded.append(real(*args)) or loaded[-1])
    frozen, said = Frozen("small"), []
    fitted = Adapted(frozen, steps=1).fit(Lesson(few=few, seconds=30, threads=1), said.append)
    assert loaded and said and all(0 <= one <= 1 for one in said)
    first, own = frozen.segmenter.model.state_dict(), fitted.segmenter.model.state_dict()
    assert any(not torch.equal(one, own[name]) for name, one in first.items())
    target = drawn_case(9, slices=1)
    check_masks(fitted.segment(target), target)
    left = [path for path in clinic.rglob("*") if path.is_file() and path not in before]
    assert not [path for path in left if "compared" in path.name]
    assert "compared" not in (clinic / "own.json").read_text(encoding="utf-8")


def test_what_a_killed_process_left_is_removed_and_what_a_running_one_has_stays(clinic, monkeypatch, tmp_path):
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as running:
        ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
        killed = f"{module._of_machine()}{int(ended.stdout)}"
        alive, elsewhere = f"{module._of_machine()}{running.pid}", f"compared-0123abcd-{int(ended.stdout)}"
        names = [killed, alive, elsewhere]
        file = clinic / "left.safetensors"
        words = {"entry": {"licence": "l"}, "card": "# c"}
        small = load_model("small")[0]
        save_checkpoint(file, small.state_dict(), {"name": "left", "model": small.describe(), **words})
        for name in names:
            register(file, name)
            (tmp_path / f"{name}-state").mkdir()
        (clinic / "cache" / f"{killed}-half").mkdir()
        remove_leftovers()
        left = {one.name for one in all_entries() if one.name.startswith("compared-")}
        assert left == {alive, elsewhere}
        assert {path.name for path in (clinic / "cache").glob("compared-*")} == left
        assert {path.name for path in tmp_path.glob("compared-*")} == {f"{name}-state" for name in left}
        running.communicate(b"\n")


def test_a_cancel_is_reported_and_leaves_nothing(clinic):
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(CancelledError, match="adaptation"):
        Adapted(Frozen("small"), steps=1).fit(Lesson(few=(drawn_case(1), drawn_case(2)), threads=1), cancel=cancel)
    assert "compared" not in (clinic / "own.json").read_text(encoding="utf-8")
