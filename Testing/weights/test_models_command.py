"""The commands that list, download, import, verify and remove models."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from download_cases import CONTENT, HASH, files, own_entry, write_own
from ProxyPromptSegmentLib.cli import main
from ProxyPromptSegmentLib.weights.cache import ModelCache
from ProxyPromptSegmentLib.weights.registry import find, models_folder
from ProxyPromptSegmentLib.wording import size_text

ROOT = Path(__file__).resolve().parents[2]


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


@pytest.mark.parametrize(
    ("described", "words"),
    [
        ("{}", "lacks the setting"),
        ("[" * 100_000, "cannot be read as a checkpoint"),
        (None, "does not fit its own description"),  # the words of an embedded model around other tensors
    ],
    ids=("junk", "nested", "another model's words"),
)
def test_import_as_compares_tensors_of_our_own_kinds_with_what_the_file_describes(home, capsys, described, words):
    pytest.importorskip("torch")
    from safetensors import safe_open
    from safetensors.numpy import save_file

    write_own(home, own_entry(kind="model", file="mine.safetensors", fits="", sha256=None, bytes=None, urls=[]))
    with safe_open(models_folder() / "sam-compact.safetensors", "np") as file:
        whole = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        said = {"proxyprompt": described or file.metadata()["proxyprompt"]}
    name = next(name for name, value in whole.items() if value.ndim == 4)
    for n, tensors in enumerate(
        ({"a": np.zeros(1, np.float32)}, whole | {name: whole[name][..., :1]}, whole | {"more": np.ones(1, np.float32)})
    ):
        save_file(tensors, home / f"{n}.safetensors", said)
        assert main(["models", "import", str(home / f"{n}.safetensors"), "--as", "mine"]) == 7
        assert words in capsys.readouterr().err
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
