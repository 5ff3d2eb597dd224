"""Points, boxes and masks by hand: what SAM's and SAM 2's own predictors answer."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from engine_doubles import decided_backbone
from ProxyPromptSegmentLib.inference.by_hand.decode import COMPACT_LIMIT, decoded_by_hand
from ProxyPromptSegmentLib.inference.by_hand.local import changed_at
from ProxyPromptSegmentLib.inference.by_hand.prompts import Box, HandPrompt, Point
from ProxyPromptSegmentLib.networks.letterbox import Letterbox
from ProxyPromptSegmentLib.networks.values import ImageFeatures, Prompt
from torchvision_guard import ensure_torchvision_importable

ensure_torchvision_importable()

CLOSE = {"atol": 1e-4, "rtol": 1e-4}
POINTS = (Point(20, 40), Point(50, 12, inside=False), Point(31, 33))
SAID = {
    "a click": HandPrompt(POINTS[:1]),
    "three clicks": HandPrompt(POINTS),
    "a box": HandPrompt(box=Box(8, 10, 50, 41)),
    "a box and clicks": HandPrompt(POINTS[:2], box=Box(8, 10, 50, 41)),
}


@pytest.fixture(scope="module")
def sam():
    return decided_backbone()


@pytest.fixture(scope="module")
def sam2():
    pytest.importorskip("sam2")
    from sam2_package import lively_backbone

    return lively_backbone("sam2-compact", image_size=64)


def random_features(backbone, seed=3):
    chance = torch.Generator().manual_seed(seed)
    top = torch.randn(1, backbone.channels, backbone.grid, backbone.grid, generator=chance)
    valid = torch.ones(1, backbone.grid, backbone.grid, dtype=torch.bool)
    high = None
    if getattr(getattr(backbone, "sam2", None), "use_high_res_features_in_sam", False):
        sizes = ((backbone.channels // 8, 4 * backbone.grid), (backbone.channels // 4, 2 * backbone.grid))
        high = tuple(torch.randn(1, width, side, side, generator=chance) for width, side in sizes)
    return ImageFeatures(top=top, positions=backbone.positions().detach(), valid=valid, high_res=high)


def arguments(said):
    """What the packages' predictors are given: (x, y) of clicks, a box as (x, y, x, y)."""
    points = np.array([(p.column, p.row) for p in said.points], np.float32) if said.points else None
    labels = np.array([int(p.inside) for p in said.points]) if said.points else None
    box = None if said.box is None else np.array([said.box.left, said.box.top, said.box.right, said.box.bottom])
    return {"point_coords": points, "point_labels": labels, "box": box}


def sam_predictor(backbone, features):
    from segment_anything import SamPredictor

    network = backbone.sam
    made = SamPredictor(network)
    made.features, made.is_image_set = features.top, True
    made.original_size = made.input_size = (backbone.image_size,) * 2
    return made


def sam2_predictor(backbone, features):
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    made = SAM2ImagePredictor(backbone.sam2)
    embedded = features.top + backbone.sam2.no_mem_embed.reshape(1, -1, 1, 1)
    made._features = {"image_embed": embedded, "high_res_feats": list(features.high_res or ())}
    made._is_image_set, made._orig_hw = True, [(backbone.image_size,) * 2]
    return made


PREDICTORS = {"sam": sam_predictor, "sam2": sam2_predictor}


def asked_at_once(backbone, features, said, mask=None, readings=False):
    """The answer of our decoder to everything at once, as the packages' predictors give it."""
    from ProxyPromptSegmentLib.inference.by_hand.decode import tokens_of

    box = Letterbox(backbone.image_size, (backbone.image_size,) * 2)
    prompt = Prompt(mask=None if mask is None else torch.from_numpy(mask)[None])
    prompt = prompt.with_points(tokens_of(backbone, said, box, features.top))
    with torch.inference_mode():
        logits, quality = backbone.decode_masks(features, prompt, (1, 2, 3) if readings else (0,))
    return logits[0, 0], quality[0, 0]


@pytest.mark.parametrize("name", ["sam", "sam2"])
@pytest.mark.parametrize("kind", list(SAID))
@pytest.mark.parametrize("masked", [False, True])
def test_clicks_boxes_and_masks_are_answered_as_by_the_packages_predictor(name, kind, masked, request):
    backbone = request.getfixturevalue(name)
    features = random_features(backbone)
    side, chance = 4 * backbone.grid, np.random.default_rng(4)
    mask = chance.normal(size=(1, side, side)).astype(np.float32) if masked else None
    for readings in (False, True):
        _, scores, low = PREDICTORS[name](backbone, features).predict(
            **arguments(SAID[kind]), mask_input=mask, multimask_output=readings, return_logits=True
        )
        logits, quality = asked_at_once(backbone, features, SAID[kind], mask, readings)
        torch.testing.assert_close(logits, torch.from_numpy(low), **CLOSE)
        torch.testing.assert_close(quality, torch.from_numpy(scores), **CLOSE)
        assert logits.std() > 1e-3


@pytest.mark.parametrize("name", ["sam", "sam2"])
def test_a_mask_alone_is_answered_as_by_the_packages_predictor(name, request):
    backbone = request.getfixturevalue(name)
    features, side = random_features(backbone), 4 * backbone.grid
    mask = np.random.default_rng(5).normal(size=(1, side, side)).astype(np.float32)
    _, _, low = PREDICTORS[name](backbone, features).predict(mask_input=mask, multimask_output=False)
    logits, _ = asked_at_once(backbone, features, HandPrompt(), mask)
    torch.testing.assert_close(logits, torch.from_numpy(low), **CLOSE)


@pytest.mark.parametrize("name", ["sam", "sam2"])
def test_a_single_click_takes_the_reading_of_the_highest_estimated_iou(name, request):
    backbone = request.getfixturevalue(name)
    features = random_features(backbone)
    box = Letterbox(backbone.image_size, (backbone.image_size,) * 2)
    _, scores, low = PREDICTORS[name](backbone, features).predict(**arguments(SAID["a click"]))
    with torch.inference_mode():
        answer = decoded_by_hand(backbone, features, box, SAID["a click"])
    torch.testing.assert_close(answer.logits, torch.from_numpy(low[int(scores.argmax())]), **CLOSE)
    assert answer.quality == pytest.approx(float(scores.max()), abs=1e-4)


@pytest.mark.parametrize("name", ["sam", "sam2"])
def test_a_further_click_has_the_mask_so_far_and_changes_it_where_it_lies(name, request):
    backbone = request.getfixturevalue(name)
    features = random_features(backbone)
    predictor = PREDICTORS[name](backbone, features)
    _, scores, low = predictor.predict(**arguments(SAID["a click"]))
    best = low[int(scores.argmax())]
    _, _, low = predictor.predict(
        **arguments(HandPrompt(POINTS[:2])),
        mask_input=best[None].clip(-COMPACT_LIMIT, COMPACT_LIMIT),
        multimask_output=False,
    )
    box = Letterbox(backbone.image_size, (backbone.image_size,) * 2)
    expected = changed_at(torch.from_numpy(best), torch.from_numpy(low[0]), POINTS[1], box)
    with torch.inference_mode():
        answer = decoded_by_hand(backbone, features, box, HandPrompt(POINTS[:2]))
        again: list = []
        for count in (1, 2):
            known = decoded_by_hand(backbone, features, box, HandPrompt(POINTS[:count]), known=again)
    torch.testing.assert_close(answer.logits, expected, **CLOSE)
    torch.testing.assert_close(known.logits, answer.logits)
    assert len(again) == 2


@pytest.mark.parametrize("name", ["sam2.1-hiera-tiny", "sam-vit-b"])
def test_official_sizes_answer_clicks_boxes_and_masks_as_the_package_does(name):
    if name.startswith("sam2"):
        pytest.importorskip("sam2")
        from ProxyPromptSegmentLib.networks.backbones.sam2 import Sam2Backbone

        torch.manual_seed(1)
        backbone = Sam2Backbone(name).eval()
        features = random_features(backbone)
        predictor = sam2_predictor(backbone, features)
    else:
        from ProxyPromptSegmentLib.networks.backbones.sam import SamBackbone

        torch.manual_seed(1)
        with torch.device("meta"):
            encoder = SamBackbone(name).sam.image_encoder
        backbone = _without_encoder(name, encoder.img_size)
        features = random_features(backbone)
        predictor = sam_predictor(backbone, features)
    mask = np.random.default_rng(6).normal(size=(1, 256, 256)).astype(np.float32)
    said = HandPrompt((Point(200, 400), Point(700, 90, inside=False)), Box(100, 30, 900, 700))
    _, scores, low = predictor.predict(**arguments(said), mask_input=mask, multimask_output=False)
    logits, quality = asked_at_once(backbone, features, said, mask)
    torch.testing.assert_close(logits, torch.from_numpy(low), **CLOSE)
    torch.testing.assert_close(quality, torch.from_numpy(scores), **CLOSE)


def _without_encoder(name, size):
    """An official SAM of random weights whose image encoder of 90 million parameters is left out."""
    from ProxyPromptSegmentLib.networks.backbones import sam

    modeling = sam.segment_anything_modeling()
    small = modeling.ImageEncoderViT

    def stand_in(**options):
        made = torch.nn.Identity()
        made.img_size = options["img_size"]
        return made

    patched = SimpleNamespace(**{key: getattr(modeling, key) for key in dir(modeling) if not key.startswith("__")})
    patched.ImageEncoderViT = stand_in
    original, sam.segment_anything_modeling = sam.segment_anything_modeling, lambda: patched
    try:
        made = sam.SamBackbone(name).eval()
    finally:
        sam.segment_anything_modeling = original
    assert modeling.ImageEncoderViT is small and made.image_size == size
    return made


def test_half_precision_does_not_blur_where_a_click_is(sam):
    points, labels = torch.tensor([[[13.0, 57.0]]]), torch.tensor([[1]])
    exact = sam.prompt_points(points, labels)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(sam.prompt_points(points, labels), exact)


def test_a_mask_prompt_reaches_sam2_with_memories_too(sam2):
    features, side = random_features(sam2), 4 * sam2.grid
    mask = torch.randn(1, 1, side, side, generator=torch.Generator().manual_seed(7))
    with torch.inference_mode():
        plain, given = sam2.decode(features, Prompt()), sam2.decode(features, Prompt(mask=mask))
    assert (plain.logits - given.logits).abs().max() > 1e-3
