"""SAM as a backbone: the package's own parameters and the package's own answers."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import numpy as np

from engine_doubles import EchoBackbone, EchoModel, decided_backbone, tiny_backbone
from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.networks.backbones.sam import SAM_MEAN, SAM_STD, SamBackbone, build_sam_modules
from ProxyPromptSegmentLib.networks.values import ImageFeatures, Prompt
from ProxyPromptSegmentLib.support.pairs import SupportPair, SupportSet
from torchvision_guard import ensure_torchvision_importable

ensure_torchvision_importable()
CHANNELS, GRID = 32, 8


@pytest.fixture(scope="module")
def backbone():
    return decided_backbone()


def features(backbone, count, seed=0):
    chance = torch.Generator().manual_seed(seed)
    top = torch.randn(count, CHANNELS, GRID, GRID, generator=chance)
    return ImageFeatures(
        top=top, positions=backbone.positions().detach(), valid=torch.ones(count, GRID, GRID, dtype=torch.bool)
    )


def prompt(batch, objects, kind, tokens=5, seed=1):
    chance = torch.Generator().manual_seed(seed)
    sparse = torch.randn(batch, objects, tokens, CHANNELS, generator=chance) if kind != "dense" else None
    dense = torch.randn(batch, objects, CHANNELS, GRID, GRID, generator=chance) if kind != "sparse" else None
    return Prompt(sparse=sparse, dense=dense)


@pytest.mark.parametrize(
    ("name", "original"),
    [
        ("sam-vit-b", "vit_b"),
        ("sam-vit-l", "vit_l"),
        ("sam-vit-h", "vit_h"),
        ("medsam-vit-b", "vit_b"),
    ],
)
def test_official_sizes_have_exactly_the_packages_parameters(name, original):
    from segment_anything import sam_model_registry

    def shapes(module):
        return {key: (tuple(value.shape), value.dtype) for key, value in module.state_dict().items()}

    with torch.device("meta"):
        theirs, ours = sam_model_registry[original](checkpoint=None), SamBackbone(name)
    assert shapes(ours.sam) == shapes(theirs)
    # what is not in a state dict and still decides the answer
    assert [str(m) for m in ours.sam.modules()] == [str(m) for m in theirs.modules()]
    for mine, its in zip(ours.sam.image_encoder.blocks, theirs.image_encoder.blocks, strict=True):
        assert (mine.window_size, mine.attn.num_heads, mine.attn.use_rel_pos) == (
            its.window_size,
            its.attn.num_heads,
            its.attn.use_rel_pos,
        )
    for mine, its in zip(ours.sam.mask_decoder.transformer.layers, theirs.mask_decoder.transformer.layers, strict=True):
        assert mine.self_attn.num_heads == its.self_attn.num_heads
    assert (ours.image_size, ours.grid, ours.channels) == (1024, 64, 256)


@pytest.mark.parametrize(("name", "millions"), [("sam-vit-b", 93.7), ("sam-vit-l", 312.3), ("sam-vit-h", 641.1)])
def test_official_sizes_have_the_published_number_of_parameters(name, millions):
    with torch.device("meta"):
        assert sum(p.numel() for p in SamBackbone(name).parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


def test_an_unknown_backbone_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match="no SAM backbone 'sam-vit-x'; choose one of sam-vit-b, .*sam-compact"):
        build_sam_modules("sam-vit-x")


@pytest.mark.parametrize("kind", ["sparse", "dense", "both"])
@pytest.mark.parametrize("objects", [1, 2, 3])
def test_decoding_one_target_is_the_packages_own_forward(backbone, objects, kind):
    given, asked = features(backbone, 1), prompt(1, objects, kind)
    sparse = asked.sparse[0] if asked.sparse is not None else torch.empty(objects, 0, CHANNELS)
    dense = asked.dense[0] if asked.dense is not None else None
    if dense is None:
        dense = backbone.sam.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(objects, -1, GRID, GRID)
    with torch.inference_mode():
        masks, quality = backbone.sam.mask_decoder(
            image_embeddings=given.top,
            image_pe=backbone.sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        decoded = backbone.decode(given, asked)
    assert decoded.logits.shape == (1, objects, 4 * GRID, 4 * GRID)
    assert masks.std() > 1e-2
    torch.testing.assert_close(decoded.logits[0], masks[:, 0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(decoded.quality[0], quality[:, 0], atol=1e-4, rtol=1e-4)


def test_a_prompt_without_any_part_is_refused(backbone):
    with pytest.raises(UsageError, match="the prompt has none"):
        backbone.decode(features(backbone, 1), Prompt())


def test_clicks_are_embedded_as_the_package_does_and_join_a_proxy_prompt(backbone):
    points, labels = torch.tensor([[[10.0, 20.0], [40.0, 50.0]]]), torch.tensor([[1, 0]])
    tokens = backbone.prompt_points(points, labels)
    expected, _ = backbone.sam.prompt_encoder(points=(points, labels), boxes=None, masks=None)
    torch.testing.assert_close(tokens, expected)
    asked = prompt(1, 1, "both").with_points(tokens.unsqueeze(0))
    assert asked.sparse.shape == (1, 1, 5 + 3, CHANNELS)
    assert asked.dense is not None
    only = Prompt().with_points(tokens.unsqueeze(0))
    given = features(backbone, 1)
    with torch.inference_mode():
        logits = backbone.decode(given, only).logits
        dense = backbone.sam.prompt_encoder(points=(points, labels), boxes=None, masks=None)[1]
        encoding = backbone.sam.prompt_encoder.get_dense_pe()
        masks, _ = backbone.sam.mask_decoder(given.top, encoding, tokens, dense, False)
    torch.testing.assert_close(logits[0], masks[0], atol=1e-4, rtol=1e-4)


class Seen(torch.nn.Module):
    """In the place of an image encoder: keeps what it is given."""

    img_size = 64

    def forward(self, x):
        self.images = x
        return torch.zeros(len(x), CHANNELS, GRID, GRID)


def with_statistics_of(name):
    from ProxyPromptSegmentLib.networks.backbones.sam import _normalisation

    made = tiny_backbone()
    made.name = name
    made.mean, made.std = _normalisation(name)
    made.sam.image_encoder = Seen()
    return made


def test_images_are_normalised_and_padded_as_the_package_does():
    made, image = with_statistics_of("sam-vit-b"), torch.rand(1, 3, 64, 64)
    image[:, :, 40:] = 0
    valid = torch.zeros(1, GRID, GRID, dtype=torch.bool)
    valid[:, :5] = True
    made.encode(image, valid)
    expected = made.sam.preprocess(255 * image[:, :, :40])
    torch.testing.assert_close(made.sam.image_encoder.images, expected, atol=1e-5, rtol=1e-5)


def test_the_compact_model_sees_black_padding_as_in_training():
    made, image = with_statistics_of("sam-compact"), torch.rand(1, 3, 64, 64)
    image[:, :, 40:] = 0
    valid = torch.zeros(1, GRID, GRID, dtype=torch.bool)
    valid[:, :5] = True
    made.encode(image, valid)
    torch.testing.assert_close(made.sam.image_encoder.images, (image - made.mean) / made.std)


def test_black_pixels_of_the_image_are_not_taken_for_padding():
    made, image = with_statistics_of("sam-vit-b"), torch.rand(1, 3, 64, 64)
    image[:, :, 10:20, 10:20] = 0
    made.encode(image)
    expected = made.sam.preprocess(255 * image)
    torch.testing.assert_close(made.sam.image_encoder.images, expected, atol=1e-5, rtol=1e-5)
    valid = torch.ones(1, GRID, GRID, dtype=torch.bool)
    valid[:, :, 7:] = False
    made.encode(image, valid)
    torch.testing.assert_close(made.sam.image_encoder.images[..., :56], expected[..., :56], atol=1e-5, rtol=1e-5)


def test_medsam_sees_images_in_0_to_1_as_it_was_trained():
    made, image = with_statistics_of("medsam-vit-b"), torch.rand(1, 3, 64, 64)
    made.encode(image)
    torch.testing.assert_close(made.sam.image_encoder.images, image)


def test_sams_statistics_are_the_packages():
    from segment_anything.modeling import Sam

    made = build_sam_modules("sam-compact")
    theirs = Sam(made.image_encoder, made.prompt_encoder, made.mask_decoder)  # with the package's defaults
    assert tuple(theirs.pixel_mean.flatten().tolist()) == pytest.approx(SAM_MEAN)
    assert tuple(theirs.pixel_std.flatten().tolist()) == pytest.approx(SAM_STD)
    assert torch.equal(made.pixel_mean, theirs.pixel_mean)
    assert torch.equal(made.pixel_std, theirs.pixel_std)


def test_the_compact_backbone_has_stride_eight():
    torch.manual_seed(0)
    made = SamBackbone("sam-compact").eval()
    assert (made.image_size, made.grid, made.channels) == (256, 32, 128)
    with torch.inference_mode():
        assert made.encode(torch.rand(1, 3, 256, 256)).top.shape == (1, 128, 32, 32)


def test_a_compact_checkpoint_of_the_first_version_gets_its_own_encoder():
    first = SamBackbone("sam-compact", {"image_size": 128}).sam.image_encoder
    now = SamBackbone("sam-compact").sam.image_encoder
    assert hasattr(first, "stages") and not hasattr(first, "trunk")
    assert hasattr(now, "trunk") and not hasattr(now, "stages")


@pytest.mark.parametrize("shape", [(48, 40), (30, 64), (17, 90)])
def test_medsam_sees_whole_slices_squashed_and_its_mask_comes_back_to_the_voxel(shape):
    """The echo finds what is bright: a lesion of a slice of any shape and spacing, exactly where it lies."""
    made = EchoModel()
    made.backbone.name = "medsam-vit-b"
    type_of = type("Squashed", (EchoBackbone,), {"keeps_aspect": SamBackbone.keeps_aspect})
    made.backbone.__class__ = type_of
    segmenter = Segmenter(made, "cpu")
    box = segmenter.letterbox(shape, (3.0, 0.5))
    assert box.valid == (64, 64) and not box.keep_aspect
    assert SamBackbone.keeps_aspect.fget(tiny_backbone())
    image = np.zeros(shape, np.float32)
    mask = np.zeros(shape, np.uint8)
    mask[shape[0] // 3 : shape[0] // 3 * 2, shape[1] // 4 : shape[1] // 2] = 1
    image[mask > 0] = 100
    support = SupportSet((SupportPair(image, mask[None], (3.0, 0.5), (0, 100), "a:0", 0),), ("lesion",))
    found = segmenter.segment(image[None], support, (0, 100), (3.0, 0.5)).masks()[0, 0]
    both = 2 * (found & mask).sum() / (found.sum() + mask.sum())
    assert both > 0.97 and abs(np.argwhere(found).mean(0) - np.argwhere(mask).mean(0)).max() < 0.3
