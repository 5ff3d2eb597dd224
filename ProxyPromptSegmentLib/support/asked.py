"""Objects that are asked for without a support: by the name of a class, or by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.imaging.segmentations import default_color

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.support.pairs import SupportPair, SupportSet

Asked: TypeAlias = "SupportSet | AskedObjects"
"""What a job is asked for: objects that supports show, or objects that the model knows or the user points at."""


def support_of(asked: Asked) -> SupportSet:
    """Return a support set as it is.

    Raises:
        UsageError: If there is none.
    """
    if isinstance(asked, AskedObjects):
        raise UsageError(f"this needs an annotated case, and {', '.join(asked.objects)} is asked for without one.")
    return asked


@dataclass(frozen=True, eq=False)
class AskedObjects:
    """Objects without a support; it has the names, colours and terminologies of a `SupportSet`, and no pairs.

    Attributes:
        objects: Name of each object.
        colors: Red, green, blue in 0..1 per object; Slicer's default colours if none are given.
        terminologies: Slicer's terminology entry per object, or None.
        one_piece: For each object whether it is a single connected structure; False if it is not known.
        by_hand: Whether the user points at them, so that no model need know them.

    Raises:
        UsageError: If there is no object, names repeat, or counts differ.
    """

    objects: tuple[str, ...]
    colors: tuple[tuple[float, float, float], ...] = ()
    terminologies: tuple[dict[str, Any] | None, ...] = ()
    one_piece: tuple[bool, ...] = ()
    by_hand: bool = False

    def __post_init__(self) -> None:
        """Validate the counts and complete what is missing."""
        objects = tuple(str(name) for name in self.objects)
        count = len(objects)
        if not objects or len({name.casefold() for name in objects}) < count:
            raise UsageError(
                f"the objects asked for are {', '.join(objects) or 'none'}; name at least one, and each once."
            )
        colors = tuple(self.colors) or tuple(default_color(n) for n in range(count))
        terminologies = tuple(self.terminologies) or (None,) * count
        pieces = tuple(self.one_piece) or (False,) * count
        if not count == len(colors) == len(terminologies) == len(pieces):
            raise UsageError(
                f"{count} objects are asked for with {len(colors)} colours and {len(terminologies)} terminologies; "
                "the counts must agree."
            )
        object.__setattr__(self, "objects", objects)
        object.__setattr__(self, "colors", colors)
        object.__setattr__(self, "terminologies", terminologies)
        object.__setattr__(self, "one_piece", pieces)

    @property
    def values(self) -> tuple[int, ...]:
        """Values in a label map: none."""
        return ()

    @property
    def pairs(self) -> tuple[SupportPair, ...]:
        """The support's pairs: none."""
        return ()

    def __len__(self) -> int:
        """Return the number of pairs: none."""
        return 0
