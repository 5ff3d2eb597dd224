"""The papers' data sets in the layouts of their publishers: found, divided and read."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("SimpleITK")

import original_sets as made
from ProxyPromptSegmentLib.data.original.formats import READERS, find_original
from ProxyPromptSegmentLib.errors import InputError

OUTER, INNER, SLICE = 256, 64, 256  # pixels of the drawn squares


def areas(case) -> dict[str, int]:
    return {name: int(case.masks[0, n].sum()) for n, name in enumerate(case.objects)}


@pytest.mark.parametrize(
    ("key", "make", "shape", "expected"),
    [
        ("refuge2", made.refuge2, (1, 32, 32, 3), {"optic disc": OUTER, "optic cup": INNER}),
        ("stare", made.stare, (1, 32, 32, 3), {"vessel": OUTER}),
        ("fh_ps_aop", made.fh_ps_aop, (1, 32, 32), {"pubic symphysis": INNER, "fetal head": OUTER - INNER}),
        ("monuseg", made.monuseg, (1, 32, 32, 3), {"nuclei": OUTER}),
        ("glas", made.glas, (1, 32, 32, 3), {"glands": OUTER}),
        ("kvasir_seg", lambda root: made.polyps(root, "Kvasir-SEG"), (1, 32, 32, 3), {"polyp": OUTER}),
        (
            "cvc_clinicdb",
            lambda root: made.polyps(root, "CVC-ClinicDB", "Original", "Ground Truth", "tif"),
            (1, 32, 32, 3),
            {"polyp": OUTER},
        ),
        ("cvc_colondb", lambda root: made.polyps(root, "CVC-ColonDB"), (1, 32, 32, 3), {"polyp": OUTER}),
        ("etis", lambda root: made.polyps(root, "ETIS-LaribPolypDB"), (1, 32, 32, 3), {"polyp": OUTER}),
    ],
)
def test_single_images_are_found_in_their_folder_and_beside_others_and_read(tmp_path, key, make, shape, expected):
    folder = make(tmp_path)
    for data in (folder, tmp_path):
        items = find_original(data, key)
        assert len(items) == 4 and len({item.name for item in items}) == 4
        case = items[0].read()
        assert case.images.shape == shape and areas(case) == expected and case.dataset == key
    others = [name for name in READERS if name != key and find_original(tmp_path, name)]
    assert others == []


def test_volumes_keep_their_spacing_and_slices_without_the_gland(tmp_path):
    items = find_original(made.promise12(tmp_path), "promise12")
    case = items[1].read()
    assert [item.name for item in items] == ["Case00", "Case01", "Case02", "Case03"]
    assert case.images.shape == (6, 32, 32) and case.spacing_mm == (3.0, 0.6, 0.5)
    assert [int(mask.any()) for mask in case.masks[:, 0]] == [0, 1, 1, 1, 1, 0]


def test_videos_have_their_frames_in_the_order_of_their_numbers_and_colours_as_objects(tmp_path):
    items = find_original(made.jnu_ifm(tmp_path), "jnu_ifm")
    case = items[0].read()
    assert len(items) == 3 and case.images.shape == (12, 32, 32)
    assert areas(case) == {"pubic symphysis": INNER, "fetal head": OUTER - INNER}
    expected = made.picture(11).astype(np.float32).mean(axis=2)  # frame 11 comes last, not after frame 1
    assert np.allclose(case.images[-1], expected)


def test_patients_and_parts_are_those_of_the_publisher(tmp_path):
    nuclei = find_original(made.monuseg(tmp_path / "a"), "monuseg")
    assert sorted(item.part for item in nuclei) == ["test", "train", "train", "train"]
    assert len({item.patient for item in nuclei}) == 2
    glands = {item.name: item for item in find_original(made.glas(tmp_path / "b"), "glas")}
    assert {name: item.part for name, item in glands.items()} == {
        "train_1": "train", "train_2": "train", "testA_1": "test", "testB_1": "test",
    }  # fmt: skip
    assert glands["train_1"].patient == glands["train_2"].patient != glands["testA_1"].patient
    blocks = {item.patient for item in find_original(made.fh_ps_aop(tmp_path / "c", 44), "fh_ps_aop")}
    assert blocks == {"block000", "block001"}  # neighbouring frames are never divided


def test_a_damaged_file_is_named(tmp_path):
    folder = made.monuseg(tmp_path)
    broken = sorted(folder.rglob("*.xml"))[0]
    broken.write_text("<Annotations>")
    with pytest.raises(InputError, match=f"{broken.name} holds no outlines of nuclei"):
        next(item for item in find_original(folder, "monuseg") if item.name == broken.stem).read()
    packed = sorted((made.stare(tmp_path) / "stare-images").glob("*.gz"))[0]
    packed.write_bytes(packed.read_bytes()[:20] + bytes(40))
    with pytest.raises(InputError, match=f"{packed.name} cannot be unpacked"):
        [item.read() for item in find_original(tmp_path, "stare")]
    picture = next((made.refuge2(tmp_path) / "train" / "images").iterdir())
    picture.write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read as a picture"):
        [item.read() for item in find_original(tmp_path, "refuge2")]
