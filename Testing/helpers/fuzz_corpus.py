"""Small valid files of every format, models among them, and mutations of them, for fuzzing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import SimpleITK as sitk
from PIL import Image

from dicom_made import AXIAL, dataset, enhanced, save, segmentation
from frame_cases import LIST_LAST, write_nrrd
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation, write_segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.library.archive import export_zip
from ProxyPromptSegmentLib.library.store import SupportLibrary
from ProxyPromptSegmentLib.resources import resource_path

GRID = VolumeGeometry((16, 14, 5), (0.7, 0.7, 3.0), (1, 2, 3))
NASTY = (
    b"%s%n%x", b"\0" * 64, b"\xff" * 64, b"A" * 5000, b"-1", b"nan", b"inf", b"99999999999", b"/dev/zero", b"../x",
    b"\n\n", b"1e400",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Seed:
    """A valid file.

    Attributes:
        path: The file.
        kind: What reads it: ``image``, ``mask``, ``frames``, ``zip``, ``model`` (a checkpoint), ``taken`` (the same,
            imported) or ``registry``.
        checked: Whether the format has a checksum over its voxels, so that damage behind the header never passes.
        header: Where its header ends at the latest.
        reach: Only so many first bytes are damaged; 0 for all.
    """

    path: Path
    kind: str
    checked: bool = False
    header: int = 0
    reach: int = 0


def write_corpus(folder: Path) -> list[Seed]:
    """Writes the files into a folder; returns them."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    mask = np.zeros(GRID.shape_kji, np.uint8)
    mask[1:4, 3:10, 4:12] = 1
    array = rng.integers(0, 300, GRID.shape_kji).astype(np.int16) + 900 * mask.astype(np.int16)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(GRID.spacing_mm)
    image.SetOrigin(GRID.origin_lps)
    seeds = []
    for name, packed in (
        ("a.nrrd", True), ("b.nrrd", False), ("c.mha", True), ("d.mha", False), ("e.nii", False), ("f.nii.gz", True),
        ("g.nhdr", False),
    ):  # fmt: skip
        sitk.WriteImage(image, str(folder / name), packed)
        seeds.append(Seed(path=folder / name, kind="image", checked=packed, header=500 if packed else 0))
    seeds[5] = Seed(path=folder / "f.nii.gz", kind="image", checked=True, header=10)
    marked = Segmentation([Segment("prostate", mask), Segment("other", 1 - mask)], GRID)
    for name in ("m.seg.nrrd", "m.nii.gz", "m.mha"):
        write_segmentation(folder / name, marked)
        seeds.append(Seed(path=folder / name, kind="mask"))
    picture = (rng.integers(0, 80, (24, 30, 3))).astype(np.uint8)
    picture[6:16, 8:20] += 150
    for suffix in ("png", "jpg", "tif", "bmp"):
        Image.fromarray(picture).save(folder / f"p.{suffix}")
        seeds.append(Seed(path=folder / f"p.{suffix}", kind="image", checked=suffix == "png", header=33))
    Image.fromarray((picture[..., 0] > 90).astype(np.uint8)).save(folder / "p_label.png")  # beside p.png, not mutated
    Image.fromarray((array[2] // 6).astype(np.uint8)).save(folder / "still.png")  # beside label.png, not mutated
    Image.fromarray(mask[2] * 3).save(folder / "label.png")
    seeds.append(Seed(path=folder / "label.png", kind="mask"))
    placed = {"PixelSpacing": [0.7, 0.7], "ImageOrientationPatient": AXIAL, "ImagePositionPatient": [0, 0, 0]}
    save(dataset(array[0], **placed), folder / "one.dcm")
    save(enhanced(array, [(0, 0, 3.0 * n) for n in range(5)]), folder / "many.dcm")
    save(dataset((array // 6).astype(np.uint8), kind="3.1", FrameTime="40", Modality="US"), folder / "clip.dcm")
    save(segmentation([(1, (0, 0, 3.0 * n), mask[n]) for n in range(5)], ["prostate"]), folder / "seg.dcm")
    seeds += [Seed(path=folder / f"{name}.dcm", kind="image") for name in ("one", "many")]
    seeds += [Seed(path=folder / "clip.dcm", kind="frames"), Seed(path=folder / "seg.dcm", kind="mask")]
    for name, encoding in (("s.seq.nrrd", "gzip"), ("t.seq.nrrd", "raw")):
        write_nrrd(folder / name, (array[:, None] // 6).astype(np.uint8), encoding, **LIST_LAST)
        seeds.append(Seed(path=folder / name, kind="frames"))
    library = SupportLibrary(folder / "library")
    library.save(Volume(array.astype(np.float32), GRID), marked, "case")
    export_zip(library, library.entries(), folder / "cases.zip")
    return [*seeds, Seed(path=folder / "cases.zip", kind="zip", checked=True), *_models(folder)]


def _models(folder: Path) -> list[Seed]:
    """Writes checkpoints, whose headers say what is built of them, and a user's list of models."""
    seeds = []
    for name, file, kind in (
        ("whole", "sam-compact", "model"), ("added", "autosam-polyp", "model"), ("words", "autosam-polyp", "taken"),
    ):  # fmt: skip
        path = folder / f"{name}.safetensors"
        shutil.copy(resource_path("models") / f"{file}.safetensors", path)
        with path.open("rb") as opened:
            seeds.append(Seed(path=path, kind=kind, reach=8 + int.from_bytes(opened.read(8), "little")))
    entry = {"name": "mine", "kind": "model", "file": "mine.safetensors", "bytes": 254548, "sha256": "ab" * 32}
    entry |= {
        "description": "of a colleague",
        "licence": "Apache-2.0",
        "urls": ["https://example.org/mine.safetensors"],
    }
    (folder / "list.json").write_text(json.dumps({"format": 2, "models": [entry]}, indent=1), encoding="utf-8")
    free = {name: value for name, value in entry.items() if name not in ("sha256", "bytes", "urls")}
    (folder / "free.json").write_text(json.dumps({"format": 2, "models": [free]}), encoding="utf-8")  # any file fits
    return [*seeds, Seed(path=folder / "list.json", kind="registry")]


def mutated(data: bytes, random: Random, reach: int = 0) -> tuple[bytes, int]:
    """Returns bytes damaged in one place (among the first ``reach``), and the first place that differs."""
    if reach:
        begun, first = mutated(data[:reach], random)
        return begun + data[reach:], first

    def flip(old: bytearray) -> int:
        at = random.randrange(len(old))
        old[at] ^= 1 << random.randrange(8)
        return at

    def overwrite(old: bytearray) -> int:
        at = random.randrange(len(old))
        end = min(len(old), at + random.choice((1, 2, 4, 8)))
        old[at:end] = bytes(random.choice((0, 1, 127, 128, 255)) for _ in range(end - at))
        return at

    def cut(old: bytearray) -> int:
        at = random.randrange(len(old))
        del old[at:]
        return at

    def insert(old: bytearray) -> int:
        at = random.randrange(min(len(old), 700))
        old[at:at] = random.choice(NASTY)
        return at

    def leave_out(old: bytearray) -> int:
        at = random.randrange(len(old))
        del old[at : at + random.choice((1, 4, 64))]
        return at

    def number(old: bytearray) -> int:
        places = [n for n, letter in enumerate(old[: max(700, len(old) // 3)]) if 48 <= letter <= 57]
        at = random.choice(places) if places else random.randrange(len(old))
        old[at : at + 1] = random.choice((b"0", b"-9", b"99999999", b"nan", b"%n"))
        return at

    ways: tuple[Callable[[bytearray], int], ...] = (flip, overwrite, cut, insert, leave_out, number)
    changed = bytearray(data)
    first = random.choice(ways)(changed)
    return bytes(changed), first
