"""Frames in time or space: videos, folders of pictures, cine DICOM, sequences, volumes.

Every source returns its frames in the same form, oriented like slices (`geometry.slice_view`), and has their
geometry. Memory is bounded: a video is decoded frame by frame, a folder is read picture by picture, compressed
data are unpacked into a temporary file. (GDCM decodes a cine clip as a whole; that memory is released at once.)
A frame that cannot be read becomes a `BadFrame`, and reading continues.
"""

from __future__ import annotations

from ProxyPromptSegmentLib.frames.opening import open_frames
from ProxyPromptSegmentLib.frames.source import BadFrame, Frame, FrameArray, FrameSource, FrameStream
from ProxyPromptSegmentLib.frames.video import VIDEO_SUFFIXES

__all__ = ["VIDEO_SUFFIXES", "BadFrame", "Frame", "FrameArray", "FrameSource", "FrameStream", "open_frames"]
