"""The subcommand ``adapt``: cases in, a model of the user's own out, in the words of the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from adapt_cases import picture, register_small_model, write_cases
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.imaging.segmentations import read_segmentation
from ProxyPromptSegmentLib.library.store import SupportLibrary
from ProxyPromptSegmentLib.training.adapting import run as running
from ProxyPromptSegmentLib.weights import registry

QUICK = ("--model", "small", "--steps", "1", "--threads", "1", "--device", "cpu")


@pytest.fixture
def clinic(home, monkeypatch) -> Path:
    """A folder of the user's own: a small model registered as 'small', two cases, an empty library."""
    monkeypatch.setenv("PROXYPROMPT_LIBRARY", str(home / "library"))
    register_small_model(home)
    write_cases(home / "cases", 2)
    return home


def adapt(clinic: Path, *more: str, cases: bool = True) -> int:
    given = ("--cases", str(clinic / "cases")) if cases else ()
    return main(["adapt", *given, "--out", "mine", *QUICK, *more])


def test_from_cases_to_a_segmentation_by_name_and_a_file_for_another_machine(clinic, capsys):
    report = clinic / "report.json"
    assert adapt(clinic, "--object", "gland", "--keep-anyway", "--report", str(report)) == 0
    said, warned = capsys.readouterr()
    assert "2 patients, 2 cases: learning gland" in said and "estimated time" in said
    assert "patient1" in said and "before  after  mean mask" in said and "--model mine" in said
    described = json.loads(report.read_text(encoding="utf-8"))
    assert ("it is kept because of --keep-anyway" in warned) is not described["verdict"]["better"]
    assert described["kept"] and len(described["cases"]) == 2 and "patient" not in json.dumps(described["cases"])
    case = clinic / "cases" / "patient0"
    support = ["--support", f"{case}.nrrd", f"{case}.seg.nrrd", "--target", str(clinic / "cases" / "patient1.nrrd")]
    out = clinic / "out.seg.nrrd"
    assert main(["segment", "--model", "mine", *support, "--output", str(out), "--device", "cpu"]) in (0, 9)
    assert read_segmentation(out).names == ["gland"]
    file = clinic / "mine.safetensors"
    assert main(["models", "export", "mine", "--out", str(file)]) == 0
    assert main(["models", "export", "mine", "--out", str(file)]) == 6
    assert main(["models", "export", "mine", "--out", str(file), "--force"]) == 0
    capsys.readouterr()
    assert main(["models", "publish", "mine", "--out", str(clinic / "release")]) == 7
    assert "cannot be published without citation" in capsys.readouterr().err  # which 'small' lacks; the card is found
    assert main(["models", "remove", "mine"]) == 0
    assert "mine" not in [entry.name for entry in registry.all_entries()]
    assert not (clinic / "cache" / "mine").exists()
    assert main(["models", "import", str(file)]) == 0
    assert main(["models", "import", str(file), "--as", "other"]) == 0
    assert registry.find("mine").calibration == registry.find("other").calibration != {}
    capsys.readouterr()
    assert main(["models", "import", str(file), "--as", "other"]) == 7
    assert "--as of `models import`" in (said := capsys.readouterr().err) and "--restart" not in said
    assert main(["models", "import", str(file)]) == 0  # known by its hash now
    assert main(["models", "verify", "mine", "other"]) == 0


def test_a_result_that_is_not_better_is_not_kept(clinic, capsys):
    assert adapt(clinic) == 9
    said = capsys.readouterr().err
    assert "not better: mean Dice" in said and "--keep-anyway trains once more, on all cases, and keeps" in said
    with pytest.raises(Exception, match="no model 'mine'"):
        registry.find("mine")


def test_the_cases_of_the_library_and_of_a_list_are_learned_from(clinic, capsys):
    library = SupportLibrary()
    for seed, patient in ((5, ""), (6, "4711"), (7, "4711")):
        library.save(*picture(seed), title=f"Saved {seed}", identity=patient)
    rows = [{"image": "cases/patient0.nrrd", "annotation": "cases/patient0.seg.nrrd", "patient": "a"}]
    (clinic / "list.json").write_text(json.dumps(rows), encoding="utf-8")
    assert adapt(clinic, "--library", "--cases", str(clinic / "list.json"), cases=False) == 9
    assert "3 patients, 4 cases" in capsys.readouterr().out


def test_ctrl_c_in_a_fold_is_said_and_the_same_command_continues(clinic, capsys, monkeypatch):
    def interrupted(self, *more):
        self.cancel.cancel()
        return train(self, *more)

    train = running._Run._train
    monkeypatch.setattr(running._Run, "_train", interrupted)
    report = ("--report", str(clinic / "report.json"))
    assert adapt(clinic, *report) == 130
    assert "the same command resumes there" in capsys.readouterr().err
    monkeypatch.setattr(running._Run, "_train", train)
    assert adapt(clinic, *report, "--seed", "2") == 2
    assert "begun with other settings" in (said := capsys.readouterr().err) and "--restart" in said
    assert adapt(clinic, *report, "--seed", "2", "--restart") == 9


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (("--cases", "nowhere"), 3, "does not exist"),
        (("--object", "cyst"), 4, "no case has the object 'cyst'"),
        (("--model", "nothing"), 7, "there is no model 'nothing'"),
        (("--minutes", "0"), 2, "argument --minutes: invalid time (allowed: above 0) value: '0'"),
        (("--minutes", "x"), 2, "argument --minutes: invalid time (allowed: above 0) value: 'x'"),
        (("--seed", "-1"), 2, "seed is -1; allowed is 0 or more"),
        (("--steps", "0"), 2, "steps is 0; allowed is at least 1"),
        (("--device", "cuda:77"), 8, "device"),
        (("--report", "nowhere/report.json"), 6, "does not exist"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_leaves_nothing(clinic, capsys, more, code, said):
    before = sorted(clinic.rglob("*"))
    assert adapt(clinic, *more) == code
    err = capsys.readouterr().err
    assert said in err and "Traceback" not in err
    left = [path for path in clinic.rglob("*") if path not in before and path.is_file()]
    assert all(path.parent.name == "locks" for path in left)


def test_a_single_case_is_refused_with_the_option_that_allows_it(clinic, capsys):
    for ending in ("nrrd", "seg.nrrd"):
        (clinic / "cases" / f"patient1.{ending}").unlink()
    assert adapt(clinic) == 4
    assert "--allow-single" in capsys.readouterr().err
    assert adapt(clinic, "--allow-single") == 0


def test_no_cases_at_all_is_a_wrong_use(clinic, capsys):
    assert adapt(clinic, cases=False) == 2
    assert "give --cases FOLDER" in capsys.readouterr().err


def test_a_taken_name_is_refused_before_anything_is_read(clinic, capsys):
    assert main(["adapt", "--cases", "nowhere", "--out", "small"]) == 7
    assert "never replaced. Choose another name: --output of `proxyprompt adapt`" in capsys.readouterr().err
    assert main(["adapt", "--cases", "nowhere", "--out", "mine.pt"]) == 7
    assert "give a name without .pt." in capsys.readouterr().err


def test_a_report_replaces_neither_an_input_nor_without_consent_another_file(clinic, capsys):
    case = clinic / "cases" / "patient"
    rows = [{"image": f"{case}{n}.nrrd", "annotation": f"{case}{n}.seg.nrrd"} for n in range(2)]
    listed = clinic / "pairs.json"
    listed.write_text(json.dumps(rows), encoding="utf-8")
    before = listed.read_text(encoding="utf-8")
    words = ["--cases", str(listed), "--report"]
    assert adapt(clinic, *words, str(listed), cases=False) == 2
    other = clinic / "other.json"
    other.write_text("{}", encoding="utf-8")
    assert adapt(clinic, *words, str(other), cases=False) == 6
    assert "--force" in capsys.readouterr().err
    assert (listed.read_text(encoding="utf-8"), other.read_text(encoding="utf-8")) == (before, "{}")
    assert adapt(clinic, *words, str(other), "--force", cases=False) == 9
    assert json.loads(other.read_text(encoding="utf-8"))["kept"] is False
    # The same command with --keep-anyway, as it says, continues: the report is its own.
    assert adapt(clinic, *words, str(other), "--keep-anyway", cases=False) == 0
    assert json.loads(other.read_text(encoding="utf-8"))["kept"] is True
    capsys.readouterr()
    assert main(["adapt", *words, str(other), "--out", "more", *QUICK]) == 6
    assert "other.json already exists" in capsys.readouterr().err
