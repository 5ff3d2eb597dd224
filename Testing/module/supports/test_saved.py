"""The table of supports on real MRML: it survives what users do to scenes, and speaks with the support library."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from mrml_scene import REASON, has_mrml, make_scene

if not has_mrml():
    pytest.skip(REASON, allow_module_level=True)

from ProxyPromptSegmentLib.errors import SupportError
from ProxyPromptSegmentLib.library.store import SupportLibrary
from ProxyPromptSegmentModule.supports.saved import SavedRow, read_saved, write_saved
from ProxyPromptSegmentModule.supports.table import SupportTable
from ProxyPromptSegmentModule.supports.thumbnails import blank
from support_cases import a_case, a_node, box, image, load, save


@pytest.fixture
def table(scene) -> SupportTable:
    return SupportTable(a_node())


# --- what happens to scenes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", [0, 1], ids=["volume", "segmentation"])
def test_a_deleted_node_is_told_and_comes_back_with_undo(table, what) -> None:
    import slicer

    nodes = a_case()
    broken, whole = table.add_nodes(*nodes).key, table.add_nodes(*a_case("other", 1)).key
    node, word = nodes[what], ("volume", "segmentation")[what]
    slicer.mrmlScene.SetUndoOn()
    node.SetUndoEnabled(True)
    slicer.mrmlScene.SaveStateForUndo()
    slicer.mrmlScene.RemoveNode(node)
    row = table.row(broken)
    assert f"The {word} of 'MRI'" in row.problem or f"The {word} 'MRI'" in row.problem
    assert (row.volume_id, row.segmentation_id)[what] is None and not row.ready and row.used
    assert [case.volume.name for case in table.cases()] == ["other"]
    assert np.array_equal(table.thumbnail(broken, 16), blank(16))
    slicer.mrmlScene.Undo()
    row = table.row(broken)
    assert row.ready and row.title == "MRI"
    assert np.array_equal(table.case(broken).segmentation.segments[0].mask, box(slice(2, 6)))
    assert table.row(whole).ready and len(table.cases()) == 2
    assert table.node.GetNodeReference(f"SupportVolume.{broken}") is not None, "the next saved scene has it"


def test_another_node_with_the_identifier_of_a_deleted_one_is_not_taken(table) -> None:
    import slicer

    volume, segmentation = a_case()
    key, identifier = table.add_nodes(volume, segmentation).key, volume.GetID()
    slicer.mrmlScene.RemoveNode(volume)
    slicer.mrmlScene.AddNewNodeByClassWithID("vtkMRMLScalarVolumeNode", "something else", identifier)
    assert slicer.mrmlScene.GetNodeByID(identifier).GetName() == "something else"
    assert "not in the scene" in table.row(key).problem


@pytest.mark.parametrize("suffix", ["mrml", "mrb"])
def test_supports_are_saved_with_the_scene(table, tmp_path, suffix) -> None:
    import slicer

    volume, segmentation = a_case('Größe; "a" | b')
    key = table.add_nodes(volume, segmentation, ["cyst", "prostate"], [3]).key
    table.use(table.add_nodes(*a_case("second", 1), title="Second case").key, False)
    rows, mask = table.rows(), table.case(key).segmentation.segments[0].mask
    save(slicer.mrmlScene, tmp_path / f"scene.{suffix}")
    fresh = make_scene()
    load(fresh, tmp_path / f"scene.{suffix}")
    loaded = SupportTable(fresh.GetFirstNodeByClass("vtkMRMLScriptedModuleNode"))
    for old, new in zip(rows, loaded.rows(), strict=True):
        assert (new.key, new.title, new.slices, new.used, new.problem) == (old.key, old.title, old.slices, old.used, "")
        assert [one.name for one in new.objects] == [one.name for one in old.objects]
    assert np.array_equal(loaded.case(key).segmentation.segments[0].mask, mask)
    assert np.array_equal(loaded.case(key).volume.array, image())


def test_an_imported_scene_brings_its_supports_with_other_identifiers(table, tmp_path) -> None:
    import slicer

    key = table.add_nodes(*a_case()).key
    save(slicer.mrmlScene, tmp_path / "scene.mrml")
    fresh = make_scene()
    mine = SupportTable(a_node())
    mine.add_nodes(*a_case("mine", 5))
    fresh.SetURL(str(tmp_path / "scene.mrml"))
    assert fresh.Import()
    rows = {row.key: row for row in mine.rows()}
    assert rows[key].title == "MRI" and not rows[key].problem
    assert rows[key].volume_id != fresh.GetFirstNodeByName("mine").GetID()
    assert np.array_equal(mine.case(key).volume.array, image())


def test_closing_the_scene_empties_the_table(table) -> None:
    import slicer

    key = table.add_nodes(*a_case()).key
    table.case(key)
    slicer.mrmlScene.Clear(False)
    assert table.rows() == []
    with pytest.raises(SupportError):
        table.case(key)
    assert table.add_nodes(*a_case("next")).title == "next" and len(table.cases()) == 1


def test_a_table_whose_node_has_left_the_scene_says_so(table) -> None:
    import slicer

    key = table.add_nodes(*a_case()).key
    slicer.mrmlScene.Clear(True)
    assert all("not in the scene" in row.problem for row in table.rows())
    with pytest.raises(SupportError):
        table.cases()
    table.remove(key)
    assert table.rows() == []


def test_a_damaged_or_later_list_is_read_as_empty(table, caplog) -> None:
    table.add_nodes(*a_case())
    good = table.node.GetParameter("supports")
    later = json.dumps({"format": 99, "rows": []})
    for text in ("{", "[]", "7", '{"format": 1, "rows": [{}]}', '{"format": 1, "rows": [[1]]}', later):
        table.node.SetParameter("supports", text)
        caplog.clear()
        assert table.rows() == [] and "cannot be read" in caplog.text
    table.node.SetParameter("supports", good)
    assert len(table.rows()) == 1


texts = some.text(max_size=20)


@given(
    some.lists(
        some.builds(
            SavedRow, key=some.uuids().map(lambda one: one.hex[:12]), title=texts, library=texts,
            segments=some.none() | some.lists(texts, max_size=3).map(tuple), name=texts, used=some.booleans(),
            slices=some.none() | some.lists(some.integers(0, 999), max_size=5).map(tuple),
            whole=some.booleans(), axis=some.sampled_from(["", "k", "j", "i"]),
        ), max_size=4,
    )
)  # fmt: skip
def test_what_is_written_is_read(rows) -> None:
    assert read_saved(write_saved(rows)) == tuple(rows)


# --- names and keys --------------------------------------------------------------------------------------------------


def test_titles_follow_names_until_somebody_gives_one(table) -> None:
    volume, segmentation = a_case()
    key = table.add_nodes(volume, segmentation).key
    case = table.case(key)
    volume.SetName("renamed")
    assert table.row(key).title == "renamed" == table.case(key).volume.name
    assert table.case(key).volume.array is case.volume.array, "voxels are not read again for a name"
    other = table.add_nodes(*a_case("renamed", 1)).key
    assert [row.title for row in table.rows()] == ["renamed", "renamed (2)"]
    table.rename(key, "  best case ")
    assert [row.title for row in table.rows()] == ["best case", "renamed"]
    table.rename(key, "")
    table.remove(other)
    assert [row.title for row in table.rows()] == ["renamed"]


def test_what_is_not_in_the_table_is_told(table) -> None:
    key = table.add_nodes(*a_case()).key
    table.remove(key)
    table.remove(key)
    assert table.rows() == [] == table.objects() and not table.node.GetParameter("supports")
    assert not table.node.GetNodeReferenceID(f"SupportVolume.{key}")
    for act in (table.row, table.case, table.choose, table.thumbnail, table.use, table.save_to_library):
        with pytest.raises(SupportError, match="not in the table"):
            act(key)
    with pytest.raises(SupportError, match="There is no support. Choose"):
        table.cases()
    table.use(table.add_nodes(*a_case()).key, False)
    with pytest.raises(SupportError, match="ticked; tick at least one"):
        table.cases()
    table.clear()
    assert table.rows() == []


# --- pictures, library -----------------------------------------------------------------------------------------------


def test_thumbnails_show_the_objects_in_their_colours(table) -> None:
    volume, segmentation = a_case(prostate=box(slice(2, 6)))
    segmentation.GetSegmentation().GetSegment("prostate").SetColor(1, 0, 0)
    key = table.add_nodes(volume, segmentation).key
    picture = table.thumbnail(key, 64)
    assert picture.shape == (64, 64, 3) and (picture == (255, 0, 0)).all(-1).sum() > 40
    assert table.thumbnail(key, 64) is picture
    segmentation.GetSegmentation().GetSegment("prostate").SetColor(0, 1, 0)
    assert (table.thumbnail(key, 64) == (0, 255, 0)).all(-1).any()


def test_nothing_identifying_goes_to_the_library_unless_it_is_given(table, tmp_path) -> None:
    table.library = SupportLibrary(tmp_path / "library")
    volume, segmentation = a_case("DOE^JOHN 1944")
    volume.SetAttribute("DICOM.instanceUIDs", "1.2.3.4444")
    key = table.add_nodes(volume, segmentation, slices=[3]).key
    entry = table.save_to_library(key, "", "A. Reader", "MR T2", "a note")
    assert (entry.annotator, entry.modality, entry.notes, entry.slices) == ("A. Reader", "MR T2", "a note", (3,))
    assert not entry.identifying and "DOE" not in entry.title
    for file in entry.folder.rglob("*"):
        content = file.read_bytes() + file.name.encode() if file.is_file() else b""
        assert b"DOE" not in content and b"JOHN" not in content and b"1.2.3.4444" not in content, file
    told = table.save_to_library(table.add_nodes(*a_case("p", 1)).key, "Case of J. Doe", identifying={"name": "J. Doe"})
    assert told.title == "Case of J. Doe" and told.identifying == {"name": "J. Doe"}


def test_cases_of_the_library_are_supports_like_nodes(table, tmp_path) -> None:
    library = table.library = SupportLibrary(tmp_path / "library")
    nodes = table.add_nodes(*a_case(), slices=[3]).key
    entry = table.save_to_library(nodes, "Saved")
    row = table.add_library(entry)
    assert (row.title, row.library_id, row.volume_id, row.slices) == ("Saved", entry.id, None, (3,)) and row.ready
    ours, theirs = table.case(nodes), table.case(row.key)
    assert np.array_equal(ours.volume.array, theirs.volume.array) and theirs.volume.name == "Saved"
    for one, other in zip(ours.segmentation.segments, theirs.segmentation.segments, strict=True):
        assert (one.name, one.mask.tobytes()) == (other.name, other.mask.tobytes())
    assert table.objects()[0].supports == 2 and table.case(row.key) is theirs
    picture = table.thumbnail(row.key, 40)
    assert picture.shape == (40, 40, 3) and not np.array_equal(picture, blank(40))
    assert table.choose(row.key, "all").slices == (2, 3, 4, 5)
    table.use(row.key, False)
    assert table.add_library(entry.id).key == row.key and table.row(row.key).used
    library.rename(entry, "Renamed")
    assert table.row(row.key).title == "Renamed"
    with pytest.raises(SupportError, match="already"):
        table.save_to_library(row.key)
    library.remove(next(one for one in library.entries() if one.id == entry.id))
    assert "not in the support library any more" in table.row(row.key).problem and table.row(row.key).title == "Saved"
    assert table.cases() == [ours]
    table.library = None
    assert "not open" in table.row(row.key).problem
    for act in (lambda: table.save_to_library(nodes), lambda: table.add_library("gone")):
        with pytest.raises(SupportError, match="library"):
            act()
