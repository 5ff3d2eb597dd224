"""Reports: one file that needs nothing else, the same for the same scores, with charts whose places can be checked."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from ProxyPromptSegmentLib.evaluation.report import svg
from ProxyPromptSegmentLib.evaluation.report.box_plot import box_plot
from ProxyPromptSegmentLib.evaluation.report.confidence_plot import bins_of, calibration_error, confidence_plot
from ProxyPromptSegmentLib.evaluation.report.page import Chapter, Chart, Panels, Words, page
from ProxyPromptSegmentLib.evaluation.report.panels import (
    Panel,
    part_around,
    slice_with_map,
    slice_with_masks,
    telling_slice,
)
from ProxyPromptSegmentLib.evaluation.report.ridges import density, ridge_plot
from ProxyPromptSegmentLib.evaluation.report.standard import chapters_of
from ProxyPromptSegmentLib.evaluation.statistics.score import Score


def some_scores() -> list[Score]:
    rng = np.random.default_rng(0)
    found = []
    for system, mean in (("ours <b>", 0.85), ("theirs", 0.6)):
        for n in range(10):
            dice = float(np.clip(rng.normal(mean, 0.05), 0, 1))
            sure = dice if system == "theirs" else None
            found.append(
                Score(
                    table="T",
                    system=system,
                    dataset="set",
                    object="organ",
                    patient=f"p{n}",
                    case=f"p{n}",
                    dice=dice,
                    iou=dice / (2 - dice),
                    hd95=2.0 + n,
                    surface=dice,
                    unit="mm",
                    confidence=sure,
                )
            )
    return found


def pixels(jpeg: bytes) -> np.ndarray:
    image = pytest.importorskip("PIL.Image")
    return np.asarray(image.open(io.BytesIO(jpeg)).convert("RGB")).astype(int)


def test_a_report_is_one_file_without_scripts_or_addresses_and_always_the_same():
    panel = Panel(slice_with_masks(np.eye(8, dtype=np.float32), *[np.ones((1, 8, 8), np.uint8)] * 2, (0, 1)), "a & b")
    chapters = [
        Chapter("", [Words(["Use <ours>."], lead=True)]),
        *chapters_of(some_scores(), "ours <b>"),
        Chapter("Pictures", [Panels("organ", [panel])]),
        Chapter("Nothing", [Chart("")]),
    ]
    text = page("A & B", chapters)
    assert text == page("A & B", chapters)
    assert "<title>A &amp; B</title>" in text and "Use &lt;ours&gt;." in text and "ours &lt;b&gt;" in text
    assert "<b>" not in text.replace("<b>Research use only. Not for diagnosis.</b>", "")
    assert not re.search(r"<script|<link|@import|url\(|https?:|src=\"(?!data:)", text)
    assert "default-src 'none'" in text and "prefers-color-scheme: dark" in text and "@media print" in text
    assert "Nothing" not in text and text.count("<svg") == 4 and text.count("</svg>") == 4
    for one in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(one)
    (stored,) = re.findall(r'base64,([^"]+)"', text)
    assert base64.b64decode(stored) == panel.jpeg and 'alt="a &amp; b"' in text
    best = re.findall(r'<tr class="best">(.*?)</tr>', text, re.DOTALL)
    assert len(best) == 1 and "ours" in best[0]


def test_boxes_and_dots_stand_where_the_values_are():
    values = {f"p{n}": value for n, value in enumerate((0.15, 0.4, 0.5, 0.6, 0.7))}
    text = box_plot({"one": values, "none": {}}, "Dice")
    axis = svg.Axis(0, 1, "Dice")
    root = ElementTree.fromstring(text)
    places = [float(one.attrib["cx"]) for one in root.iter("circle")]
    assert places == pytest.approx([axis.at(value) for value in values.values()], abs=0.06)
    first = next(root.iter("rect"))
    assert float(first.attrib["x"]) == pytest.approx(axis.at(0.4), abs=0.06)
    assert float(first.attrib["width"]) == pytest.approx(axis.at(0.6) - axis.at(0.4), abs=0.11)
    lows = [float(one.attrib["x1"]) for one in root.iter("line") if "edge" in one.attrib["class"]]
    assert lows[0] == pytest.approx(axis.at(0.15), abs=0.06), "0.15 is within 1.5 times the box"
    assert "none" in text and "p0: 0.150" in text and box_plot({"none": {}}, "Dice") == ""
    few = ElementTree.fromstring(box_plot({"one": {"a": 0.2, "b": 0.4}}, "Dice"))
    assert not list(few.iter("rect")), "no quartiles of two"


def test_a_density_has_the_area_one_and_stays_on_the_axis():
    at = np.linspace(0, 1, 2001)
    for values in (np.array([0.95, 0.99, 1.0, 1.0, 0.9, 0.97]), np.full(8, 0.5)):
        found = density(values, at)
        assert np.trapezoid(found, at) == pytest.approx(1, abs=0.01)
        assert abs(at[found.argmax()] - np.median(values)) < 0.05
    enough = {f"p{n}": n / 10 for n in range(8)}
    assert "few" not in ridge_plot({"few": {"a": 1.0}, "one": enough}, "Dice").replace('"few', "")
    assert ridge_plot({"few": {"a": 1.0}}, "Dice") == ""


def test_confidence_is_compared_with_the_dice_in_bins_of_equal_size():
    pairs = [(0.9, 0.5), (0.1, 0.1), (0.2, 0.2), (0.8, 0.6), (0.3, 0.3)]
    assert [(one.count, one.confidence, one.dice) for one in bins_of(pairs)] == [(1, *pair) for pair in sorted(pairs)]
    assert calibration_error(pairs) == pytest.approx((0.4 + 0.2) / 5) and np.isnan(calibration_error([]))
    assert "off by 0.12" in confidence_plot({"one": pairs, "silent": []})
    assert confidence_plot({"one": pairs[:4]}) == ""


def test_axes_have_round_numbers_and_start_where_there_is_something():
    assert svg.ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1] and svg.ticks(0.7, 1)[0] == 0.7
    assert svg.axis_for([0.83, 0.9], "Dice", True).low == 0.8 and svg.axis_for([0.4, 0.9], "Dice", True).low == 0
    assert svg.axis_for([0.0], "HD95", False).high == 1 and svg.number(-0.04) == "0"
    assert "<title>a long name</title>a…" in svg.text(0, 0, "a long name", room=20)


def test_pictures_show_the_truth_in_white_and_maps_brightest_where_they_are_largest():
    image, truth = np.full((30, 40), 0.5, np.float32), np.zeros((1, 30, 40), np.uint8)
    truth[0, 5:15, 5:15] = 1
    masks = np.roll(truth, 15, axis=2)
    shown = pixels(slice_with_masks(image, truth, masks, (0, 1), (2.0, 1.0), ((1.0, 0.0, 0.0),)))
    assert shown.shape == (220, 147, 3), "the physical aspect"
    # Slightly softened by JPEG: each contour is there, and its inside is the image.
    assert shown[60:90, 17:22].min(axis=2).max() > 180 and abs(shown[70, 37] - 128).max() < 20
    red = shown[60:90, 72:77]
    assert (red[..., 0] - red[..., 2]).max() > 90
    over = pixels(slice_with_map(image, truth[0].astype(float), (0, 1)))
    assert over[55, 55].sum() > over[120, 150].sum() + 60
    assert pixels(slice_with_map(image, np.zeros((4, 4)), (0, 1))).std() < 3
    rows, columns = part_around(truth, masks)
    assert (rows, columns) == (slice(0, 47), slice(0, 54)), "all of it: the objects span 25 columns of 40"
    small = np.zeros((1, 100, 100), np.uint8)
    small[0, 40:50, 60:64] = 1
    assert part_around(small, small) == (slice(30, 60), slice(47, 77))
    assert part_around(small * 0, small * 0) == (slice(None), slice(None))
    volume = np.zeros((3, 1, 8, 8), np.uint8)
    other = volume.copy()
    other[2, 0, 1] = 1
    assert telling_slice(volume, volume) == 0 and telling_slice(volume, other) == 2
    volume[1, 0, :2] = 1
    assert telling_slice(volume, other) == 1
