"""``evaluate --cases``: from a folder of annotated cases to a report that says which model and how many supports."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")

from adapt_cases import register_small_model, use_folder, write_case, write_cases
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.commands import evaluate_cases

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_cases(tmp_path / "my cases", 3, slices=1)  # which are not registered to each other: quick


@pytest.fixture
def models(model, tmp_path) -> list[str]:
    """Two files in whose place the in-context double is loaded."""
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"not read either")
    return [model, str(other)]


def evaluate(folder: Path, models: list[str], *more: str) -> int:
    return main(["evaluate", "--cases", str(folder), "--models", *models, "--device", "cpu", *more])


def test_the_report_answers_first_and_nothing_of_the_user_is_changed(folder, models, tmp_path, capsys):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    out = tmp_path / "results" / "mine"
    wanted = ("--supports", "1", "8", "--draws", "2", "--out", str(out))
    assert evaluate(folder, models, *wanted) == 0
    said = capsys.readouterr()
    assert "8 supports were asked for; other patients have 2 cases, so 1, 2 are measured" in said.err
    answer = said.out.splitlines()[0]
    assert said.out.splitlines()[-1].startswith("wrote ") and f"{out}.html" in said.out.splitlines()[-1]
    assert re.match(r"Use (double|other) with \d supports?: mean Dice 0\.\d\d on 3 patients\. ", answer), said.out
    assert "3 patients say little" in said.out and "| copied mean mask, 1 support |" in said.out
    page = out.with_name("mine.html").read_text(encoding="utf-8")
    assert page.index("Use ") < page.index("3 patients say little") < page.index("<table>")
    assert "gland in my cases: which model, how many supports?" in page
    assert page.count("data:image/jpeg") == 3 and "HD95 [mm]" in page and "which 3 patients cannot prove" in page
    assert not re.search(r"<script|https?:|url\(", page)
    values = json.loads(out.with_name("mine.json").read_text(encoding="utf-8"))
    assert len(values["rows"]) == 2 * 3 and values["answer"][0] == answer
    rows = list(csv.DictReader(out.with_name("mine.csv").open(encoding="utf-8")))
    assert {row["n"] for row in rows if row["measure"] == "dice"} == {"3"}
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    # The same command measures nothing again and writes the same report.
    lines = out.with_name("mine.jsonl").read_bytes()
    assert len(lines.splitlines()) == 1 + 3 * 3 * (2 + 1), "one draw where both others are supports"
    assert evaluate(folder, models, *wanted) == 0
    assert out.with_name("mine.jsonl").read_bytes() == lines
    assert out.with_name("mine.html").read_text(encoding="utf-8") == page


def test_a_patient_under_two_names_counts_once_and_is_never_his_own_support(folder, models, tmp_path, capsys):
    for suffix in (".nrrd", ".seg.nrrd"):
        (folder / f"again{suffix}").write_bytes((folder / f"patient0{suffix}").read_bytes())
    assert evaluate(folder, models[:1], "--supports", "1", "--draws", "1", "--out", str(tmp_path / "m")) == 0
    said = capsys.readouterr()
    assert "is left out: it has the same image as" in said.err and "on 3 patients" in said.out
    page = (tmp_path / "m.html").read_text(encoding="utf-8")
    assert "3 cases of 3 patients" in page and "Left out: patient0: it has the same image as again" in page


def test_patients_of_two_folders_whose_files_have_one_name_count_each(folder, models, tmp_path, capsys):
    other = tmp_path / "others"
    for number, seed in enumerate((8, 9)):
        write_case(other, f"patient{number}", seed, slices=1)
    more = ("--cases", str(other), "--supports", "1", "--draws", "1", "--out", str(tmp_path / "m"))
    assert evaluate(folder, models[:1], *more) == 0
    assert "on 5 patients" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "m.csv").open(encoding="utf-8")))
    assert {row["n"] for row in rows if row["measure"] == "dice"} == {"5"}


def test_a_model_under_two_names_counts_once(folder, models, tmp_path, capsys):
    """Compared with itself it would never be better, and be a comparison more for Holm's correction."""
    again = tmp_path / "again.safetensors"
    again.write_bytes(Path(models[0]).read_bytes())
    assert evaluate(folder, [models[0], str(again)], "--supports", "1", "--draws", "1", "--progress") == 0
    said = capsys.readouterr()
    assert f"{again} is the model {models[0]}; it counts once." in said.err
    assert "again" not in said.out and "mask 6 of 6" in said.err


def test_a_list_of_cases_is_not_replaced_by_tables_even_if_forced(folder, models, capsys):
    rows = [f"patient{n}.nrrd,patient{n}.seg.nrrd" for n in range(3)]
    listed = folder / "pairs.csv"
    listed.write_text("image,annotation\n" + "\n".join(rows) + "\n", encoding="utf-8")
    before = listed.read_bytes()
    words = ("--supports", "1", "--draws", "1", "--force", "--out", str(folder / "pairs"))
    assert evaluate(listed, models[:1], *words) == 2
    assert "pairs.csv, which is an input; choose another name" in capsys.readouterr().err
    assert listed.read_bytes() == before and not (folder / "pairs.jsonl").exists()


def test_a_stopped_run_keeps_what_is_done_and_continues(folder, models, tmp_path, capsys, monkeypatch):
    out = tmp_path / "m"
    wanted = ("--supports", "1", "--draws", "1", "--out", str(out))
    whole = evaluate_cases._segment
    done: list[str] = []

    def segment(engine, device, cancel, candidate, job):
        if len(done) == 2:
            cancel.cancel()
        done.append(job.name)
        return whole(engine, device, cancel, candidate, job)

    monkeypatch.setattr(evaluate_cases, "_segment", segment)
    assert evaluate(folder, models, *wanted) == 130
    said = capsys.readouterr().err
    assert "the same command resumes" in said and "m.html shows the scores so far" in said
    page = out.with_name("m.html").read_text(encoding="utf-8")
    assert "<h1>Incomplete: " in page and "Incomplete: 5 of 9 masks were measured" in page
    assert page.count("<table") == 2 and "Use double" not in page and "Use none" not in page
    file = out.with_name("m.jsonl")
    assert len(file.read_bytes().splitlines()) == 1 + 3 + 2
    file.write_bytes(file.read_bytes()[:-30])  # as a power cut leaves it
    done[:] = ["", "", ""]
    assert evaluate(folder, models, *wanted) == 0
    assert len(done) - 3 == 6 - 1, "two of six were done, and one of these was cut off"
    assert "Incomplete" not in out.with_name("m.html").read_text(encoding="utf-8")
    resumed = out.with_name("m.csv").read_text(encoding="utf-8")
    assert evaluate(folder, models, "--supports", "1", "--draws", "1", "--out", str(tmp_path / "w")) == 0
    without_seconds = [line for line in resumed.splitlines() if ",seconds," not in line]
    again = (tmp_path / "w.csv").read_text(encoding="utf-8").splitlines()
    assert without_seconds == [line for line in again if ",seconds," not in line]


def test_names_of_patients_in_a_list_stay_out_of_every_file(folder, models, tmp_path, capsys):
    rows = [f"patient{n}.nrrd,patient{n}.seg.nrrd,{who}" for n, who in enumerate(("Smith", "Smith", "Miller"))]
    (folder / "list.csv").write_text("image,annotation,patient\n" + "\n".join(rows) + "\n", encoding="utf-8")
    assert evaluate(folder / "list.csv", models[:1], "--supports", "1", "--out", str(tmp_path / "m")) == 0
    said = capsys.readouterr()
    assert "on 2 patients" in said.out
    texts = [said.out, said.err, *(path.read_text(encoding="utf-8") for path in tmp_path.glob("m.*"))]
    assert len(texts) == 2 + 5 and not re.search("smith|miller", " ".join(texts), re.IGNORECASE)


def test_a_volume_with_single_annotated_slices_is_measured_on_these(models, tmp_path, capsys):
    from adapt_cases import picture
    from ProxyPromptSegmentLib.imaging.segmentations import write_segmentation
    from ProxyPromptSegmentLib.imaging.volumes import write_volume

    folder = write_cases(tmp_path / "cases", 2)
    volume, marks = picture(7)
    marks.segments[0].mask[[0, 2, 4]] = 0
    write_volume(folder / "single.nrrd", volume)
    write_segmentation(folder / "single.seg.nrrd", marks)
    assert evaluate(folder, models[:1], "--supports", "1", "--draws", "1", "--out", str(tmp_path / "m")) == 0
    page = (tmp_path / "m.html").read_text(encoding="utf-8")
    assert "Only annotated slices were measured in single" in page and "HD95 [px]" in page
    units = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text(encoding="utf-8").splitlines()[1:]]
    shown = {one["records"][0]["case"]: one["about"]["slice"] for one in units if "about" in one}
    assert shown["single"] in (1, 3)


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (("--data", "DATA"), 2, "--data measures on public data, --cases on your own"),
        (("--supports", "0"), 2, "--supports is 0; at least 1 is needed"),
        (("--object", "liver"), 4, "no case has the object 'liver'"),
        (("--models", "nobody"), 7, "nobody"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_loaded(
    folder, models, capsys, monkeypatch, more, code, words
):
    def load(*_: object) -> None:
        raise AssertionError("the network was loaded for bad input")

    monkeypatch.setattr(evaluate_cases, "new_engine", load)
    assert evaluate(folder, models, *more) == code
    assert words in capsys.readouterr().err


def test_a_single_patient_and_tables_of_others_are_refused(folder, models, tmp_path, capsys):
    alone = tmp_path / "alone"
    write_case(alone, "one", 1)
    assert evaluate(alone, models) == 4
    said = capsys.readouterr().err
    assert "1 patient is left" in said and "measuring needs at least two" in said and "--allow-single" not in said
    assert evaluate(tmp_path / "none", models) == 3
    (tmp_path / "m.html").write_text("mine", encoding="utf-8")
    assert evaluate(folder, models, "--out", str(tmp_path / "m")) == 6
    assert (tmp_path / "m.html").read_text(encoding="utf-8") == "mine"
    assert main(["evaluate"]) == 2 and "--cases FOLDER" in capsys.readouterr().err


@pytest.mark.slow  # three processes load torch and a small network
def test_a_killed_process_continues_where_it_was(tmp_path, monkeypatch):
    use_folder(monkeypatch, tmp_path)
    register_small_model(tmp_path)
    folder = write_cases(tmp_path / "cases", 3)
    out = tmp_path / "m"
    words = ["evaluate", "--cases", str(folder), "--models", "small", "--supports", "1", "2", "--draws", "2"]
    command = [
        sys.executable,
        "-m",
        "ProxyPromptSegmentLib",
        *words,
        "--threads",
        "1",
        "--device",
        "cpu",
        "--out",
        str(out),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    file = out.with_name("m.jsonl")
    while not file.is_file() or len(file.read_bytes().splitlines()) < 12:
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = file.read_bytes()
    assert process.returncode == -signal.SIGKILL and not out.with_name("m.html").exists()
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    whole = kept[: kept.rindex(b"\n") + 1]
    assert file.read_bytes().startswith(whole) and len(file.read_bytes().splitlines()) == 1 + 3 * 2 * 3
    assert out.with_name("m.html").is_file()
