"""Rows of the table of speed about segmenting a volume with supports that are prepared: networks on arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.evaluation.speed_table import subjects
from ProxyPromptSegmentLib.evaluation.speed_table.row import NONE, Goal, Row
from ProxyPromptSegmentLib.evaluation.speed_table.timing import clock_of, in_turns
from ProxyPromptSegmentLib.networks.letterbox import images_to_tensor

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.evaluation.speed_table.subjects import Target
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter
    from ProxyPromptSegmentLib.inference.slice_encoder import EncodedSlices
    from ProxyPromptSegmentLib.networks.values import PreparedSupport

SUPPORTS, OBJECTS = 4, 2


def frozen(segmenter: Segmenter, target: Target, objects: int) -> Callable[[], None]:
    """Return a call of the image encoder and the mask decoder alone, with a box for each object as prompt.

    Slices are windowed and enlarged before it, and the same number of them is computed together.
    """
    import torch

    from ProxyPromptSegmentLib.networks.values import Prompt

    backbone, device = segmenter.model.backbone, segmenter.device
    box = segmenter.letterbox((target.images.shape[1], target.images.shape[2]))
    tensors = images_to_tensor(target.images, target.window, box)
    side = float(backbone.image_size)
    corners = torch.tensor([[side / 4, side / 4, 3 * side / 4, 3 * side / 4]] * objects, device=device)

    def call() -> None:
        with torch.inference_mode(), segmenter.precision():
            tokens = backbone.prompt_points(None, None, corners).unsqueeze(0)
            for part in tensors.split(segmenter.batch):
                features = backbone.encode(part.to(device))
                backbone.decode(features, Prompt(sparse=tokens.expand(len(part), -1, -1, -1))).logits.cpu()

    return call


def first_pass(segmenter: Segmenter, target: Target, prepared: PreparedSupport) -> Callable[[], object]:
    """Return a call that segments a volume of which nothing was computed before."""
    return lambda: segmenter.segment(target.images, prepared, target.window)


def volume_rows(segmenter: Segmenter, target: Target, repeats: int, pass_goal: Goal, again_goal: Goal) -> list[Row]:
    """Return the rows of a first pass over a volume, and of another support on the same volume.

    Args:
        segmenter: The model.
        target: The volume.
        repeats: Number of repetitions.
        pass_goal: Goal of the first pass against encoder and decoder alone.
        again_goal: Goal of another support against the first pass.
    """
    raw = subjects.supports(SUPPORTS, OBJECTS, 21)
    one, other = segmenter.prepare(subjects.supports(SUPPORTS, OBJECTS)), segmenter.prepare(raw)
    kept: dict[int, EncodedSlices] = {}
    segmenter.segment(target.images, one, target.window, encoded=kept)

    def again() -> None:
        segmenter.segment(target.images, other, target.window, encoded=kept)

    def not_prepared() -> None:
        segmenter.segment(target.images, raw, target.window, encoded=kept)

    calls = [first_pass(segmenter, target, one), frozen(segmenter, target, OBJECTS), again, not_prepared]
    whole, alone, second, fresh = in_turns(calls, repeats, segmenter.device)
    name, device, clock = segmenter.model.backbone.name, str(segmenter.device), clock_of(segmenter.device)
    about = f"{name}, {len(target.images)} slices, K={SUPPORTS}, N={OBJECTS}"
    return [
        Row.of(
            f"first pass over a volume ({about})",
            "frozen encoder and decoder alone, a box for each object",
            device,
            whole,
            alone,
            clock,
            pass_goal,
        ),
        Row.of(f"another support, prepared ({about})", "its own first pass", device, second, whole, clock, again_goal),
        Row.of(f"another support, not prepared ({about})", "its own first pass", device, fresh, whole, clock, NONE),
    ]


def object_rows(segmenter: Segmenter, target: Target, repeats: int) -> list[Row]:
    """Return the row of four objects against one."""
    many, one = (segmenter.prepare(subjects.supports(SUPPORTS, objects)) for objects in (4, 1))
    calls = [first_pass(segmenter, target, prepared) for prepared in (many, one)]
    four, single = in_turns(calls, repeats, segmenter.device)
    what = f"N=4 objects ({segmenter.model.backbone.name}, first pass, K={SUPPORTS})"
    return [
        Row.of(what, "N=1", str(segmenter.device), four, single, clock_of(segmenter.device), Goal(most=1.5)),
    ]


def support_rows(segmenter: Segmenter, target: Target, repeats: int) -> list[Row]:
    """Return the rows of sixteen prepared supports against one: as in use, and with all of them read."""
    many, one = (segmenter.prepare(subjects.supports(count, 1)) for count in (16, 1))
    calls = [
        first_pass(segmenter, target, many),
        first_pass(segmenter, target, one),
        first_pass(segmenter.reading(None), target, many),
    ]
    chosen, single, every = in_turns(calls, repeats, segmenter.device)
    device, clock, name = str(segmenter.device), clock_of(segmenter.device), segmenter.model.backbone.name
    against = "K=1, per target slice"
    what = f"K=16 supports, prepared, each slice reads the {segmenter.most_read} most like it ({name})"
    return [
        Row.of(what, against, device, chosen, single, clock, Goal(most=1.3)),
        Row.of(f"K=16 supports, prepared, all of them read ({name})", against, device, every, single, clock),
    ]


def before_rows(model: str, segmenter: Segmenter, target: Target, repeats: int) -> list[Row]:
    """Return the row of a model against itself without what was done for its speed."""
    bare = subjects.plain(model, str(segmenter.device))
    support = subjects.supports(SUPPORTS, OBJECTS)
    calls = [first_pass(one, target, one.prepare(support)) for one in (segmenter, bare)]
    now, before = in_turns(calls, repeats, segmenter.device)
    return [
        Row.of(
            f"{segmenter.model.backbone.name} as it is used (first pass, K={SUPPORTS}, N={OBJECTS})",
            "itself without what was done for speed",
            str(segmenter.device),
            now,
            before,
            clock_of(segmenter.device),
            Goal(most=0.5),
            notes=subjects.PLAIN,
        )
    ]


def half_rows(segmenter: Segmenter, target: Target, repeats: int) -> list[Row]:
    """Return the row of half precision against encoder and decoder alone in single precision."""
    import torch

    half = segmenter.in_half(torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16)
    prepared = half.prepare(subjects.supports(SUPPORTS, 1))
    calls = [first_pass(half, target, prepared), frozen(segmenter, target, 1)]
    whole, alone = in_turns(calls, repeats, segmenter.device)
    return [
        Row.of(
            f"{segmenter.model.backbone.name} in half precision (first pass, K={SUPPORTS}, N=1)",
            "frozen encoder and decoder alone in single precision, one box",
            str(segmenter.device),
            whole,
            alone,
            clock_of(segmenter.device),
            Goal(most=0.5),
        )
    ]
