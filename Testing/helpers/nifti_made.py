"""NIfTI files, byte by byte."""

from __future__ import annotations

import struct

import numpy as np


def nifti(
    dims, kind: int, bits: int, voxels: bytes, *, slope=0.0, offset=352.0, pixdim=(1, 1, 1), codes=(0, 1), shift=0.0
):
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, len(dims), *dims, *[1] * (7 - len(dims)))
    struct.pack_into("<hh", head, 70, kind, bits)
    struct.pack_into("<4f", head, 76, 1.0, *pixdim)
    struct.pack_into("<fff", head, 108, offset, slope, 0.0)
    head[123] = 2
    struct.pack_into("<hh", head, 252, *codes)
    for n in range(3):
        struct.pack_into("<4f", head, 280 + 16 * n, *[float(n == m) for m in range(3)], shift)
    head[344:348] = b"n+1\0"
    return bytes(head) + voxels


VALUES = np.arange(60, dtype=np.int16)
