"""An adaptation from cases to a registered model: better or nothing, resumed bit for bit, never silently replaced."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from adapt_cases import QUICK, checked, register_small_model, use_folder, write_cases
from ProxyPromptSegmentLib.commands.remedies import worded
from ProxyPromptSegmentLib.errors import CheckpointError, DeviceError, UsageError
from ProxyPromptSegmentLib.imaging.geometry import slice_view
from ProxyPromptSegmentLib.inference.loading import load
from ProxyPromptSegmentLib.networks.checkpoints import load_model, read_checkpoint
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.training.adapting import objective
from ProxyPromptSegmentLib.training.adapting import run as running
from ProxyPromptSegmentLib.training.adapting import stage as staging
from ProxyPromptSegmentLib.training.adapting.run import adapt
from ProxyPromptSegmentLib.training.adapting.settings import ENCODER
from ProxyPromptSegmentLib.training.adapting.state import AdaptState, remove_state
from ProxyPromptSegmentLib.weights import registry
from ProxyPromptSegmentLib.weights.cache import ModelCache
from ProxyPromptSegmentLib.weights.own import forget


def files_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The cases, and the hash and events of an adaptation to them that nothing stops."""
    home = tmp_path_factory.mktemp("uninterrupted")
    with pytest.MonkeyPatch.context() as patch:
        use_folder(patch, home)
        register_small_model(home)
        cases = write_cases(home / "cases", 2, ("gland", "stone"))
        events = []
        result = adapt(checked(cases), "mine", QUICK, "cpu", keep_anyway=True, report=events.append)
        loaded, metadata = load_model("mine")
        text = files_of(home / "cache"), (home / "own.json").read_text(encoding="utf-8")
        card = result.path.with_suffix(".md").read_text(encoding="utf-8")
        base, _ = load_model("small")
    return {"cases": cases, "result": result, "events": events, "model": loaded, "metadata": metadata, "base": base,
            "files": text[0], "registry": text[1], "card": card}  # fmt: skip


def test_what_is_kept_differs_only_in_what_was_trained(uninterrupted):
    before, after = uninterrupted["base"].state_dict(), uninterrupted["model"].state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.startswith(("generator.", "backbone.sam.mask_decoder.")) for name in changed)
    assert not any("kinship" in name or "depth_scale" in name for name in changed)
    assert any("contextual_encoder" in name for name in changed)
    assert uninterrupted["metadata"]["base"]["name"] == "small"


def test_the_file_holds_only_what_differs(uninterrupted):
    stored = uninterrupted["result"].path.stat().st_size
    whole = 2 * sum(tensor.numel() for tensor in uninterrupted["base"].state_dict().values())
    assert stored < 0.6 * whole
    assert uninterrupted["metadata"]["adapted"]["patients"] == 2


def test_every_case_is_tested_by_a_fold_without_it_and_beside_the_mean_mask(uninterrupted):
    result = uninterrupted["result"]
    assert [len(score.after) for score in result.scores] == [1, 1]
    assert all(len(score.before) == len(score.mean_mask) == len(score.after[0]) == 2 for score in result.scores)
    assert all(min(score.mean_mask) > 0 for score in result.scores)
    shown = [event for event in uninterrupted["events"] if event.stage == "training on all cases"]
    assert all(len(score.after) == 1 for score in shown[0].scores)  # before anything is kept
    assert shown[-1].done == QUICK.steps and shown[-1].seconds_left == 0


def test_nothing_that_is_kept_names_a_case(uninterrupted):
    kept = uninterrupted["registry"] + uninterrupted["card"] + json.dumps(uninterrupted["metadata"])
    assert "patient0" not in kept and str(uninterrupted["cases"]) not in kept
    assert "2 patients" in uninterrupted["card"] and "'gland' and 'stone'" in uninterrupted["card"]


def test_no_state_and_nothing_half_written_stays(uninterrupted):
    assert uninterrupted["files"] == [
        "locks/mine.lock", "locks/registry.lock", "locks/small.lock", "mine/mine.md", "mine/mine.safetensors",
        "small/small.safetensors",
    ]  # fmt: skip


class _KilledError(BaseException):
    """The end of a process: nothing is caught, nothing is cleaned up."""


@pytest.mark.parametrize(
    ("stage", "done"),
    [
        pytest.param("testing before", 1, marks=pytest.mark.slow),
        ("training fold 1 of 2", 2),
        pytest.param("training on all cases", 2, marks=pytest.mark.slow),
    ],
)
def test_after_a_kill_the_same_call_gives_the_same_weights(clinic, uninterrupted, monkeypatch, stage, done):
    monkeypatch.setattr(running, "SAVE_SECONDS", -1.0)

    def kill(event):
        if (event.stage, event.done) == (stage, done):
            raise _KilledError

    cases = checked(uninterrupted["cases"])
    with pytest.raises(_KilledError):
        adapt(cases, "mine", QUICK, "cpu", keep_anyway=True, report=kill)
    assert not (clinic / "cache" / "mine").exists()
    steps = []
    monkeypatch.setattr(staging.Stage, "advance", _counting(steps, staging.Stage.advance))
    again = adapt(cases, "mine", QUICK, "cpu", keep_anyway=True)
    assert again.sha256 == uninterrupted["result"].sha256
    assert len(steps) < 3 * QUICK.steps or stage == "testing before"


def _counting(steps, advance):
    def counted(stage):
        steps.append(stage.number)
        return advance(stage)

    return counted


def test_a_training_on_other_cases_is_never_continued_even_if_its_state_is_lost(clinic, uninterrupted):
    cancel, cases = CancelToken(), checked(uninterrupted["cases"])
    others = checked(write_cases(clinic / "others", 3, ("gland", "stone")))
    stop = _stopping_at(cancel, "training fold 1 of 3", 2)
    assert adapt(others, "mine", QUICK, "cpu", keep_anyway=True, cancel=cancel, report=stop).cancelled
    place = clinic / "cache" / "adapting" / "mine"
    (place / "state.json").unlink()  # as a kill while both are removed leaves it
    assert (place / "training.safetensors").is_file()
    found = adapt(cases, "mine", QUICK, "cpu", keep_anyway=True)
    assert found.sha256 == uninterrupted["result"].sha256


def test_a_kill_while_the_state_is_removed_leaves_what_says_whose_the_tensors_are(clinic, monkeypatch):
    place = clinic / "state"
    place.mkdir()
    for name in ("state.json", "training.safetensors"):
        (place / name).write_text("{}", encoding="utf-8")
    removed = []
    monkeypatch.setattr(Path, "unlink", lambda path, missing_ok=False: removed.append(path.name))
    remove_state(place)
    assert removed == ["training.safetensors", "state.json"]


def test_what_a_kill_left_half_written_is_removed_in_the_end(clinic, uninterrupted):
    place = clinic / "cache" / "adapting" / "mine"
    (place / ".keeping-x").mkdir(parents=True)
    for name in (".keeping-x/mine.safetensors", ".training.partial-01234567.safetensors", ".state.partial-0.json"):
        (place / name).write_bytes(b"half")
    adapt(checked(uninterrupted["cases"]), "mine", QUICK, "cpu", keep_anyway=True)
    assert not place.exists()


def _stopping_at(cancel, stage, done):
    return lambda event: cancel.cancel() if (event.stage, event.done) == (stage, done) else None


def test_cancelling_in_a_fold_keeps_the_state_and_another_call_continues(clinic, uninterrupted):
    cancel, cases = CancelToken(), checked(uninterrupted["cases"])

    def stop(event):
        if (event.stage, event.done) == ("training fold 2 of 2", 1):
            cancel.cancel()

    stopped = adapt(cases, "mine", QUICK, "cpu", keep_anyway=True, cancel=cancel, report=stop)
    assert stopped.cancelled and not stopped.kept and stopped.path is None
    assert [len(score.after) for score in stopped.scores] == [1, 0]
    assert files_of(clinic / "cache" / "adapting") == ["mine/.lock", "mine/state.json", "mine/training.safetensors"]
    state = (clinic / "cache" / "adapting" / "mine" / "state.json").read_text(encoding="utf-8")
    assert "patient0" not in state
    other = replace(QUICK, learning_rate=1e-3)
    with pytest.raises(UsageError, match=r"begun with other settings \(\w+ was .*, now .*\)"):
        adapt(cases, "mine", other, "cpu")
    assert adapt(cases, "mine", QUICK, "cpu", keep_anyway=True).sha256 == uninterrupted["result"].sha256
    assert not (clinic / "cache" / "adapting" / "mine").exists()


def test_a_result_that_is_not_better_is_not_kept_and_can_be_kept_without_testing_again(clinic, uninterrupted):
    cases = checked(uninterrupted["cases"])
    refused = adapt(cases, "mine", QUICK, "cpu")
    assert not refused.kept and refused.verdict is not None and not refused.verdict.better
    assert "mine" not in [entry.name for entry in registry.all_entries()]
    assert files_of(clinic / "cache" / "adapting") == ["mine/.lock", "mine/state.json"]  # no tensors
    events = []
    kept = adapt(cases, "mine", QUICK, "cpu", keep_anyway=True, report=events.append)
    assert kept.kept and kept.sha256 == uninterrupted["result"].sha256
    assert not any(event.stage.startswith("training fold") for event in events)


@pytest.mark.parametrize("missing", ["rows", pytest.param("mean_mask", marks=pytest.mark.slow)])
def test_a_state_that_lacks_what_an_earlier_version_did_not_write_is_completed_with_the_same_result(
    clinic, uninterrupted, missing
):
    cases = checked(uninterrupted["cases"])
    adapt(cases, "mine", QUICK, "cpu")  # not better, so that the tests of all folds are stored
    place = clinic / "cache" / "adapting" / "mine" / "state.json"
    stored = json.loads(place.read_text(encoding="utf-8"))
    del stored[missing]
    place.write_text(json.dumps(stored), encoding="utf-8")
    kept = adapt(cases, "mine", QUICK, "cpu", keep_anyway=True)
    assert kept.kept and kept.sha256 == uninterrupted["result"].sha256


def test_a_state_of_another_version_is_refused_with_the_version_even_if_its_cases_are_hashed_otherwise(tmp_path):
    now = {"version": "9.1", "cases": "b", "settings": {"seed": 1}}
    for stored, expected in (
        ({**now, "version": "0.0.1", "cases": "a"}, "was begun by version 0.0.1 of the program, and version 9.1 does"),
        ({"cases": "a"}, "was begun by version unknown"),
        ({**now, "cases": "a", "settings": {"seed": 2}}, r"begun with other cases and settings \(seed was 2, now 1\)"),
    ):
        remove_state(tmp_path)
        AdaptState(tmp_path, stored).save()
        with pytest.raises(UsageError, match=expected) as error:
            AdaptState(tmp_path, now)
        assert "--restart" in worded(error.value)


def test_a_time_that_is_too_short_is_said_before_the_trainings(clinic, uninterrupted):
    cancel, said = CancelToken(), []

    def say(text):
        said.append(text)
        cancel.cancel()

    short = replace(QUICK, steps=None, minutes=0.001)
    stopped = adapt(checked(uninterrupted["cases"]), "mine", short, "cpu", cancel=cancel, say=say)
    assert stopped.cancelled and len(said) == 1 and said[0].startswith("0.001 min are not enough: with 10 steps")


def test_an_encoder_that_learns_too_slowly_is_said_before_the_first_test_and_the_time_of_reading_counts(
    clinic, uninterrupted
):
    cancel, said, stages = CancelToken(), [], []

    def say(text):
        said.append(text)
        cancel.cancel()

    short = replace(QUICK, steps=None, variants=None, minutes=0.001, trained=ENCODER)
    cases, began = checked(uninterrupted["cases"]), time.monotonic() - 60
    stopped = adapt(
        cases, "mine", short, "cpu", cancel=cancel, say=say, report=lambda how: stages.append(how.stage), began=began
    )
    assert stopped.cancelled and len(said) == 1 and "0.001 min are not enough as fast as" in said[0]
    assert "testing before" not in stages[:-1] and stopped.seconds > 60


def test_a_name_that_is_taken_is_refused_and_nothing_is_replaced(clinic, uninterrupted):
    cases = checked(uninterrupted["cases"])
    for name in ("small", "sam-compact"):
        with pytest.raises(CheckpointError, match=f"'{name}' is the name of a model .*never replaced"):
            adapt(cases, name, QUICK, "cpu")
    with pytest.raises(CheckpointError, match="cannot be a model's name"):
        adapt(cases, "My Model", QUICK, "cpu")


def test_a_kept_model_segments_under_its_name_and_is_a_start_itself(clinic, uninterrupted):
    cases = checked(uninterrupted["cases"])
    first = adapt(cases, "mine", QUICK, "cpu", keep_anyway=True)
    loaded = load("mine", "cpu")
    assert loaded.facts.sha256 == first.sha256
    assert loaded.segmenter.calibration.to_dict() == registry.find("mine").calibration
    again = replace(QUICK, model="mine", steps=1)
    second = adapt(cases, "next", again, "cpu", keep_anyway=True)
    metadata = read_checkpoint(second.path)[1]
    assert metadata["base"]["name"] == "small"  # whole, so that no chain grows
    assert registry.find("next").base == "small" and load_model("next")[1]["adapted"]["from"] == "mine"


def test_a_first_model_that_is_not_registered_is_stored_whole(clinic, uninterrupted):
    cases = checked(uninterrupted["cases"])
    path = clinic / "small.safetensors"
    Path(clinic / "own.json").unlink()
    settings = replace(QUICK, model=str(path), steps=1)
    kept = adapt(cases, "mine", settings, "cpu", keep_anyway=True)
    path.unlink()
    assert "base" not in load_model("mine")[1] and kept.kept


@pytest.mark.slow
def test_a_start_that_is_not_registered_keeps_its_own_calibration_and_licence(clinic, uninterrupted, monkeypatch):
    monkeypatch.setattr(running, "refitted", lambda *_: None)  # the parent's calibration is better
    cases = checked(uninterrupted["cases"])
    first = adapt(cases, "mine", QUICK, "cpu", keep_anyway=True)
    exported = clinic / "exported.safetensors"
    exported.write_bytes(first.path.read_bytes())
    calibration, licence = registry.find("mine").calibration, registry.find("mine").licence
    assert forget(registry.find("mine")) and calibration
    loaded = load(str(exported), "cpu").segmenter.calibration
    assert loaded is not None and loaded.to_dict() == calibration
    adapt(cases, "next", replace(QUICK, model=str(exported), steps=1), "cpu", keep_anyway=True)
    assert registry.find("next").calibration == calibration
    assert registry.find("next").licence.startswith(licence) and "Apache-2.0" in licence


def test_what_lies_in_the_callers_folder_stays(clinic, uninterrupted):
    folder = clinic / "state"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work", encoding="utf-8")
    cancel = CancelToken()
    cancel.cancel()
    adapt(checked(uninterrupted["cases"]), "mine", QUICK, "cpu", cancel=cancel, folder=folder)
    kept = adapt(checked(uninterrupted["cases"]), "mine", QUICK, "cpu", keep_anyway=True, folder=folder)
    assert kept.kept and files_of(folder) == ["thesis.txt"]


def test_a_single_patient_is_learned_from_where_allowed_and_nothing_is_claimed(clinic):
    cases = checked(write_cases(clinic / "cases", 1), allow_single=True)
    kept = adapt(cases, "mine", replace(QUICK, allow_single=True), "cpu")
    assert kept.kept and kept.verdict is None and kept.scores == ()
    assert "nothing was tested" in kept.path.with_suffix(".md").read_text(encoding="utf-8")


def test_one_marked_picture_of_one_patient_is_enough(clinic):
    cases = checked(write_cases(clinic / "cases", 1, slices=1), allow_single=True)
    assert adapt(cases, "mine", replace(QUICK, allow_single=True, steps=1, variants=2), "cpu").kept


def test_memory_that_runs_out_is_an_error_of_the_device(clinic, uninterrupted, monkeypatch):
    def full(*_):
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 byte")

    monkeypatch.setattr(objective, "prompted_loss", full)
    with pytest.raises(DeviceError, match="does not fit into the memory") as caught:
        adapt(checked(uninterrupted["cases"]), "mine", QUICK, "cpu")
    assert caught.value.exit_code == 8


def test_a_model_without_a_sam_is_refused(clinic, uninterrupted):
    pytest.importorskip("sam2")
    with pytest.raises(UsageError, match="models on a compact SAM and on official weights can be adapted"):
        adapt(checked(uninterrupted["cases"]), "mine", replace(QUICK, model="sam2-compact"), "cpu")


def test_the_number_of_threads_is_restored_and_the_callers_chance_untouched(clinic, uninterrupted):
    before, chance = torch.get_num_threads(), torch.get_rng_state()
    adapt(checked(uninterrupted["cases"]), "mine", replace(QUICK, steps=1), "cpu")
    assert torch.get_num_threads() == before and torch.equal(torch.get_rng_state(), chance)
    assert ModelCache().folder.exists() and np.isfinite(before)


def test_the_picture_is_of_the_worst_case_so_far_beside_its_annotation(uninterrupted):
    result = uninterrupted["result"]
    assert all(event.picture is None for event in uninterrupted["events"] if event.stage == "training fold 1 of 2")
    first = next(event for event in uninterrupted["events"] if event.stage == "training fold 2 of 2")
    assert first.picture.case == 0 and first.picture.reference.any()
    worst = min(result.scores, key=lambda score: np.mean(score.after[0])).case
    shown = result.picture
    assert (shown.case, shown.image.ndim) == (worst, 2)
    assert shown.reference.shape == shown.found.shape == (2, *shown.image.shape)
    taught = checked(uninterrupted["cases"]).cases[worst]
    view = slice_view(taught.case.volume.geometry, taught.axis)
    masks = [view.take(segment.mask)[shown.index] for segment in taught.segments]
    assert np.array_equal(shown.reference, masks)
