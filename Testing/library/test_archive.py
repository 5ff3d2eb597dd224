"""Cases as a zip file: what is given away, and what is not believed when it comes back."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
import struct
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from library_cases import a_case, every_byte, files_of
from ProxyPromptSegmentLib.errors import InputError, OutputError, UsageError
from ProxyPromptSegmentLib.library.archive import export_zip, import_zip
from ProxyPromptSegmentLib.library.header_check import check_nrrd
from ProxyPromptSegmentLib.library.store import SupportLibrary
from ProxyPromptSegmentLib.progress import CancelToken, Progress

SIZE = (20, 16, 6)


@pytest.fixture
def library(tmp_path: Path) -> SupportLibrary:
    return SupportLibrary(tmp_path / "library")


@pytest.fixture
def other(tmp_path: Path) -> SupportLibrary:
    return SupportLibrary(tmp_path / "other")


@pytest.fixture
def exported(library: SupportLibrary, tmp_path: Path) -> Path:
    """A zip file with two cases."""
    library.save(*a_case(), title="Gland", annotator="A. N.", modality="MR T2", notes="n", slices=[3], identity="1")
    library.save(*a_case(1), title="Second", identifying={"PatientName": "DOE^JANE"})
    path = tmp_path / "cases.zip"
    assert export_zip(library, library.entries(), path) == path
    return path


class Steps(Progress):
    """Counts, and may cancel on the way."""

    def __init__(self, cancel: CancelToken | None = None) -> None:
        self.notes: list[str] = []
        self.cancel = cancel

    def step(self, n: int = 1, note: str = "") -> None:
        self.notes.append(note)
        if self.cancel:
            self.cancel.cancel()


def rewritten(path: Path, change: Callable[[str, bytes], bytes | None], **more: bytes) -> Path:
    """The zip file with members changed, left out (None) or added."""
    result = path.with_name("changed.zip")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(result, "w") as target:
        for info in source.infolist():
            if (data := change(info.filename, source.read(info))) is not None:
                target.writestr(info.filename, data)
        for name, data in more.items():
            target.writestr(name, data)
    return result


def with_member(path: Path, name: str, data: bytes = b"x", mode: int = 0) -> Path:
    result = path.with_name("changed.zip")
    shutil.copy(path, result)
    info = zipfile.ZipInfo("placeholder")
    info.filename = info.orig_filename = name
    info.external_attr = mode << 16
    with zipfile.ZipFile(result, "a") as target:
        target.writestr(info, data)
    return result


# --- there and back ------------------------------------------------------------------------------------------------


def test_cases_come_back_as_they_were(library, other, exported) -> None:
    steps = Steps()
    answers = import_zip(other, exported, steps)
    assert [(a.title, a.refusal, a.already_there) for a in answers] == [("Gland", "", False), ("Second", "", False)]
    assert steps.notes == ["Gland", "Second"]
    assert [bool(entry.patient) for entry in other.entries()] == [True, False]
    for given, found in zip(library.entries(), other.entries(), strict=True):
        same = replace(found, id=given.id, folder=given.folder, saved=given.saved, identifying=given.identifying)
        assert same == given
        before, after = library.load(given), other.load(found)
        np.testing.assert_array_equal(before.volume.array, after.volume.array)
        assert other.thumbnail_path(found)


def test_what_names_the_patient_goes_along_only_if_asked(library, other, exported, tmp_path) -> None:
    assert b"DOE" not in exported.read_bytes()
    import_zip(other, exported)
    assert b"DOE" not in every_byte(other)
    export_zip(library, library.entries(), tmp_path / "all.zip", with_identifying=True)
    with zipfile.ZipFile(tmp_path / "all.zip") as file:
        assert "DOE^JANE" in file.read("cases/case-0002/case.json").decode()
    third = SupportLibrary(tmp_path / "third")
    import_zip(third, tmp_path / "all.zip")
    assert third.entries()[1].identifying == {"PatientName": "DOE^JANE"}


def test_a_zip_file_tells_no_dates_of_files_and_no_folder_names(library, exported) -> None:
    with zipfile.ZipFile(exported) as file:
        assert {info.date_time for info in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert not any(entry.id in name for entry in library.entries() for name in file.namelist())


def test_what_is_already_there_is_told(library, exported) -> None:
    before = files_of(library)
    answers = import_zip(library, exported)
    assert [a.already_there for a in answers] == [True, True] and answers[0].entry.title == "Gland"
    assert files_of(library) == before


def test_an_export_that_is_cancelled_or_impossible_leaves_no_file(library, exported, tmp_path) -> None:
    cancel = CancelToken()
    assert export_zip(library, library.entries(), tmp_path / "x.zip", progress=Steps(cancel), cancel=cancel) is None
    with pytest.raises(OutputError, match="no supported suffix"):
        export_zip(library, library.entries(), tmp_path / "x.tar")
    with pytest.raises(UsageError, match="at least one"):
        export_zip(library, [], tmp_path / "x.zip")
    (library.entries()[1].folder / "image.nrrd").write_bytes(b"")
    with pytest.raises(InputError, match="'Second' is damaged"):
        export_zip(library, library.entries(), tmp_path / "x.zip")
    assert not [p.name for p in tmp_path.iterdir() if "x" in p.name and p.name != "exported"]


def test_an_import_that_is_cancelled_keeps_what_is_done(other, exported) -> None:
    cancel = CancelToken()
    answers = import_zip(other, exported, Steps(cancel), cancel)
    assert [a.title for a in answers] == ["Gland"] == [e.title for e in other.entries()]


# --- distrust ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "../outside.txt",
        "cases/../../outside.txt",
        "cases/case-0001/../../../outside.txt",
        "/outside.txt",
        "C:/outside.txt",
        "C:outside.txt",
        "cases\\..\\..\\outside.txt",
        "\\\\server\\share\\outside.txt",
        "cases/../../other/case.json",
    ],
)
def test_names_that_lead_elsewhere_are_refused_before_anything_is_taken(other, exported, tmp_path, name) -> None:
    path = with_member(exported, name)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="leads outside"):
        import_zip(other, path)
    assert sorted(tmp_path.rglob("*")) == before and not other.folder.exists()


def test_links_are_refused(other, exported) -> None:
    with pytest.raises(InputError, match="leads outside"):
        import_zip(other, with_member(exported, "cases/case-0003/image.nrrd", b"/etc/passwd", 0o120777))
    assert not other.folder.exists()


def test_a_member_that_is_there_twice_is_refused(other, exported) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        path = with_member(exported, "cases/case-0001/case.json")
    with pytest.raises(InputError, match="twice"):
        import_zip(other, path)


def test_foreign_files_do_not_get_into_the_library(other, exported) -> None:
    more = {
        "cases/case-0001/run.sh": b"#!/bin/sh",
        "cases/case-0001/thumbnail.png": b"not a picture",
        "__MACOSX/cases/._x": b"x",
        "readme.txt": b"x",
        "cases/case-0001/embedding-0123456789abcdef.npz": b"x",
    }
    answers = import_zip(other, rewritten(exported, lambda n, d: None if "thumbnail" in n else d, **more))
    assert [a.refusal for a in answers] == ["", ""]
    assert {p.split("/")[1] for p in files_of(other) if "/" in p} == {
        "case.json", "image.nrrd", "masks.seg.nrrd", "thumbnail.png",
    }  # fmt: skip
    assert other.thumbnail_path(other.entries()[0]).read_bytes().startswith(b"\x89PNG")


def changed(what: str, change: Callable[[bytes], bytes | None]) -> Callable[[str, bytes], bytes | None]:
    return lambda name, data: change(data) if name == f"cases/case-0001/{what}" else data


def field(**values: object) -> Callable[[bytes], bytes]:
    return lambda data: json.dumps({**json.loads(data), **values}).encode()


def other_voxel(data: bytes) -> bytes:
    head, gap, packed = data.partition(b"\n\n")
    voxels = bytearray(gzip.decompress(packed))
    voxels[-1] ^= 1
    return head + gap + gzip.compress(bytes(voxels))


def elsewhere(data: bytes) -> bytes:
    head, gap, _ = data.partition(b"\n\n")
    return head + b"\ndata file: /etc/passwd" + gap


def elsewhere_without_a_blank(data: bytes) -> bytes:
    head, gap, _ = data.partition(b"\n\n")
    return head + b"\nData File:/etc/passwd" + gap


def added(line: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data.replace(b"\n\n", b"\n" + line + b"\n\n", 1)


def swollen(data: bytes) -> bytes:
    head, gap, packed = data.partition(b"\n\n")
    return head + gap + gzip.compress(gzip.decompress(packed) + bytes(64 << 20))


def huge(data: bytes) -> bytes:
    return data.replace(b"sizes: 20 16 6", b"sizes: 99999 99999 99999")


@pytest.mark.parametrize(
    ("what", "change", "words"),
    [
        ("image.nrrd", other_voxel, "image of the case 'Gland' changed since it was saved .its hash differs"),
        ("masks.seg.nrrd", other_voxel, "masks of the case 'Gland' changed since it was saved .its hash differs"),
        ("case.json", field(voxels_sha256="0" * 64), "its hash differs"),
        ("case.json", field(format_version=2), "newer version of the program"),
        ("case.json", field(format="something"), "does not describe a support case"),
        ("case.json", lambda d: b"{", "damaged"),
        ("case.json", lambda d: None, "case.json is missing"),
        ("image.nrrd", lambda d: None, "image.nrrd of the case 'Gland' is missing"),
        ("image.nrrd", lambda d: d[:-100], "should contain .* bytes of voxels"),
        ("image.nrrd", lambda d: b"\x89PNG", "is not a NRRD file"),
        ("image.nrrd", elsewhere, "refers to voxels in another file"),
        ("masks.seg.nrrd", elsewhere, "refers to voxels in another file"),
        ("image.nrrd", elsewhere_without_a_blank, "refers to voxels in another file"),
        ("masks.seg.nrrd", elsewhere_without_a_blank, "refers to voxels in another file"),
        ("image.nrrd", added(b"A" * 5000), "a line of it is too long"),
        ("image.nrrd", added(b'space units: "' + b"A" * 100_000 + b'" "b" "c"'), "a line of it is too long"),
        ("image.nrrd", swollen, "but has more"),
        ("masks.seg.nrrd", swollen, "but has more"),
        ("image.nrrd", huge, "has 99999x99999x99999 voxels"),
        ("case.json", field(slices=[0]), "no annotation"),
    ],
)
def test_a_bad_case_is_refused_in_words_and_the_good_one_taken(other, exported, what, change, words) -> None:
    path = rewritten(exported, changed(what, change))
    bad, good = import_zip(other, path)
    assert bad.entry is None and good.entry is not None and not good.refusal
    assert re.search(words, bad.refusal), bad.refusal
    assert ".partial" not in bad.refusal
    assert [e.title for e in other.entries()] == ["Second"]
    assert {p.split("/")[0] for p in files_of(other)} == {good.entry.id}, "nothing half-imported stays"


def test_a_member_with_a_damaged_byte_is_refused(other, exported) -> None:
    data = bytearray(exported.read_bytes())
    with zipfile.ZipFile(exported) as file:
        info = file.getinfo("cases/case-0001/image.nrrd")
    data[info.header_offset + 30 + len(info.filename) + info.file_size // 2] ^= 0xFF
    exported.write_bytes(bytes(data))
    bad, good = import_zip(other, exported)
    assert "cannot be unpacked" in bad.refusal and good.entry


def test_a_hundred_thousand_keys_in_a_header_take_no_time(other, exported) -> None:
    keys = b"\n".join(b"key%d:=v" % n for n in range(100_000))
    begun = time.process_time()
    import_zip(other, rewritten(exported, changed("image.nrrd", added(keys))))
    assert time.process_time() - begun < 10


@pytest.mark.parametrize("packing", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_damage_is_named_whatever_the_packing(other, exported, packing) -> None:
    with zipfile.ZipFile(exported) as file:
        content = {name: file.read(name) for name in file.namelist()}
    path = exported.with_name("packed.zip")
    with zipfile.ZipFile(path, "w", packing) as target:
        for name, data in content.items():
            target.writestr(name, data)
    with zipfile.ZipFile(path) as file:
        info = file.getinfo("cases/case-0001/image.nrrd")
    data = bytearray(path.read_bytes())
    for n in range(12, 40):
        data[info.header_offset + 30 + len(info.filename) + n] ^= 0xA5
    path.write_bytes(bytes(data))
    bad, good = import_zip(other, path)
    assert "image.nrrd cannot be unpacked" in bad.refusal and good.entry


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_is_no_zip_file(other, tmp_path) -> None:
    os.mkfifo(tmp_path / "x.zip")
    with pytest.raises(InputError, match="no ordinary file"):
        import_zip(other, tmp_path / "x.zip")


def test_a_zip_bomb_is_refused(other, exported, monkeypatch) -> None:
    path = exported.with_name("changed.zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("cases/case-0001/case.json", b"0" * (5 << 20))
    with pytest.raises(InputError, match="more than the"):
        import_zip(other, path)
    monkeypatch.setattr("ProxyPromptSegmentLib.library.archive.MOST_CASES", 1)
    with pytest.raises(InputError, match="contains 2 support cases; allowed are 1 to 1"):
        import_zip(other, exported)
    assert not other.folder.exists()


def test_a_member_that_lies_about_its_size_is_refused(other, exported) -> None:
    """The directory promises few bytes, the packed data hold 64 MiB."""
    path = rewritten(exported, changed("case.json", lambda d: None))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as target:
        target.writestr("cases/case-0001/case.json", b" " * (64 << 20))
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        at = data.rindex(signature)
        assert struct.unpack_from("<I", data, at + offset) == (64 << 20,)
        struct.pack_into("<I", data, at + offset, 100)
    path.write_bytes(bytes(data))
    answers = {a.title: a for a in import_zip(other, path)}
    assert "cannot be unpacked" in answers["case-0001"].refusal and answers["Second"].entry


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" + bytes(100)])
def test_what_is_no_zip_file_is_told(other, tmp_path, content) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a zip file"):
        import_zip(other, path)
    with pytest.raises(InputError, match="does not exist"):
        import_zip(other, tmp_path / "y.zip")
    with zipfile.ZipFile(path, "w") as target:
        target.writestr("readme.txt", b"x")
    with pytest.raises(InputError, match="0 support cases"):
        import_zip(other, path)


def test_too_little_space_is_told_before_anything_is_unpacked(other, exported, monkeypatch) -> None:
    usage = shutil.disk_usage(exported.parent)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(OutputError, match="are needed in"):
        import_zip(other, exported)
    assert files_of(other) == []


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float"])
def test_images_of_the_library_pass_the_look_at_their_header(library, dtype) -> None:
    scale = {"uint8": 0.1, "int16": 1.0, "int32": 400.0, "float": 1 / 3}[dtype]
    volume, segmentation = a_case(scale=scale)
    if dtype != "float":
        volume.array = np.abs(np.rint(volume.array)) if dtype == "uint8" else np.rint(volume.array)
    entry = library.save(volume, segmentation)
    text = (entry.folder / "image.nrrd").read_bytes().split(b"\n\n")[0].decode()
    assert {"uint8": "unsigned char", "int16": "short", "int32": "int", "float": "float"}[dtype] in text
    for name in ("image.nrrd", "masks.seg.nrrd"):
        check_nrrd(entry.folder / name, SIZE, 1 << 20)
    with pytest.raises(InputError, match="GiB"):
        check_nrrd(entry.folder / "image.nrrd", SIZE, 100)
    assert hashlib.sha256(volume.array.tobytes()).hexdigest()
