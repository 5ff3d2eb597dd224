"""``evaluate T2`` and ``evaluate --list`` from the command line, with drawn data and systems of a test."""

from __future__ import annotations

import csv
import json

import pytest

pytest.importorskip("torch")

from paper_cases import ToyMaker, toy_folder
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.commands import evaluate_paper, paper_systems
from ProxyPromptSegmentLib.data import splits
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.evaluation.paper import systems as named
from ProxyPromptSegmentLib.evaluation.paper.catalogue import protocols
from ProxyPromptSegmentLib.evaluation.paper.protocol import Row
from ProxyPromptSegmentLib.evaluation.paper.run import Making

REAL = paper_systems.PaperSystems
SYSTEMS = {value for key, value in vars(named).items() if key.isupper()}


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setitem(splits.COUNTS, "promise12", (4, 1))
    return toy_folder(tmp_path / "data", 7)


@pytest.fixture
def maker(monkeypatch):
    """Toys in the place of all systems; the frozen start is not loaded."""
    made = ToyMaker()
    monkeypatch.setattr(paper_systems, "PaperSystems", lambda *_: made)
    return made


def test_a_table_is_written_with_its_splits_and_resumed_with_more_rows(data, maker, tmp_path, capsys):
    out = tmp_path / "results" / "T2"
    words = ["evaluate", "t2", "--data", str(data), "--seconds", "1", "--limit", "2", "--out", str(out)]
    assert main([*words, "--rows", "U-Net"]) == 0
    first = capsys.readouterr().out
    assert "| U-Net | 58 |" in first and "| MLB-Seg | 58 + 1076 unlabelled | - (0.783) |" in first
    assert list(maker.made) == ["U-Net"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert (tmp_path / "results" / "T2.md").read_text(encoding="utf-8") == shown
    assert len(maker.made["U-Net"].lessons) == 1  # its row was not measured again
    assert len(maker.made) == 10 and len(maker.makings) == 11
    values = json.loads((tmp_path / "results" / "T2.json").read_text(encoding="utf-8"))
    assert values["facts"]["model"] == "sam-compact" and len(values["facts"]["sha256"]) == 64
    said = json.loads((tmp_path / "results" / "T2.splits.json").read_text(encoding="utf-8"))["promise12"]
    assert not set(said["train"]) & set(said["test"]) and len(said["few"]["draw 0"]) == 3
    with (tmp_path / "results" / "T2.csv").open(encoding="utf-8") as lines:
        assert {row["system"] for row in csv.DictReader(lines)} >= {"U-Net", "Proxy Prompt"}


def test_another_view_shows_the_scores_of_its_table_and_draws_panels(data, maker, tmp_path, capsys):
    out = tmp_path / "T2"
    words = ["--data", str(data), "--seconds", "1", "--limit", "2", "--out", str(out)]
    assert main(["evaluate", "T2", *words]) == 0
    before = {name: len(toy.segmented) for name, toy in maker.made.items()}
    assert main(["evaluate", "F7", *words]) == 0
    assert {name: len(toy.segmented) for name, toy in maker.made.items()} == before
    assert "Panels of the comparison on prostate MRI" in capsys.readouterr().out
    page = (tmp_path / "T2.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 2 * (1 + 11) and "Spread over patients" in page
    # The published figures stand beside the measured ones, the second table is that by slice; notes come last.
    assert page.index("<td>MLB-Seg</td>") < page.index("- (0.783)".replace(" ", "\n")) < page.index("<h2>Scores")
    assert page.count("<td>MLB-Seg</td>") == 2 and page.index("<h2>Masks") < page.index("MLB-Seg: as published")
    assert main(["evaluate", "T12", *words]) == 6  # scores of another table
    assert "T2.jsonl holds scores with table 'T2', not 'T12'" in capsys.readouterr().err


def test_scores_of_a_stand_in_never_stand_for_the_original_of_the_same_name(data, maker, tmp_path, capsys):
    """PROMISE12 and its half at a lower resolution have one name, and one patient in both would count twice."""
    pytest.importorskip("SimpleITK")
    import original_sets

    words = ["evaluate", "T2", "--data", str(data), "--limit", "1", "--rows", "U-Net", "--out", str(tmp_path / "T2")]
    assert main(words) == 0 and "(reduced: promise12)" in capsys.readouterr().out
    before = (tmp_path / "T2.jsonl").read_bytes()
    original_sets.promise12(data, 8)
    assert main(words) == 6
    assert "holds scores with originals None, not ['PROMISE12']" in capsys.readouterr().err
    assert (tmp_path / "T2.jsonl").read_bytes() == before
    assert main([*words[:-1], str(tmp_path / "original")]) == 0
    assert "| PROMISE12: prostate, Dice |" in capsys.readouterr().out


def test_masks_of_a_measurement_that_was_removed_are_in_no_later_report(data, maker, tmp_path, capsys):
    words = ["evaluate", "T2", "--data", str(data), "--limit", "1", "--out", str(tmp_path / "T2"), "--rows"]
    assert main([*words, "U-Net", "SAMed"]) == 0
    (tmp_path / "T2.jsonl").unlink()
    assert main([*words, "U-Net", "--force"]) == 0
    page = (tmp_path / "T2.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 2, "the truth and one row"


@pytest.mark.parametrize(("figure", "suffix"), [("T8", ".md"), ("F10", ".html")])
def test_an_output_is_checked_before_anything_is_measured(data, tmp_path, capsys, monkeypatch, figure, suffix):
    def never(*_args, **_more):
        raise AssertionError("nothing was to be measured")

    out = tmp_path / "results" / "new" / figure
    out.parent.mkdir(parents=True)
    out.with_name(figure + suffix).write_text("mine")
    monkeypatch.setattr(evaluate_paper, "counts", never)
    monkeypatch.setattr("ProxyPromptSegmentLib.inference.loading.load", never)
    assert main(["evaluate", figure, "--data", str(data), "--out", str(out)]) == 6
    assert "already exists and is not overwritten" in capsys.readouterr().err


def test_the_folder_of_counts_is_made(data, tmp_path):
    out = tmp_path / "results" / "new" / "T8"
    assert main(["evaluate", "T8", "--data", str(data), "--out", str(out)]) == 0
    assert "PROMISE12" in out.with_name("T8.md").read_text(encoding="utf-8")


def test_all_tables_are_listed_with_the_data_that_are_there(data, capsys):
    assert main(["evaluate", "--list", "--data", str(data)]) == 0
    text = capsys.readouterr().out
    assert all(f"| {one.id} | {one.paper} |" in text for one in protocols())
    assert "REFUGE2 or drishti_gs: missing" in text and "PROMISE12: stand-in promise12" in text
    assert main(["evaluate", "T8", "--data", str(data)]) == 0
    assert "| PROMISE12 | prostate | 50 volumes | promise12 | 7 | 7 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "say what to evaluate"),
        (["T2"], "--data is missing"),
        (["T99", "--data", "DATA"], "there is no data set 'T99' in"),
        (["T99", "--data", "DATA"], "Tables and figures of the papers, see evaluate --list: T1, T2, T3"),
        (["T2", "--data", "DATA", "--seconds", "0"], "--seconds is 0; a training needs more than 0"),
        (["T2", "--data", "DATA", "--seconds", "nan"], "--seconds is nan; a training needs more than 0"),
        (["T2", "--data", "DATA", "--seed", "-1"], "argument --seed: invalid seed (allowed: 0 or more"),
        (["T2", "--data", "DATA", "--threads", "-1"], "argument --threads: invalid number (allowed: 1 or more)"),
        (["T2", "--data", "DATA", "--rows", "DTC"], "T2 has no row 'DTC' that is run here; choose some of: specialist"),
        (["T1", "--data", "DATA"], "holds no data of T1, which needs REFUGE2 (drishti_gs), STARE (drive), FH-PS-AOP"),
        (["F10", "--data", "DATA"], "F10 needs REFUGE2 (drishti_gs) and FH-PS-AOP (psfhs) as well"),
    ],
)
def test_mistakes_are_answered_in_a_sentence(data, maker, capsys, words, sentence):
    assert main(["evaluate", *(str(data) if word == "DATA" else word for word in words)]) in (2, 3)
    assert sentence in capsys.readouterr().err


def test_every_system_of_the_tables_has_a_maker():
    wanted = {row.system for one in protocols() for row in one.run_rows}
    assert wanted <= SYSTEMS
    own = {
        named.PROXY_PROMPT, named.IMAGE_PROMPT, named.CLASS_PROMPT, named.SURROGATE, named.MASK_OF_IMAGE_PROMPT,
        named.MASK_OF_TRUTH, named.CLASS_TRAINED,
    }  # fmt: skip
    assert wanted <= own | set(paper_systems.KEYS)
    assert evaluate_paper.DEFAULT_PART == "test"


def test_rows_get_systems_on_the_start_that_they_name_and_memories_where_they_need_one(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        paper_systems, "systems_for", lambda frozen, keys, *_, **__: {keys[0]: asked.append(frozen.name)}
    )
    monkeypatch.setattr(paper_systems, "has_memory", lambda backbone: False)
    make = REAL("sam-compact", "cpu", tmp_path, None)
    monkeypatch.setattr(type(make.frozen()), "segmenter", property(lambda self: Loaded()))

    def made(system, **options):
        return make(Making(row=Row(title="row", system=system, options=options), dataset="toy"))

    proxy = made(named.PROXY_PROMPT, generator={"ccm": False}, encoder="vit", together="all")
    assert proxy.choices.generator == {"ccm": False} and proxy.choices.encoder == "vit"
    assert proxy.frozen is make.frozen() and proxy.trainings is made(named.PROXY_PROMPT).trainings
    assert made(named.PROXY_PROMPT, model="sam-vit-b").frozen.name == "sam-vit-b"
    assert made(named.SURROGATE, model="autosam-polyp").frozen.name == "autosam-polyp"
    assert made(named.MASK_OF_TRUTH).by is None and made(named.MASK_OF_IMAGE_PROMPT, model="m").by.frozen.name == "m"
    assert made(named.CLASS_TRAINED, trial={"losses": {"bce": False}}).changes == {"losses": {"bce": False}}
    assert made(named.PROXY_PROMPT, memory=True).frozen.name == "sam2-compact"
    assert made(named.PROXY_PROMPT, memory=True).choices.memory
    for system in (named.SAM_BOX, named.SAM2_BOX, named.MEDSAM_BOX):
        made(system)
    assert asked == ["sam-compact", "sam2-compact", "medsam-vit-b"]  # a stand-in is never called MedSAM
    with pytest.raises(UsageError, match="the system 'DTC' is not a part of this version"):
        made("DTC")


class Loaded:
    """A loaded model of which nothing but its backbone is looked at."""

    class model:
        backbone = None
