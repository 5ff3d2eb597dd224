"""A terminology entry as 3D Slicer writes it."""

from __future__ import annotations

TERMS = {
    "contextName": "Segmentation category and type - 3D Slicer General Anatomy list",
    "category": ["SCT", "123037004", "Anatomical Structure"],
    "type": ["SCT", "41216001", "Prostate"],
    "anatomicContextName": "Anatomic codes - DICOM master list",
    "anatomicRegion": ["SCT", "23451007", "Adrenal gland"],
    "anatomicRegionModifier": ["SCT", "24028007", "Right"],
}
