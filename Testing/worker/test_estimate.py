"""Estimates before a run: about right after one measured run, more for more work, and to the byte in memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ProxyPromptSegmentLib.errors import CheckpointError, UsageError
from ProxyPromptSegmentLib.support.case import SupportCase
from ProxyPromptSegmentLib.weights.registry import all_entries, find, models_folder
from ProxyPromptSegmentLib.worker.estimate import ARCHITECTURES, SpeedRecord, architecture_of, estimate
from ProxyPromptSegmentLib.worker.tile_work import TileWork

SHAPE = (256, 256)
ROOT = Path(__file__).resolve().parents[2]


def an_estimate(model="sam-compact", device="cpu", slices=30, pairs=4, objects=1, **options):
    return estimate(model, device, slices, SHAPE, pairs, objects, **options)


@pytest.mark.parametrize("measured", [None, SpeedRecord({"sam-compact on cpu": 0.05})])
def test_more_work_takes_longer(measured):
    for name, values in {"slices": (0, 1, 2, 30, 300), "pairs": (1, 2, 8), "objects": (1, 2, 5)}.items():
        made = [an_estimate(**{name: value}, measured=measured) for value in values]
        assert [one.seconds for one in made] == sorted({one.seconds for one in made}), name
        assert [one.memory_bytes for one in made] == sorted(one.memory_bytes for one in made), name


def test_tiles_take_longer_by_their_number_and_whole_slices_beside_them_add_to_it():
    whole, few, many = (an_estimate(tiles=work) for work in (None, TileWork(9, 32, 4, 1), TileWork(25, 32, 4, 1)))
    assert whole.seconds < few.seconds < many.seconds
    assert many.seconds > 5 * whole.seconds
    beside = an_estimate(objects=2, tiles=TileWork(25, 32, 4, 1))
    assert beside.seconds > many.seconds
    assert beside.seconds < many.seconds + an_estimate(objects=2).seconds * 1.01
    assert an_estimate(encoded=30, tiles=TileWork(25, 32, 4, 1)).seconds < many.seconds
    assert few.memory_bytes > whole.memory_bytes


def test_after_a_run_in_tiles_its_estimate_is_what_it_took_and_one_without_tiles_is_much_shorter():
    tiles = TileWork(25, 32, 4, 1, embedded=30 * 25)
    record = SpeedRecord().learned("sam-compact", "cpu", 60.0, 30, 0, 4, 1, tiles)
    assert 60 <= an_estimate(tiles=replace(tiles, embedded=None), measured=record).seconds <= 90
    assert an_estimate(measured=record).seconds < 10
    again = SpeedRecord().learned("sam-compact", "cpu", 60.0, 30, 0, 4, 1, replace(tiles, embedded=0))
    assert again.seconds_per_slice["sam-compact on cpu"] > record.seconds_per_slice["sam-compact on cpu"]


def test_the_work_in_tiles_is_known_before_the_run_and_counted_after_it():
    pytest.importorskip("torch")
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.inference.tiling.forecast import forecast
    from ProxyPromptSegmentLib.worker.tasks import SegmentTask
    from tile_cases import PerfectModel, vessel_case, vessel_job
    from worker_doubles import Talk, an_engine

    job = vessel_job()
    found = Talk().do(SegmentTask(job), an_engine(Segmenter(PerfectModel(), "cpu", 1)))
    shape, spacing = job.target.geometry.shape_kji[1:], job.view.spacing_mm
    plan = forecast([SupportCase(*vessel_case((1, 2)))], None, shape, spacing, 128).tiles
    assert plan == found.tiles.plan
    planned, done = TileWork.planned(plan, len(job.support)), TileWork.done(found.tiles)
    assert done.embedded == 3 * plan.tiles
    assert planned == replace(done, embedded=None)
    organ = forecast([SupportCase(*vessel_case((1, 2), ("organ",)))], ["organ"], shape, spacing, 128).tiles
    assert TileWork.planned(organ, 2) is None
    assert TileWork.done(None) is None


def test_what_is_embedded_costs_less_and_never_less_than_nothing():
    times = [an_estimate(encoded=encoded).seconds for encoded in (0, 10, 30)]
    assert times[0] > times[1] > times[2] > 0
    assert an_estimate(encoded=999).seconds == times[-1]


def test_larger_networks_take_longer_and_a_gpu_takes_less():
    order = ["sam-compact", "sam2.1-hiera-tiny", "sam2.1-hiera-large", "sam-vit-l", "sam-vit-h"]
    times = [an_estimate(name).seconds for name in order]
    assert times == sorted(times)
    assert an_estimate("sam-vit-b", "cuda:1").seconds < an_estimate("sam-vit-b").seconds / 20


def test_after_a_run_its_estimate_is_what_it_took():
    record = SpeedRecord().learned("sam-compact", "cpu", 12.0, slices=30, embedded=30, pairs=4, objects=1)
    known = an_estimate(measured=record)
    assert known.measured and not an_estimate().measured
    assert 12.0 <= known.seconds <= 12.0 * 1.5  # the support's preparation comes on top
    # another run of the same model, and one on what is embedded
    assert 1.5 <= an_estimate(slices=60, measured=record).seconds / known.seconds <= 2.0
    assert an_estimate(encoded=30, measured=record).seconds < known.seconds
    assert not an_estimate(device="cuda", measured=record).measured
    assert not an_estimate("sam2-compact", measured=record).measured


def test_from_what_a_real_run_counted_the_next_one_is_estimated_within_a_factor():
    pytest.importorskip("torch")
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.worker.tasks import SegmentTask
    from worker_doubles import SIZE, Talk, a_job, an_engine, embedded

    engine, job = an_engine(Segmenter(embedded(remember=False), "cpu", 1)), a_job()
    done = Talk().do(SegmentTask(job, keep=False), engine)
    seconds = 12.0  # whatever it took
    record = SpeedRecord().learned(
        "sam-compact", done.device, seconds, done.slices, done.embedded, done.pairs, len(done.objects)
    )
    again = estimate("sam-compact", "cpu", SIZE[0], SIZE[1:], done.pairs, len(done.objects), measured=record)
    assert seconds <= again.seconds <= 4 * seconds


def test_one_odd_run_does_not_spoil_the_record():
    run = {"slices": 30, "embedded": 30, "pairs": 4, "objects": 1}
    record = SpeedRecord().learned("sam-compact", "cpu", 10.0, **run)
    odd = record.learned("sam-compact", "cpu", 1000.0, **run)
    for _ in range(6):
        odd = odd.learned("sam-compact", "cpu", 10.0, **run)
    assert an_estimate(measured=odd).seconds == pytest.approx(an_estimate(measured=record).seconds, rel=0.1)
    for nothing in (0.0, float("nan"), float("inf")):
        assert record.learned("sam-compact", "cpu", nothing, **run) == record
    assert record.learned("sam-compact", "cpu", 5.0, **{**run, "slices": 0}) == record


def test_a_record_is_plain_json_and_a_damaged_one_is_empty():
    record = SpeedRecord({"sam-compact on cpu": 0.02})
    assert SpeedRecord.from_dict(json.loads(json.dumps(record.to_dict()))) == record
    for damaged in (None, [], {"seconds_per_slice": 3}, {"seconds_per_slice": {"a": "b", "c": -1, "d": None}}):
        assert SpeedRecord.from_dict(damaged) == SpeedRecord()


@pytest.mark.parametrize("name", ["sam-compact", "sam2-compact"])
def test_embeddings_of_the_compact_models_are_right_to_the_byte(name):
    pytest.importorskip("torch")
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.worker.encodings import EncodingStore
    from worker_doubles import embedded

    segmenter, store = Segmenter(embedded(name, remember=False), "cpu", 1), EncodingStore()
    images = np.random.default_rng(0).uniform(0, 1, (3, 40, 56)).astype(np.float32)
    for image in images:
        store.put("cpu", segmenter.encode(image[None], (0.0, 1.0)))
    assert store.held("cpu") == 3 * architecture_of(name).embedding_bytes
    made = estimate(name, "cpu", 3, (40, 56), 1, 1)
    assert made.embeddings_bytes == store.held("cpu")
    assert made.memory_bytes > made.embeddings_bytes
    parameters = sum(parameter.numel() for parameter in segmenter.model.parameters())
    assert architecture_of(name).weights * 1e6 == pytest.approx(parameters, rel=0.02)


def test_what_is_counted_is_what_the_compact_model_computes():
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from worker_doubles import a_job, embedded

    segmenter, job = Segmenter(embedded(remember=False), "cpu", 1), a_job(objects=("prostate", "front"))
    own, images = architecture_of("sam-compact"), job.view.take(job.target.array)[5:6]
    prepared = segmenter.prepare(job.support)
    counts = {}
    for what, do in {
        "run": lambda: segmenter.segment(images, prepared, job.window),
        "support": lambda: segmenter.prepare(job.support),
    }.items():
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            try:
                do()
            except TypeError as error:
                if "_flop() got multiple values" in str(error):
                    pytest.skip("this PyTorch's counter knows no 'out='")
                raise
        counts[what] = counter.get_total_flops() / 1e9
    pairs = len(job.support)
    assert own.segmenting(1, 1, pairs, 2) == pytest.approx(counts["run"], rel=0.1)
    assert own.work(0, 0, pairs, 2) == pytest.approx(counts["support"], rel=0.1)


def test_every_entry_of_the_registry_can_be_estimated():
    for entry in all_entries(models_folder()):
        assert an_estimate(entry).seconds > 0
        assert architecture_of(entry) == architecture_of(entry.name)
    assert {entry.fits for entry in all_entries(models_folder())} <= ARCHITECTURES.keys()


def test_a_checkpoint_by_its_path_is_known_by_its_header(tmp_path):
    path = models_folder() / find("sam2-compact").file
    assert architecture_of(str(path)) == ARCHITECTURES["sam2-compact"]
    damaged = tmp_path / "x.safetensors"
    for content in (b"", b"\xff" * 20, b"\x02" + b"\0" * 7 + b"{}"):
        damaged.write_bytes(content)
        with pytest.raises(CheckpointError, match="does not say which network"):
            an_estimate(str(damaged))
    with pytest.raises(CheckpointError, match="no model 'nonsense'"):
        an_estimate("nonsense")
    with pytest.raises(CheckpointError, match="the speed of 'odd' .* is unknown"):
        an_estimate(replace(find("sam-compact"), name="odd", fits="other"))


def test_a_run_without_a_support_takes_less_time_than_one_with_a_support():
    entry = find("sam-compact")
    assert 0 < an_estimate(entry, pairs=0).seconds < an_estimate(entry).seconds


@pytest.mark.parametrize("wrong", [{"slices": -1}, {"pairs": -1}, {"objects": 0}, {"encoded": -1}])
def test_numbers_that_are_none_are_refused(wrong):
    with pytest.raises(UsageError, match="cannot be estimated"):
        an_estimate(**wrong)


def test_the_sentence_says_about_and_rounds():
    made = an_estimate(slices=30)
    assert made.sentence.startswith("About ") and "Nothing was measured" in made.sentence
    record = SpeedRecord({"sam-compact on cpu": 1.2345})
    known = an_estimate(slices=30, measured=record)
    assert "Nothing was measured" not in known.sentence
    first = known.sentence.split(" and ")[0]
    assert first.split()[1].replace(".", "").rstrip("0").isdigit() and len(first.split()[1]) <= 3
    texts = [an_estimate("sam-vit-h", slices=n).sentence for n in (1, 30, 3000)]
    assert any("minute" in text for text in texts) and any("hour" in text for text in texts)
    assert an_estimate("sam-vit-h", "cuda").sentence.count("GPU memory") == 1


MEASURED = """
import threading, time
import numpy as np
from ProxyPromptSegmentLib import Segmentation, SupportCase, load_model
from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom
from ProxyPromptSegmentLib.worker.estimate import estimate

def held():  # memory of its own: how much of a library's file is mapped depends on the machine's cache of files
    return 1024 * int(next(line for line in open("/proc/self/status") if line.startswith("RssAnon")).split()[1])

(support, marks), (target, _marks) = pelvis_phantom(1, (12, 128, 128)), pelvis_phantom(2, (12, 128, 128))
marks = Segmentation(marks.segments[:1], marks.geometry)
made = estimate("sam-compact", "cpu", 4, (128, 128), 8, 1, voxels=2 * target.array.size, closer=1)
before, peak, over = held(), [0], threading.Event()

def watch():
    while not over.is_set():
        peak[0] = max(peak[0], held())
        time.sleep(0.01)

watcher = threading.Thread(target=watch)
watcher.start()
load_model(device="cpu").segment([SupportCase(support, marks)], target, slices=range(4))
over.set()
watcher.join()
print((peak[0] - before) / (made.memory_bytes + made.first_time_bytes))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_the_memory_that_is_said_before_a_first_run_is_about_what_it_takes():
    pytest.importorskip("torch")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", MEASURED], capture_output=True, text=True, env=environment, check=True, timeout=600
    )
    assert 0.6 < float(done.stdout.split()[-1]) < 1.4
