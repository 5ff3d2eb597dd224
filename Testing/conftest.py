"""Fixtures that every test may use."""

from __future__ import annotations

import gc
import importlib.util
import os
from pathlib import Path

# Before torch is imported: each worker of the tests has one core, and threads that wait for each other burn the others.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["PROXYPROMPT_SUPPORTS"] = "off"  # nothing is read from the user's own folder, nor left there

import pytest

ROOT = Path(__file__).resolve().parent.parent
FEW_FILES, MOST_WORKERS = 3, 4


def pytest_xdist_auto_num_workers(config) -> int:
    """Return how many workers share the tests: one a core, none where only a few files are asked for."""
    asked = [Path(word.partition("::")[0]) for word in config.args]
    if len(asked) <= FEW_FILES and all(path.suffix == ".py" for path in asked):
        return 0
    return min(os.cpu_count() or 1, MOST_WORKERS)  # each holds torch and a model or two


def pytest_collection(session) -> None:
    """Let no garbage be looked for while thousands of tests are made, which all stay."""
    gc.disable()


def pytest_collection_finish(session) -> None:
    """Leave the tests and what they have imported out of every later search for garbage.

    With them one `gc.collect()` takes more than a second, and an engine that is left calls it.
    """
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public images with masks, or a skip where it is not there."""
    folder = Path(os.environ.get("PROXYPROMPT_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "manifest.csv").is_file():
        pytest.skip(f"the public data sets are not in {folder}; set PROXYPROMPT_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def drawn_prostates(tmp_path_factory) -> Path:
    """Two drawn pelves in the files of Prostate158: oblique T2 images, and the zones that a reader marked."""
    pytest.importorskip("SimpleITK")
    from drawn_data import DataFolder

    folder = DataFolder(tmp_path_factory.mktemp("drawn"))
    folder.add_prostate158("p158_001", 11, (23, 120, 120))
    folder.add_prostate158("p158_020", 12, (23, 120, 120))
    return folder.path / "prostate158"


@pytest.fixture
def closed_folder(tmp_path, monkeypatch) -> Path:
    """A folder that may not be written; root, whom no permission stops, is answered as anybody else."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    access = os.access

    def answer(path, mode, **more):
        return access(path, mode, **more) and not (mode & os.W_OK and Path(path) == folder)

    monkeypatch.setattr(os, "access", answer)
    return folder


@pytest.fixture
def server():
    """A server of this machine that a test tells what to answer."""
    from hostile_server import HostileServer

    with HostileServer() as running:
        yield running


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A cache and a registry of the user's own, both empty."""
    monkeypatch.setenv("PROXYPROMPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PROXYPROMPT_REGISTRY", str(tmp_path / "own.json"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path


@pytest.fixture
def encode_calls(segmenter, monkeypatch):
    """How many slices each call of the image encoder of the test's ``segmenter`` had."""
    calls, original = [], segmenter.model.backbone.encode

    def counting(images, valid=None):
        calls.append(len(images))
        return original(images, valid)

    monkeypatch.setattr(segmenter.model.backbone, "encode", counting)
    return calls


CACHES = ("_models", "_marks", "encodings", "priors", "_supports")


@pytest.fixture(scope="session")
def kept_caches() -> dict:
    """The caches of an engine that outlive a test: empty at first, and bounded, because there are several workers."""
    from ProxyPromptSegmentLib.worker.model_store import ModelStore

    store = ModelStore(embedding_bytes=256 << 20, support_bytes=64 << 20)
    return {name: vars(store)[name] for name in CACHES}


@pytest.fixture
def warm_engine(monkeypatch, request):
    """Engines share one engine's caches, as the tasks of a worker thread do, unless a test is marked ``cold``.

    So no test waits for what an earlier one has loaded or embedded. The caches are keyed by content: results stay the
    same.
    """
    if request.node.get_closest_marker("cold") or importlib.util.find_spec("torch") is None:
        return
    from ProxyPromptSegmentLib.worker.engine import Engine

    kept_caches = request.getfixturevalue("kept_caches")
    create, forget = Engine.__init__, Engine.forget

    def begin(engine, *args, **keywords) -> None:
        create(engine, *args, **keywords)
        if not args and all(value is None for value in keywords.values()):  # else a test's own models or limits
            vars(engine).update(kept_caches)

    def end(engine) -> None:
        if engine.encodings is not kept_caches["encodings"]:
            forget(engine)

    monkeypatch.setattr(Engine, "__init__", begin)
    monkeypatch.setattr(Engine, "forget", end)
