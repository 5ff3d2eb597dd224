"""The artificial cases of the tutorial: real MRML nodes, drawn here, at the place where they were drawn."""

from __future__ import annotations

import socket
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from mrml_scene import segment_array

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "ProxyPromptSegment"))
pytest.importorskip("slicer", reason="slicer-core has MRML")

from ProxyPromptSegmentLib.commands import demo
from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom
from ProxyPromptSegmentModule.scene import sample_data
from ProxyPromptSegmentModule.scene.terminology import terminology_from_text


@pytest.fixture
def sample_data_module(scene, monkeypatch):
    """A stand-in for Slicer's module Sample Data, with the parameters of the real one."""
    import slicer

    class Logic:
        @staticmethod
        def registerCustomSampleDataCategory(category, title):
            titles[category] = title

        @staticmethod
        def registerCustomSampleDataSource(
            category="Custom",
            sampleName=None,
            uris=None,
            fileNames=None,
            nodeNames=None,
            customDownloader=None,
            thumbnailFileName=None,
            loadFileTypes=None,
            loadFiles=None,
            loadFileProperties=None,
            checksums=None,
            loadFileType=None,
        ):
            source = types.SimpleNamespace(
                sampleName=sampleName,
                nodeNames=[nodeNames],
                customDownloader=customDownloader,
                thumbnailFileName=thumbnailFileName,
                sampleDescription=sampleName,
            )
            slicer.modules.sampleDataSources.setdefault(category, []).append(source)

    titles: dict[str, str] = {}
    slicer.modules.sampleDataSources = {}
    module = types.ModuleType("SampleData")
    module.SampleDataLogic, module.titles = Logic, titles
    monkeypatch.setitem(sys.modules, "SampleData", module)
    return module


def sources():
    import slicer

    return slicer.modules.sampleDataSources.get(sample_data.CATEGORY, [])


def test_both_cases_are_registered_once_with_a_picture(sample_data_module):
    sample_data.register()
    sample_data.register()
    assert [source.sampleName for source in sources()] == [sample_data.SUPPORT, sample_data.TARGET]
    assert all(Path(source.thumbnailFileName).is_file() for source in sources())
    assert all(source.sampleDescription.startswith("Artificial pelvis") for source in sources())
    assert sample_data_module.titles == {"Proxy Prompt": "Proxy Prompt"}


def test_before_slicer_5_12_there_are_no_titles_and_it_works_all_the_same(sample_data_module):
    del sample_data_module.SampleDataLogic.registerCustomSampleDataCategory
    sample_data.register()
    assert len(sources()) == 2


def test_nothing_is_drawn_until_somebody_asks_and_nothing_is_downloaded(sample_data_module, scene, monkeypatch):
    def refuse(*ignored):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    before = scene.GetNumberOfNodes()
    sample_data.register()
    assert scene.GetNumberOfNodes() == before
    support, target = sources()
    support.customDownloader(support)
    target.customDownloader(target)
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 2
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1


def test_the_support_lies_where_it_was_drawn_to_the_voxel(scene):
    import slicer.util
    import vtk

    volume, marks = pelvis_phantom(sample_data.SUPPORT_SEED)
    node, segmentation = sample_data.load_support()
    np.testing.assert_allclose(slicer.util.arrayFromVolume(node), volume.array, atol=0.5)
    np.testing.assert_array_equal(segment_array(segmentation, "prostate", node), marks.segments[0].mask)
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    for index in ((0, 0, 0), (159, 3, 27)):
        geometry = volume.geometry
        lps = geometry.direction @ (np.array(geometry.spacing_mm) * index) + geometry.origin_lps
        ras = np.array(matrix.MultiplyPoint((*index, 1)))[:3]
        np.testing.assert_allclose(ras, lps * (-1, -1, 1), atol=1e-6)


def test_the_segment_has_name_colour_and_terminology(scene):
    drawn = pelvis_phantom(sample_data.SUPPORT_SEED)[1].segments[0]
    segment = sample_data.load_support()[1].GetSegmentation().GetNthSegment(0)
    assert segment.GetName() == "prostate"
    np.testing.assert_allclose(segment.GetColor(), drawn.color_rgb)
    text = terminology_text(segment)
    assert terminology_from_text(text)["type"] == ["SCT", "41216001", "Prostate"]


def terminology_text(segment) -> str:
    import vtk

    text = vtk.reference("")
    assert segment.GetTag("TerminologyEntry", text)
    return str(text)


def test_they_are_the_cases_of_the_command_line_demo():
    assert (sample_data.SUPPORT_SEED, sample_data.TARGET_SEED) == (demo.SUPPORT_SEED, demo.TARGET_SEED)


class Logic:
    """A stand-in for the segmentation logic that draws the truth, without its first slices."""

    def __init__(self, state="finished", without=0):
        self.state, self.without, self.ended = state, without, False

    def segment(self, target, supports):
        (pair,) = supports
        mask = sample_data.target_truth().copy()
        mask[: self.without] = 0
        from mrml_scene import add_segmentation

        assert [node.GetClassName() for node in pair] == ["vtkMRMLScalarVolumeNode", "vtkMRMLSegmentationNode"]
        node = add_segmentation(target, {"prostate": mask})
        return types.SimpleNamespace(
            state=self.state, error="no device", segmentation=node, segment_ids={"prostate": "prostate"}
        )

    def shutdown(self):
        self.ended = True


def test_the_self_test_compares_with_what_was_drawn(scene):
    assert sample_data.dice_of_sample_case(Logic()) == 1
    assert 0.5 < sample_data.dice_of_sample_case(Logic(without=12)) < 1


def test_a_run_that_fails_fails_the_self_test_with_its_sentence_and_ends_the_logic(scene):
    logic = Logic(state="failed")
    with pytest.raises(RuntimeError, match="no device"):
        sample_data.dice_of_sample_case(logic)
    assert logic.ended


def test_the_sample_case_is_one_that_the_embedded_model_segments_well():
    """What a stranger sees first: the prostate, and nothing of the bladder above it."""
    pytest.importorskip("torch")
    from ProxyPromptSegmentLib import Segmentation, SupportCase, load_model

    support, marks = pelvis_phantom(sample_data.SUPPORT_SEED)
    target, truth = pelvis_phantom(sample_data.TARGET_SEED)
    shown = SupportCase(support, Segmentation(marks.segments[:1], marks.geometry))
    found = load_model(device="cpu").segment([shown], target).segmentation.segments[0].mask > 0
    real = truth.segments[0].mask > 0
    assert 2 * (found & real).sum() / (found.sum() + real.sum()) > 0.85
    outside = found & ~real
    assert outside.sum() < 0.15 * found.sum()
    k = np.flatnonzero(real.any(axis=(1, 2)))
    beyond = outside.any(axis=(1, 2)).nonzero()[0]
    assert beyond.size == 0 or (beyond.min() >= k.min() - 2 and beyond.max() <= k.max() + 2), "it lies in another organ"
