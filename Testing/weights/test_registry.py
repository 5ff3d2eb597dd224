"""The registry: what it names, what it refuses to name, and the commands that work with it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

from download_cases import CONTENT, an_entry, files
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind
from ProxyPromptSegmentLib.weights import registry
from ProxyPromptSegmentLib.weights.cache import ModelCache
from ProxyPromptSegmentLib.weights.catalogue import FORMAT, read_entries
from ProxyPromptSegmentLib.weights.entry import ModelEntry
from ProxyPromptSegmentLib.weights.registry import all_entries, checkpoint_of, find, read_registry, resolve
from ProxyPromptSegmentLib.wording import size_text

ROOT = Path(__file__).resolve().parents[2]
HASH = hashlib.sha256(CONTENT).hexdigest()


def write_own(home: Path, *entries: object, number: int = FORMAT) -> None:
    (home / "own.json").write_text(json.dumps({"format": number, "models": entries}), encoding="utf-8")


def own_entry(url: str = "https://h/w", **changes: object) -> dict[str, object]:
    known = {"sha256": HASH, "bytes": len(CONTENT), "licence": "CC0", "fits": "sam-vit-b"}
    return {"name": "mine", "kind": "backbone", "file": "w.pth", "urls": [url], **known, **changes}


# --- what the program ships ----------------------------------------------------------------------------------------


def test_every_shipped_entry_is_complete_and_says_who_vouches_for_its_hash() -> None:
    entries = read_entries(registry.models_folder() / "registry.json")
    assert {entry.kind for entry in entries} >= {"backbone", "model"}
    for entry in entries:
        assert entry.sha256 and entry.bytes and entry.fits and entry.package, entry.name
        assert entry.licence and entry.citation and entry.trained_on and entry.description and entry.hash_source
        assert entry.embedded or entry.urls and all(url.startswith("https://") for url in entry.urls), entry.name
        assert "project" in entry.hash_source if entry.embedded else "third-party" in entry.hash_source
    assert len({entry.sha256 for entry in entries}) == len(entries)


def test_the_official_weights_are_all_there_with_sams_own_names() -> None:
    names = {entry.name for entry in all_entries() if entry.kind == "backbone"}
    sizes = {
        f"sam{version}-hiera-{size}" for version in ("2", "2.1") for size in ("tiny", "small", "base-plus", "large")
    }
    assert names >= {"sam-vit-b", "sam-vit-l", "sam-vit-h", "medsam-vit-b", *sizes}
    for letter in "blh":
        entry = find(f"sam-vit-{letter}")
        assert entry.file == f"sam_vit_{letter}_{entry.md5_prefix}.pth" and len(entry.md5_prefix) == 6


def test_an_entry_comes_back_from_its_own_words() -> None:
    for entry in all_entries():
        assert ModelEntry.from_dict(json.loads(json.dumps(entry.to_dict()))) == entry


def test_the_embedded_models_are_those_beside_the_registry() -> None:
    assert all(entry.embedded and registry.checkpoint_of(entry).is_file() for entry in read_registry())


# --- what cannot be named ------------------------------------------------------------------------------------------

HOSTILE_FILES = [
    "../w.pth", "/etc/passwd", "..", ".", "", "a/b.pth", "a\\b.pth", "C:w.pth", "C:\\w.pth", "//host/w.pth", "~/w.pth",
    "w..pth", ".w.pth", "-w.pth", "nul.pth", "CON.pt", "com1.safetensors", "LPT9.pth", "w.pth.", "w.pth ", " w.pth",
    "w\n.pth", "w\x00.pth", "wü.pth", "w.pth\n", "a" * 200 + ".pth", "w.pkl", "w.exe", "w", "${HOME}.pth", "w*.pth",
]  # fmt: skip
HOSTILE_NAMES = [
    "../x",
    "a/b",
    "a\\b",
    "..",
    "",
    "A",
    "con",
    "nul",
    "x ",
    "x\n",
    ".x",
    "x.",
    "x..y",
    "x" * 70,
    "lpt1.x",
]


@pytest.mark.parametrize("file", HOSTILE_FILES)
def test_a_file_that_is_no_plain_name_is_refused(file) -> None:
    with pytest.raises(CheckpointError, match="not a plain file name and could lie outside|must end with"):
        an_entry(file=file)


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_name_that_is_no_plain_name_is_refused(name) -> None:
    with pytest.raises(CheckpointError, match="cannot be a model's name"):
        an_entry(name=name)


def test_whatever_can_be_named_lies_in_the_cache(tmp_path) -> None:
    cache = ModelCache(tmp_path)
    for entry in [*all_entries(), an_entry(name="a+b_c-1.2", file="A+b_c-1.2.PTH")]:
        assert cache.path_of(entry).resolve().parent.parent == tmp_path.resolve()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"kind": "virus"}, "kind 'virus'; allowed is one of backbone, generator, model"),
        ({"kind": "model"}, r"file 'w.pth'; allowed is a .safetensors file, which cannot run code, for a model"),
        ({"sha256": "12"}, "sha256 '12'; allowed is 64 hexadecimal digits"),
        ({"sha256": 12}, "sha256 is 12; it must be text"),
        ({"bytes": -1}, "bytes -1; allowed is an integer above 0"),
        ({"bytes": True}, "bytes is true; it must be a whole number"),
        ({"bytes": "9"}, 'bytes is "9"; it must be a whole number'),
        ({"licence": 7}, "licence is 7; it must be text"),
        ({"fits": ""}, "fits ''; allowed is the name of the backbone"),
        ({"md5_prefix": "xyz"}, "md5_prefix 'xyz'"),
        ({"urls": "https://h/w"}, 'urls is "https://h/w"; it must be a list'),
        ({"urls": [3]}, r"urls\[0\] is 3; it must be text"),
        ({"urls": ["ftp://h/w"]}, "address 'ftp://h/w'; allowed are https"),
        ({"urls": ["https:///w"]}, "address"),
        ({"urls": ["https://h"]}, "address"),
        ({"urls": ["https://h/w w"]}, "address"),
        ({"urls": ["https://[h/w"]}, "address"),
        ({"urls": ["javascript:1"]}, "address"),
        ({"size": 3}, "unknown keys: size; known are"),
        ({"origin": "shipped"}, "unknown keys: origin"),
        ({"needs": {"shell": "rm"}}, "unknown keys: needs.shell"),
        ({"needs": [1]}, "needs is .1.; it must be an object"),
        ({"file": None}, "file is null; it must be text"),
    ],
)
def test_an_entry_that_is_not_allowed_is_refused_with_its_field(changes, sentence) -> None:
    with pytest.raises(CheckpointError, match=sentence):
        ModelEntry.from_dict(own_entry(**changes))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ('{"format": 2}', "is damaged: models is missing"),
        ('{"format": "2", "models": []}', 'is damaged: format is "2"; it must be a whole number'),
        ('{"format": 2, "models": {}}', "is damaged: models is {}; it must be a list"),
        ('{"format": 99, "models": []}', "has the format 99; update"),
        ('{"format": 2, "models": [3]}', "is refused: an entry of the registry is 3"),
        ("[" * 100_000, "is damaged"),
        (json.dumps({"format": 2, "models": [own_entry(), own_entry()]}), "two entries named 'mine'"),
    ],
)
def test_a_registry_that_is_none_is_a_sentence(tmp_path, text, sentence) -> None:
    (tmp_path / "registry.json").write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match=sentence):
        all_entries(tmp_path)


# --- a user's own entries ------------------------------------------------------------------------------------------


def test_a_user_adds_entries_in_a_file_of_their_own(home) -> None:
    assert "mine" not in {entry.name for entry in all_entries()}
    write_own(home, own_entry())
    assert find("mine").origin == str(home / "own.json")
    assert find("sam-compact").origin == "shipped"


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (own_entry(name="sam-vit-b"), "has an entry 'sam-vit-b', but this name belongs to a model of the program"),
        (own_entry(file="../../evil.pth"), "is refused: .*could lie outside the model's folder"),
        (own_entry(embedded=True, name="x"), "marks 'x' as embedded"),
        ({"name": "x"}, "is refused: .*file is missing"),
    ],
)
def test_a_users_mistake_is_warned_of_and_the_shipped_models_stay_as_they_are(home, entry, sentence, caplog) -> None:
    before = all_entries()
    write_own(home, entry)
    with caplog.at_level(logging.WARNING):
        assert all_entries() == before
    assert len(caplog.records) == 1
    assert re.search(sentence, caplog.text)
    assert resolve("sam-compact")[0].name == "sam-compact.safetensors"


def test_a_hostile_path_in_a_registry_writes_nothing_anywhere(home, server, capsys) -> None:
    write_own(home, own_entry(server.serve("/w", CONTENT), file="../../evil.pth"))
    assert main(["models", "download", "mine", "--yes", "--allow-http"]) == 7
    err = capsys.readouterr().err
    assert "could lie outside" in err and "there is no model 'mine'" in err
    assert server.asked == [] and not list(home.rglob("*evil*"))


# --- resolving -----------------------------------------------------------------------------------------------------


def test_weights_that_are_not_here_say_how_they_can_be_had(home) -> None:
    write_own(home, own_entry(name="net", kind="model", file="n.safetensors"))
    with pytest.raises(CheckpointError, match=r"not on this machine \(0 MB\)") as caught:
        resolve("net")
    assert caught.value.remedy == Remedy(kind=RemedyKind.DOWNLOAD_MODEL, model="net")
    with pytest.raises(CheckpointError, match="is an image backbone alone") as caught:
        resolve("sam-vit-b")
    assert caught.value.remedy.kind is RemedyKind.CHOOSE_MODEL


def test_downloaded_weights_are_found_by_name_and_a_damaged_file_is_not_loaded(home) -> None:
    write_own(home, own_entry(name="net", kind="model", file="n.safetensors"))
    path = ModelCache().path_of(find("net"))
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert resolve("net") == (path, HASH)
    path.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(CheckpointError, match="damaged or another file") as caught:
        resolve("net")
    assert caught.value.remedy == Remedy(kind=RemedyKind.REPLACE_MODEL, model="net")


def _registry(folder, **entry: object):
    entry = {"name": "m", "file": "m.safetensors", **entry}
    (folder / "registry.json").write_text(json.dumps({"format": 1, "models": [entry]}), encoding="utf-8")
    return folder


def test_a_registered_model_is_found_by_name_once_its_hash_is_right(tmp_path) -> None:
    (tmp_path / "m.safetensors").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    assert resolve("m", _registry(tmp_path, sha256=digest)) == (
        (tmp_path / "m.safetensors").resolve(),
        digest,
    )
    with pytest.raises(CheckpointError, match="SHA-256"):
        resolve("m", _registry(tmp_path, sha256="1" + digest[1:]))


@pytest.mark.parametrize("file", ["../m.safetensors", "/etc/passwd", "sub/../../m.safetensors"])
def test_a_registry_that_points_out_of_its_folder_is_refused(tmp_path, file) -> None:
    with pytest.raises(CheckpointError, match="outside"):
        checkpoint_of(read_registry(_registry(tmp_path, file=file))[0], tmp_path)


def test_a_damaged_or_missing_registry_is_a_sentence(tmp_path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        resolve("m", tmp_path)
    (tmp_path / "registry.json").write_text("[]")
    with pytest.raises(CheckpointError, match="damaged"):
        resolve("m", tmp_path)


# --- the commands --------------------------------------------------------------------------------------------------


def test_download_shows_size_and_licence_and_asks_before(home, server, capsys, monkeypatch) -> None:
    write_own(home, own_entry(server.serve("/w", CONTENT)))
    words = ["models", "download", "mine", "--allow-http"]
    assert main(words) == 2
    err = capsys.readouterr().err
    assert "mine: w.pth, 300.0 kB, licence CC0" in err and "add --yes to agree" in err
    for answer, code in (("n\n", 2), ("", 2), ("y\n", 0)):
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        assert main(words) == code
        said = capsys.readouterr()
        assert "Download and accept the licences? [y/N]" in said.err
        assert len(server.asked) == (1 if code == 0 else 0)
    assert files(ModelCache()) == {"mine/w.pth": CONTENT}
    assert said.out == f"mine: {home / 'cache' / 'mine' / 'w.pth'}\n"


class Terminal:
    """A user at a keyboard."""

    def __init__(self, line: str) -> None:
        self.line = line

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self.line


def test_download_as_json_prints_the_paths_and_nothing_else(home, server, capsys) -> None:
    write_own(home, own_entry(server.serve("/w", CONTENT)))
    assert main(["models", "download", "mine", "--yes", "--allow-http", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == [{"name": "mine", "path": str(home / "cache" / "mine" / "w.pth")}]
    assert said.err == ""
    assert main(["models", "download", "sam-compact", "--json"]) == 0  # embedded: nothing to ask, nothing to fetch
    assert json.loads(capsys.readouterr().out)[0]["path"].endswith("sam-compact.safetensors")


def test_http_needs_its_own_consent_on_the_command_line(home, server, capsys) -> None:
    write_own(home, own_entry(server.serve("/w", CONTENT)))
    assert main(["models", "download", "mine", "--yes"]) == 7
    assert "only https is used. Add --allow-http" in capsys.readouterr().err
    assert server.asked == []


def test_a_generators_base_weights_are_downloaded_with_it_and_first(home, server, capsys) -> None:
    generator = {"kind": "generator", "file": "g.safetensors", "needs": {"base": "mine"}, "name": "prompts"}
    other = {"sha256": hashlib.sha256(b"g").hexdigest(), "bytes": 1}
    write_own(home, own_entry(server.serve("/w", CONTENT)), own_entry(server.serve("/g", b"g"), **generator, **other))
    assert main(["models", "download", "prompts", "--yes", "--allow-http"]) == 0
    assert [asked.path for asked in server.asked] == ["/w", "/g"]
    assert capsys.readouterr().out.index("mine:") < 5


def test_ctrl_c_keeps_the_part_says_so_and_the_same_command_goes_on(home, server, capsys) -> None:
    write_own(home, own_entry(server.serve("/w", CONTENT, pause=0.05), licence="CC0"))
    words = ["models", "download", "mine", "--yes", "--allow-http"]
    command = [sys.executable, "-m", "ProxyPromptSegmentLib", *words, "--progress"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    seen = ""
    while "B/s" not in seen and process.poll() is None:
        seen += process.stderr.read(1)
    process.terminate() if os.name == "nt" else process.send_signal(2)
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 130, seen + rest
    assert "mine [" in seen and " of 300.0 kB, " in seen
    assert "stopping; what was received is kept" in rest and "of mine are kept; the same command resumes there" in rest
    kept = ModelCache().kept(find("mine"))
    assert 0 < kept < len(CONTENT)
    assert main(["models", "list"]) == 0
    assert "received, download can be resumed" in capsys.readouterr().out
    server.serve("/w", CONTENT)
    assert main(words) == 0
    assert server.asked[-1].start == kept and files(ModelCache()) == {"mine/w.pth": CONTENT}


def test_import_takes_what_it_knows_and_names_what_it_does_not(home, capsys) -> None:
    write_own(home, own_entry())
    stick = home / "stick"
    stick.mkdir()
    (stick / "renamed.dat").write_bytes(CONTENT)
    (stick / "other.pth").write_bytes(b"other")
    assert main(["models", "import", str(stick)]) == 0
    said = capsys.readouterr()
    assert HASH in said.out and "other.pth does not match any known weights" in said.err
    assert files(ModelCache()) == {"mine/w.pth": CONTENT}
    (stick / "renamed.dat").unlink()
    assert main(["models", "import", str(stick), "--json"]) == 7
    assert "none of the known weights were found; files are recognised by their hash" in capsys.readouterr().err


def test_verify_remove_and_path_work_on_what_is_here(home, capsys) -> None:
    write_own(home, own_entry())
    (home / "w").write_bytes(CONTENT)
    assert main(["models", "path", "mine"]) == 7
    assert "models download mine" in capsys.readouterr().err
    assert main(["models", "import", str(home / "w")]) == 0
    capsys.readouterr()
    assert main(["models", "path", "mine"]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path.read_bytes() == CONTENT
    assert main(["models", "path"]) == 0
    assert Path(capsys.readouterr().out.strip()) == home / "cache"
    assert main(["models", "verify"]) == 0
    out = capsys.readouterr().out
    assert "mine: verified" in out and "sam-compact: verified" in out
    path.write_bytes(CONTENT[:-1] + b"x")
    assert main(["models", "verify", "mine", "sam-vit-b", "--json"]) == 7
    said = capsys.readouterr()
    assert [result["right"] for result in json.loads(said.out)] == [False, False]
    assert "verification failed: mine, sam-vit-b" in said.err
    assert main(["models", "remove", "mine"]) == 0
    assert "300.0 kB freed" in capsys.readouterr().out
    assert files(ModelCache()) == {} and not path.parent.exists()
    assert main(["models", "remove", "sam-compact"]) == 7
    assert "comes with the program" in capsys.readouterr().err


def test_list_tells_everything_about_a_name(home, capsys) -> None:
    assert main(["models", "list", "medsam-vit-b"]) == 0
    out = capsys.readouterr().out
    assert "34b34b78" in out and "third-party" in out and "CC-BY-4.0" in out and "zenodo.org" in out
    assert main(["models", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {"name", "sha256", "bytes", "licence", "installed", "path", "urls"} <= listed[0].keys()
    assert main(["models", "list", "nothing"]) == 7


@pytest.mark.parametrize("words", [[], ["download"], ["import"], ["burn"], ["list", "--yes"], ["publish"]])
def test_wrong_words_are_one_line_and_exit_code_2(words, capsys) -> None:
    assert main(["models", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# --- a file of which nobody knows the hash -------------------------------------------------------------------------


def test_a_pickle_in_place_of_weights_is_refused_and_nothing_in_it_is_executed(home, capsys) -> None:
    pytest.importorskip("torch")

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(home / "executed"),)

    write_own(home, own_entry(sha256=None, bytes=None))
    (home / "w.pth").write_bytes(pickle.dumps({"a": Trap()}))
    assert main(["models", "import", str(home / "w.pth"), "--as", "mine"]) == 7
    assert "was not executed" in capsys.readouterr().err
    assert not (home / "executed").exists() and not (home / "cache").exists()
    pickle.loads((home / "w.pth").read_bytes())
    assert (home / "executed").exists()  # the trap works


def test_tensors_of_another_architecture_are_refused_although_no_hash_is_known(home, capsys) -> None:
    torch = pytest.importorskip("torch")
    write_own(home, own_entry(sha256=None, bytes=None))
    torch.save({"a": torch.zeros(3)}, home / "w.pth")
    assert main(["models", "import", str(home / "w.pth"), "--as", "mine"]) == 7
    assert "these are not the tensors of 'sam-vit-b': 1 tensors instead of 314" in capsys.readouterr().err
    assert main(["models", "import", str(home / "w.pth"), "--as", "sam-vit-b"]) == 7
    assert "the hash of 'sam-vit-b' is known" in capsys.readouterr().err
    assert main(["models", "import", str(home), "--as", "mine"]) == 2
    assert not (home / "cache").exists()


# --- what is imported, and what people see -------------------------------------------------------------------------


def test_listing_models_imports_nothing_heavy() -> None:
    heavy = "('torch', 'SimpleITK', 'scipy', 'matplotlib', 'safetensors', 'requests')"
    code = (
        "import sys; from ProxyPromptSegmentLib.cli import main; code = main(['models', 'list']); "
        f"print('heavy:', *[name for name in {heavy} if name in sys.modules]); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("heavy:")


def test_sizes_are_said_as_people_say_them() -> None:
    assert [size_text(n) for n in (0, 999, 1000, 375_042_383, 2_564_550_879)] == [
        "0 bytes", "999 bytes", "1.0 kB", "375.0 MB", "2.6 GB"
    ]  # fmt: skip
