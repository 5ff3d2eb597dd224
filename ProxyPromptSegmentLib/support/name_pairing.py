"""Images and annotations that belong together by their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from ProxyPromptSegmentLib.imaging.paths import stem_of, suffix_of

MASK_WORDS = frozenset(
    ("mask", "masks", "label", "labels", "lbl", "seg", "segs", "segmentation", "segmentations", "annotation")
    + ("annotations", "gt", "truth", "groundtruth", "contour", "contours", "roi", "msk", "manual")
)
IMAGE_WORDS = frozenset(("image", "images", "img", "imgs", "volume", "vol", "scan", "picture", "photo", "data"))
_CHANNEL = re.compile(r"_(\d{4})$")  # of nnU-Net: image_0000 is the first channel of image
Pairs = list[tuple[Path, Path]]
Reasons = list[tuple[Path, str]]


def words_of(stem: str) -> list[str]:
    """Return the words of a file name in lower case."""
    return [word for word in re.split(r"[\s_.\-]+", stem.lower()) if word]


def is_annotation(path: Path) -> bool:
    """Return whether a name is that of an annotation."""
    return suffix_of(path) in (".seg.nrrd", ".seg.nhdr") or bool(MASK_WORDS & set(words_of(stem_of(path))))


def pair_by_name(images: Sequence[Path], annotations: Sequence[Path], side_by_side: bool) -> tuple[Pairs, Reasons]:
    """Pair images and annotations, each of them once.

    The more of two names is equal, the sooner they are paired: whole names if they lie in two folders; all words but
    those for annotations; then also without those for images. What is left may be channels, as nnU-Net names them: of
    ``a_0000`` and ``a_0001`` the first belongs to an annotation with exactly the name ``a``; the others are left out.

    Args:
        images: Files, or folders with a series.
        annotations: Files.
        side_by_side: Whether images and annotations lie in two folders, in which names may be equal.

    Returns:
        The pairs in the order of the images; and what is not used, each with the reason.
    """
    found = _Found(images, annotations)
    if side_by_side:
        found.match(stem_of, stem_of)
    found.match(_without(frozenset()), _without(MASK_WORDS))
    found.match(_without(IMAGE_WORDS), _without(MASK_WORDS))
    found.match_channels()
    return found.result()


def _without(words: frozenset[str]) -> Callable[[Path], str]:
    def key(path: Path) -> str:
        return "_".join(word for word in words_of(stem_of(path)) if word not in words)

    return key


class _Found:
    """What was paired so far, and what it was not paired for."""

    def __init__(self, images: Sequence[Path], annotations: Sequence[Path]) -> None:
        self._images, self._annotations = list(images), list(annotations)
        self._pair_of: dict[Path, Path] = {}
        self._reasons: dict[Path, str] = {}
        self._unclear: set[Path] = set()  # annotations that images were not paired for
        self._further: set[Path] = set()  # channels

    def match(self, image_key: Callable[[Path], str], annotation_key: Callable[[Path], str]) -> None:
        """Pair what is left by keys of the names; what is not clear is left out for good."""
        images, annotations = _grouped(self._left(), image_key), _grouped(self._free(), annotation_key)
        for key, mine in images.items():
            fitting = annotations.get(key, [])
            if len(mine) == 1 and len(fitting) == 1:
                self._pair_of[mine[0]] = fitting[0]
            elif fitting:
                several = len(fitting) > 1
                names = " and ".join(path.name for path in (fitting if several else mine))
                what = f"it has several annotations, {names}" if several else f"{fitting[0].name} fits {names} alike"
                self._reasons.update(dict.fromkeys(mine, f"{what}; keep one, or give a list of pairs"))
                self._unclear.update(fitting)

    def match_channels(self) -> None:
        """Pair first channels with annotations of exactly the name without the channel."""
        channels = [path for path in self._left() if _CHANNEL.search(stem_of(path))]
        groups = _grouped(channels, lambda path: _CHANNEL.sub("", stem_of(path)))
        exact = _grouped(self._free(), stem_of)
        for name, mine in groups.items():
            if len(exact.get(name, [])) != 1:
                continue
            first = [path for path in mine if stem_of(path) == f"{name}_0000"] or mine
            if len(first) == 1:
                self._pair_of[first[0]] = exact[name][0]
                self._further.update(path for path in mine if path != first[0])
            else:
                names = " and ".join(path.name for path in first)
                reason = f"{exact[name][0].name} fits {names} alike; keep one, or give a list of pairs"
                self._reasons.update(dict.fromkeys(mine, reason))
                self._unclear.update(exact[name])

    def result(self) -> tuple[Pairs, Reasons]:
        """Return the pairs, and what is not used."""
        pairs = [(image, self._pair_of[image]) for image in self._images if image in self._pair_of]
        left: Reasons = []
        for image in self._images:
            if image not in self._pair_of and image not in self._further:
                left.append((image, self._reasons.get(image) or self._reason(image)))
        left += [(path, "no image has its name") for path in self._free()]
        return pairs, left

    def _left(self) -> list[Path]:
        """Return the images that are neither paired nor left out."""
        return [path for path in self._images if path not in self._pair_of and path not in self._reasons]

    def _free(self) -> list[Path]:
        """Return the annotations that are neither paired nor left out."""
        used = self._unclear | set(self._pair_of.values())
        return [path for path in self._annotations if path not in used]

    def _reason(self, image: Path) -> str:
        """Return why an image has no annotation: another image may have it."""
        key, bare = _without(IMAGE_WORDS)(image), _without(MASK_WORDS)
        owner = next((one for one, annotation in self._pair_of.items() if bare(annotation) == key), None)
        if owner is None:
            return "no annotation has its name"
        return f"its annotation {self._pair_of[owner].name} is that of {owner.name}"


def _grouped(paths: Sequence[Path], key: Callable[[Path], str]) -> dict[str, list[Path]]:
    groups: dict[str, list[Path]] = {}
    for path in paths:
        groups.setdefault(key(path), []).append(path)
    return groups
