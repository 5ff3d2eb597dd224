"""Checkpoints: the same model comes back, and everything else is refused in words with nothing executed."""

from __future__ import annotations

import json
import os
import pickle
import signal

import pytest

torch = pytest.importorskip("torch")

from engine_doubles import EVERYTHING, tiny_config
from optional_packages import skip_without_peft
from ProxyPromptSegmentLib import __version__
from ProxyPromptSegmentLib.errors import CheckpointError, OutputError
from ProxyPromptSegmentLib.networks import checkpoints
from ProxyPromptSegmentLib.networks.checkpoints import FORMAT, load_model, read_checkpoint, save_checkpoint, sha256
from ProxyPromptSegmentLib.networks.model import build_model

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.int64)}


def write_with_metadata(path, metadata, tensors=TENSORS):
    """Writes a safetensors file with exactly this metadata."""
    from safetensors.torch import save_file

    save_file(tensors, path, metadata)
    return path


@pytest.fixture(scope="module")
def compact_checkpoint(tmp_path_factory):
    """A compact model of small modules, its checkpoint and the checkpoint's hash."""
    torch.manual_seed(0)
    config = tiny_config(image_size=256, grid=32, channels=128, **EVERYTHING)
    model = build_model("sam-compact", config).eval()
    path = tmp_path_factory.mktemp("checkpoint") / "model.safetensors"
    digest = save_checkpoint(path, model.state_dict(), {"model": model.describe(), "name": "test"})
    return model, path, digest


def test_tensors_and_metadata_come_back_as_they_were(tmp_path):
    path = tmp_path / "new" / "folder" / "x.safetensors"
    columns = torch.arange(12.0).reshape(3, 4).T  # not contiguous
    digest = save_checkpoint(path, {**TENSORS, "c": columns}, {"name": "x", "steps": 3})
    tensors, metadata = read_checkpoint(path, digest)
    assert metadata == {"format": 1, "version": __version__, "name": "x", "steps": 3}
    assert tensors.keys() == {"a", "b", "c"}
    for name, tensor in {**TENSORS, "c": columns}.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)
    assert digest == sha256(path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_model_is_built_again_from_its_checkpoint_alone(compact_checkpoint):
    model, path, digest = compact_checkpoint
    again, metadata = load_model(path, digest)
    assert metadata["name"] == "test"
    assert not again.training
    assert again.describe() == model.describe()
    ours, theirs = model.state_dict(), again.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_model_kept_in_half_precision_comes_back_in_float32(compact_checkpoint, tmp_path):
    model, _, _ = compact_checkpoint
    path = tmp_path / "half.safetensors"
    save_checkpoint(path, {name: t.half() for name, t in model.state_dict().items()}, {"model": model.describe()})
    again, _ = load_model(path)
    assert {p.dtype for p in again.parameters()} == {torch.float32}
    name = "generator.bridge.block1.conv1.weight"
    torch.testing.assert_close(again.state_dict()[name], model.state_dict()[name], atol=1e-3, rtol=1e-3)


def test_a_model_with_adapters_comes_back_with_them(tmp_path):
    skip_without_peft()
    torch.manual_seed(0)
    model = build_model("sam-compact", tiny_config(image_size=256, grid=32, channels=128), lora_rank=2)
    path = tmp_path / "lora.safetensors"
    save_checkpoint(path, model.state_dict(), {"model": model.describe()})
    again, _ = load_model(path)
    assert again.lora_rank == 2
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint .*gone"):
        read_checkpoint(tmp_path / "gone.safetensors")


def test_another_hash_is_refused_before_anything_is_read(compact_checkpoint, monkeypatch):
    _, path, digest = compact_checkpoint
    monkeypatch.setattr("safetensors.safe_open", lambda *_, **__: pytest.fail("the file was read"))
    with pytest.raises(CheckpointError, match=f"{digest[:12]}.*expected 000000000000.*fetch it again"):
        read_checkpoint(path, "0" * 64)


@pytest.mark.parametrize("kept", [0, 5, 60, -1])
def test_a_truncated_file_is_refused(compact_checkpoint, tmp_path, kept):
    _, path, _ = compact_checkpoint
    short = tmp_path / "short.safetensors"
    short.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        load_model(short)


def test_one_changed_byte_is_found_by_the_hash(compact_checkpoint, tmp_path):
    _, path, digest = compact_checkpoint
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    changed = tmp_path / "changed.safetensors"
    changed.write_bytes(content)
    with pytest.raises(CheckpointError, match="SHA-256"):
        load_model(changed, digest)


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_a_pickle_is_refused_and_nothing_in_it_is_executed(tmp_path, writer):
    path, folder = tmp_path / "model.safetensors", tmp_path / "executed"
    with path.open("wb") as file:
        if writer == "pickle":
            pickle.dump({"a": Trap(folder)}, file)
        else:
            torch.save({"a": Trap(folder)}, file)
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        load_model(path)
    assert not folder.exists()
    with path.open("rb") as file:  # the trap works
        if writer == "pickle":
            pickle.load(file)
        else:
            torch.load(file, weights_only=False)
    assert folder.exists()


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}])
def test_safetensors_of_somebody_else_are_refused(tmp_path, metadata):
    path = write_with_metadata(tmp_path / "other.safetensors", metadata)
    with pytest.raises(CheckpointError, match="not a checkpoint of ProxyPromptSegment"):
        read_checkpoint(path)


@pytest.mark.parametrize("text", ["{not json", "[1, 2]", "3", '{"format": "new"}'])
def test_metadata_that_is_no_description_is_refused(tmp_path, text):
    path = write_with_metadata(tmp_path / "strange.safetensors", {"proxyprompt": text})
    with pytest.raises(CheckpointError):
        read_checkpoint(path)


def test_a_file_of_a_newer_version_is_refused(tmp_path):
    path = write_with_metadata(tmp_path / "new.safetensors", {"proxyprompt": json.dumps({"format": FORMAT + 1})})
    with pytest.raises(CheckpointError, match="newer version; update"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda model: model["generator"].update(magic=1), "settings that this version does not know: magic"),
        (lambda model: model["generator"].update(reduce="magic"), "reduce is 'magic'"),
        (lambda model: model["generator"].update(ccm_width="wide"), "does not fit|cannot be built"),
        (lambda model: model.update(backbone="sam-vit-x"), "no backbone 'sam-vit-x'"),
        (lambda model: model.pop("lora_rank"), "lacks the setting 'lora_rank'"),
        (lambda model: model.pop("generator"), "lacks the setting 'generator'"),
        (lambda model: model["generator"].update(ccm_ffn=7), "does not fit its own description"),
    ],
)
def test_a_description_that_cannot_be_followed_is_refused(compact_checkpoint, tmp_path, change, sentence):
    model, _, _ = compact_checkpoint
    described = json.loads(json.dumps(model.describe()))
    change(described)
    path = tmp_path / "changed.safetensors"
    save_checkpoint(path, model.state_dict(), {"model": described})
    with pytest.raises(CheckpointError, match=sentence):
        load_model(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ccm_heads", 7), ("image_size", 0), ("vim_dim", -1), ("vim_depth", 10**7), ("vim_dim", 10**6),
        ("ccm_blocks", 10**8), ("temperature", 0.0), ("temperature", float("nan")), ("temperature", "x"),
        ("ccm_heads", 2.0), ("channels", 10**400),
    ],
)  # fmt: skip
def test_sizes_that_no_network_has_are_refused_before_one_is_built(compact_checkpoint, tmp_path, key, value):
    described = json.loads(json.dumps(compact_checkpoint[0].describe()))
    described["generator"][key] = value
    path = write_with_metadata(
        tmp_path / "x.safetensors", {"proxyprompt": json.dumps({"format": 1, "model": described})}
    )
    with pytest.raises(CheckpointError, match=r"x\.safetensors"):
        load_model(path)


@pytest.mark.parametrize(
    "metadata",
    [
        "[" * 100_000 + "]" * 100_000,
        '{"name": "a\\nb"}',
        json.dumps({"name": "A" * 5000}),
        '{"name": "\\ud800"}',
        '{"name": 7}',
    ],
    ids=("nested", "two lines", "long", "half a letter", "a number"),
)
def test_a_name_is_a_line_of_text(tmp_path, metadata):
    path = write_with_metadata(tmp_path / "x.safetensors", {"proxyprompt": metadata})
    with pytest.raises(CheckpointError, match="cannot be read|not one line|metadata is invalid"):
        read_checkpoint(path)


@pytest.mark.parametrize("wrong", [torch.full((2, 3), float("nan")), torch.full((2, 3), 1j)])
def test_weights_that_are_no_numbers_are_refused(tmp_path, wrong):
    path = write_with_metadata(tmp_path / "x.safetensors", {"proxyprompt": "{}"}, {**TENSORS, "c": wrong})
    with pytest.raises(CheckpointError, match="complex, NaN or infinite .c"):
        read_checkpoint(path)


def test_tensors_without_a_model_are_refused(tmp_path):
    path = tmp_path / "tensors.safetensors"
    save_checkpoint(path, TENSORS, {})
    with pytest.raises(CheckpointError, match="lacks the setting 'model'"):
        load_model(path)


@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_a_model_whose_tensors_differ_is_refused(compact_checkpoint, tmp_path, change):
    model, _, _ = compact_checkpoint
    tensors = dict(model.state_dict())
    name = "generator.bridge.block1.conv1.weight"
    if change == "missing":
        del tensors[name]
    elif change == "unknown":
        tensors["generator.extra"] = torch.ones(1)
    else:
        tensors[name] = tensors[name][:1]
    path = tmp_path / "changed.safetensors"
    save_checkpoint(path, tensors, {"model": model.describe()})
    with pytest.raises(CheckpointError, match="does not fit its own description"):
        load_model(path)


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    before = save_checkpoint(path, TENSORS, {"name": "old"})

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "sha256", fail)  # after everything was written
    with pytest.raises(OutputError, match="No space left on device.*free some space"):
        save_checkpoint(path, TENSORS, {"name": "new"})
    monkeypatch.undo()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert sha256(path) == before


def test_a_disk_that_takes_no_more_bytes_is_reported_and_cleaned(tmp_path):
    resource = pytest.importorskip("resource")
    path, limits = tmp_path / "x.safetensors", resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, limits[1]))
        with pytest.raises(OutputError, match="cannot be written"):
            save_checkpoint(path, {"large": torch.zeros(1 << 20)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_reported(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        save_checkpoint(tmp_path / "file" / "x.safetensors", TENSORS, {})


def test_an_official_state_dict_is_loaded_below_the_adapters(tmp_path):
    from ProxyPromptSegmentLib.networks.model import build_model
    from ProxyPromptSegmentLib.networks.official import read_official

    donor = build_model("sam-compact").backbone.sam
    torch.save(donor.state_dict(), tmp_path / "sam.pth")
    made = build_model("sam-compact", "robust", lora_rank=4, base=read_official(tmp_path / "sam.pth"))
    image = torch.rand(1, 3, 256, 256)
    with torch.no_grad():
        torch.testing.assert_close(
            made.backbone.sam.image_encoder(image), donor.image_encoder(image), atol=1e-5, rtol=1e-5
        )
    assert any("lora_" in name for name, parameter in made.named_parameters() if parameter.requires_grad)


def test_official_weights_of_another_size_are_refused_with_a_sentence(tmp_path):
    from ProxyPromptSegmentLib.networks.model import build_model

    with pytest.raises(CheckpointError, match="not those of sam-compact"):
        build_model("sam-compact", base={"image_encoder.pos_embed": torch.zeros(1)})


def test_a_pickle_in_place_of_an_official_checkpoint_is_not_executed(tmp_path):
    import os
    import pickle

    from ProxyPromptSegmentLib.networks.official import read_official

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    (tmp_path / "sam.pth").write_bytes(pickle.dumps({"a": Evil()}))
    with pytest.raises(CheckpointError, match="not executed"):
        read_official(tmp_path / "sam.pth")
    assert not (tmp_path / "executed").exists()


def test_an_old_pickle_with_a_damaged_storage_is_refused(tmp_path):
    import io
    import re

    from ProxyPromptSegmentLib.networks.official import read_official

    written = io.BytesIO()
    torch.save({"a": torch.zeros(30), "model": 1}, written, _use_new_zipfile_serialization=False)
    data = bytearray(written.getvalue())
    data[list(re.finditer(rb"\d{12,}", bytes(data)))[-1].start()] ^= 1
    (tmp_path / "b.pth").write_bytes(data)
    with pytest.raises(CheckpointError, match="b.pth"):
        read_official(tmp_path / "b.pth")
