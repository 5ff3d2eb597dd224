"""MoNuSeg: TIFF pictures, and for each an XML file with the outline of every nucleus.

    MoNuSeg/Training/Tissue Images/TCGA-18-5592-01Z-00-DX1.tif, MoNuSeg/Training/Annotations/TCGA-18-5592-01Z-00-DX1.xml
    MoNuSeg/Test/TCGA-2Z-A9J9-01A-01-TS1.tif, MoNuSeg/Test/TCGA-2Z-A9J9-01A-01-TS1.xml

The first three parts of a name are the patient.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.data.original.items import TEST, TRAIN, Item, case_of, picture
from ProxyPromptSegmentLib.errors import InputError

PATIENT_PARTS = 3


def items(folder: Path) -> list[Item]:
    """Return the images with outlines; empty if the folder has another layout."""
    outlines = {path.stem: path for path in sorted(folder.rglob("TCGA-*.xml"))}
    found = []
    for image in sorted(folder.rglob("TCGA-*.tif")):
        if image.stem in outlines:
            patient = "-".join(image.stem.split("-")[:PATIENT_PARTS])
            part = TEST if "test" in str(image.parent.relative_to(folder)).casefold() else TRAIN
            found.append(
                Item(image.stem, patient, partial(_read, image.stem, patient, image, outlines[image.stem]), part)
            )
    return found


def _read(name: str, patient: str, image: Path, outlines: Path) -> Case:
    pixels = picture(image)
    return case_of("monuseg", name, patient, pixels, {"nuclei": nuclei(outlines, pixels.shape[:2])})


def nuclei(outlines: Path, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return the union of the outlined nuclei, ``(H, W)``.

    Raises:
        InputError: If the file is no XML of outlines.
    """
    from PIL import Image, ImageDraw

    drawn = Image.new("1", (shape[1], shape[0]))
    pen = ImageDraw.Draw(drawn)
    try:
        for region in ElementTree.parse(outlines).getroot().iter("Region"):
            corners = [(float(one.get("X", "")), float(one.get("Y", ""))) for one in region.iter("Vertex")]
            if len(corners) > 2:
                pen.polygon(corners, fill=1, outline=1)
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise InputError(f"{outlines} holds no outlines of nuclei: {error}; restore the file.") from None
    return np.asarray(drawn, dtype=bool)
