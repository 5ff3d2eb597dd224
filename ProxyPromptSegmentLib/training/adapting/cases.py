"""The cases that a model learns from: read, checked, and named where they cannot be used."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ProxyPromptSegmentLib.errors import ProxyPromptError, SupportError
from ProxyPromptSegmentLib.imaging.geometry import Axis
from ProxyPromptSegmentLib.imaging.segmentations import Segment
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind
from ProxyPromptSegmentLib.support.case import SupportCase, read_support_case, shared_objects
from ProxyPromptSegmentLib.support.case_files import CaseFiles, Unusable
from ProxyPromptSegmentLib.support.matching import annotated_axis, has_place, plane_of
from ProxyPromptSegmentLib.support.selecting import select_segments

MOST_NAMED = 6  # cases with the same objects, in one sentence
LEARNING = "learning"


@dataclass(frozen=True, eq=False)
class AnnotatedCase:
    """A case that was read.

    Attributes:
        name: Its name for messages, which stays on this machine.
        case: Image and annotation.
        patient: Name of its patient; "" for one of its own.
    """

    name: str
    case: SupportCase
    patient: str = ""


@dataclass(frozen=True, eq=False)
class UsableCase:
    """A case that is learned from.

    Attributes:
        name: Its name for messages.
        case: Image and annotation.
        segments: The objects, in order.
        axis: Slicing axis.
        patient: Number of its patient.
        digest: Hash of image and masks.
    """

    name: str
    case: SupportCase
    segments: tuple[Segment, ...]
    axis: Axis
    patient: int
    digest: str


@dataclass(frozen=True)
class CheckedCases:
    """What is learned from.

    Attributes:
        objects: Names of the objects.
        cases: At least one.
        unusable: What is left out, and why.
    """

    objects: tuple[str, ...]
    cases: tuple[UsableCase, ...]
    unusable: tuple[Unusable, ...]

    @property
    def patients(self) -> int:
        """Number of patients."""
        return len({case.patient for case in self.cases})

    def digest(self) -> str:
        """Return a hash of all cases and objects, whatever the names of the files.

        It covers what else changes a result: axis, chosen slices and distances of voxels, which make no other image.
        """
        text = "\n".join([*self.objects, *(f"{case.digest} {case.patient} {_grid_of(case)}" for case in self.cases)])
        return hashlib.sha256(text.encode("utf-8")).hexdigest()


def read_cases(
    files: Sequence[CaseFiles], on_case: Callable[[str], None] | None = None
) -> tuple[list[AnnotatedCase], list[Unusable]]:
    """Read annotated cases; those that cannot be read are named.

    Args:
        files: The files.
        on_case: Called with the name of each case before it is read.
    """
    found, unusable = [], []
    for one in files:
        if on_case:
            on_case(one.name)
        try:
            found.append(AnnotatedCase(one.name, read_support_case(one.image, one.annotation), one.patient))
        except ProxyPromptError as error:
            unusable.append(Unusable(one.name, str(error)))
    return found, unusable


def check_cases(
    cases: Sequence[AnnotatedCase],
    objects: Sequence[str] | None = None,
    unusable: Sequence[Unusable] = (),
    allow_single: bool = False,
    doing: str = LEARNING,
) -> CheckedCases:
    """Check what is to be learned from, or measured on.

    Args:
        cases: The cases that could be read.
        objects: Names of the objects as `select_segments` takes them; by default all that every case has.
        unusable: What could not be read, to be named with the rest.
        allow_single: Whether one patient is enough.
        doing: What the cases are for, in sentences.

    Raises:
        SupportError: If fewer than two patients are left, an object is in no case or in one only or given twice, or no
            object is in every case.
    """
    left_out = list(unusable)
    some, twins = _without_twins(_named_apart(cases))
    left_out += twins
    if not some:
        raise SupportError(f"no case can be used for {doing}.{_named(left_out)}")
    names = list(objects) if objects else _shared(some, left_out)
    chosen: list[tuple[AnnotatedCase, tuple[Segment, ...]]] = []
    having: dict[str, list[str]] = {name: [] for name in names}
    for one in some:
        found = _segments(one, names, left_out, having)
        if found:
            chosen.append((one, found))
    _check_objects(having, some, allow_single, left_out)
    usable, others = _of_one_plane(chosen)
    left_out += others
    patients = len({case.patient for case in usable})
    if patients < (1 if allow_single else 2):
        why = "; cases of one folder, or of one name in the column patient, are of one patient"
        raise SupportError(
            f"{patients or 'no'} patient is left, of whom the others' result could be tested: {doing} needs at least "
            f"two{why if len(usable) > 1 else ''}.{_named(left_out)}",
            Remedy(kind=RemedyKind.ALLOW_SINGLE) if usable and doing == LEARNING else None,
        )
    return CheckedCases(tuple(segment.name for segment in usable[0].segments), tuple(usable), tuple(left_out))


def _named_apart(cases: Sequence[AnnotatedCase]) -> list[AnnotatedCase]:
    """Return cases of which no two have one name, as those of two folders may: by it tables tell patients apart."""
    taken, apart = {one.name for one in cases}, list[AnnotatedCase]()
    given = set[str]()
    for one in cases:
        name = one.name
        if name in given:
            name = next(new for n in itertools.count(2) if (new := f"{one.name} ({n})") not in taken)
            taken.add(name)
        given.add(name)
        apart.append(replace(one, name=name))
    return apart


def _without_twins(cases: Sequence[AnnotatedCase]) -> tuple[list[AnnotatedCase], list[Unusable]]:
    """Leave out images that came before: one patient under two names would be tested on themselves.

    What else both names have is then of this one patient as well.
    """
    first: dict[str, int] = {}
    people, twins = [one.patient or f"/{place}" for place, one in enumerate(cases)], list[Unusable]()
    for place, one in enumerate(cases):
        before = first.setdefault(_image_digest(one.case), place)
        if before != place:
            twins.append(Unusable(one.name, f"it has the same image as {cases[before].name}: one patient, two names"))
            people = [people[before] if who == people[place] else who for who in people]
    return [replace(cases[place], patient=people[place]) for place in first.values()], twins


def _image_digest(case: SupportCase) -> str:
    array = np.ascontiguousarray(case.volume.array) + np.float32(0)  # -0 becomes 0, as in files of whole numbers
    return hashlib.sha256(repr(array.shape).encode() + array.tobytes()).hexdigest()


def _grid_of(case: UsableCase) -> str:
    volume = case.case.volume
    spacing = [round(float(mm), 6) for mm in volume.geometry.spacing_mm]
    chosen = "" if case.case.slices is None else f" {case.case.slices}"  # of which alone it is learned
    return f"{case.axis} {spacing} {volume.has_spacing} {volume.has_depth}{chosen}"


def _shared(cases: Sequence[AnnotatedCase], left_out: Sequence[Unusable]) -> list[str]:
    """Return the names of the objects that every case has.

    Raises:
        SupportError: If there is none; it names the cases, those that differ from most first.
    """
    try:
        return shared_objects([one.case.segmentation for one in cases])[0]
    except SupportError:
        having: dict[str, list[str]] = {}
        for one in cases:
            marked = [f"'{segment.name}'" for segment in one.case.segmentation.segments if segment.mask.any()]
            having.setdefault(", ".join(marked) or "nothing", []).append(one.name)
        rarest = sorted(having.items(), key=lambda item: len(item[1]))
        said = "; ".join(f"{what}: {_some(names)}" for what, names in rarest[:MOST_NAMED])
        raise SupportError(
            f"no object is annotated in every case ({said}). Give the object the same name in all of them, leave those "
            f"without it out, or name the object that is wanted.{_named(left_out)}"
        ) from None


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _segments(
    one: AnnotatedCase, names: Sequence[str], left_out: list[Unusable], having: dict[str, list[str]]
) -> tuple[Segment, ...] | None:
    """Return a case's segments of all objects; None, with a reason, where it lacks one.

    Raises:
        SupportError: If an object is given twice, in capitals or not.
    """
    found, reason = [], ""
    for name in names:
        try:
            found += select_segments(one.case.segmentation, [name])
            having[name].append(one.name)
        except SupportError as error:
            reason = reason or str(error)
    if reason:
        left_out.append(Unusable(one.name, reason))
        return None
    own = [segment.name.casefold() for segment in found]
    if twice := next((one.name for one in found if own.count(one.name.casefold()) > 1), ""):
        raise SupportError(f"the object '{twice}' is given twice; give each object once.")
    return tuple(found)


def _check_objects(
    having: dict[str, list[str]], cases: Sequence[AnnotatedCase], allow_single: bool, left_out: Sequence[Unusable]
) -> None:
    """Reject objects that no case has, or only one of several.

    Raises:
        SupportError: Naming them.
    """
    for name, where in having.items():
        if not where:
            raise SupportError(f"no case has the object '{name}'.{_named(left_out)}")
        if len(where) == 1 and len(cases) > 1 and not allow_single:
            raise SupportError(
                f"the object '{name}' is annotated in one case only, {where[0]}: nothing could be tested. Annotate it "
                f"in another case, or leave the object out.{_named(left_out)}"
            )


def _of_one_plane(
    chosen: Sequence[tuple[AnnotatedCase, tuple[Segment, ...]]],
) -> tuple[list[UsableCase], list[Unusable]]:
    """Keep the cases whose slices lie in the plane of most of them."""
    planes, axes = [], []
    for one, segments in chosen:
        kept = replace(one.case.segmentation, segments=list(segments))
        axis = one.case.axis or annotated_axis(one.case.volume, kept)
        axes.append(axis)
        planes.append(plane_of(one.case.volume.geometry, axis) if has_place(one.case.volume) else "")
    usual = max(dict.fromkeys(planes), key=planes.count, default="")
    usable, others = [], []
    numbers: dict[str, int] = {}
    for place, ((one, segments), axis, plane) in enumerate(zip(chosen, axes, planes, strict=True)):
        if plane != usual:
            words = (plane or "a picture without a plane", usual or "pictures without a plane")
            others.append(Unusable(one.name, f"its slices are {words[0]}, those of most cases {words[1]}"))
            continue
        patient = numbers.setdefault(one.patient or f"/{place}", len(numbers))
        digest = hashlib.sha256(_image_digest(one.case).encode())
        for segment in segments:
            digest.update(np.packbits(segment.mask > 0).tobytes())
        usable.append(UsableCase(one.name, one.case, segments, axis, patient, digest.hexdigest()))
    return usable, others


def _named(unusable: Sequence[Unusable]) -> str:
    """Return a sentence that names what is left out, each reason once; "" if nothing is."""
    if not unusable:
        return ""
    names: dict[str, list[str]] = {}
    for one in unusable:
        names.setdefault(one.reason.rstrip("."), []).append(one.name)
    return " Not usable: " + "; ".join(f"{_some(who)} ({reason})" for reason, who in names.items()) + "."
