"""Frames in time or space, one after another: videos, folders of pictures, cine DICOM, sequences, volumes.

Every source gives its frames in the same form and turned as `geometry.slice_view` turns slices, and tells where
they lie. Memory is bounded: a video is decoded frame by frame, a folder read picture by picture, what is packed
is unpacked into a temporary file. (GDCM decodes a cine clip in one piece; that piece is given back at once.)
A frame that cannot be read becomes a `BadFrame`, and reading goes on.
"""

from __future__ import annotations

from ProxyPromptSegmentLib.frames.opening import open_frames
from ProxyPromptSegmentLib.frames.source import BadFrame, Frame, FrameSource
from ProxyPromptSegmentLib.frames.video import VIDEO_SUFFIXES

__all__ = ["VIDEO_SUFFIXES", "BadFrame", "Frame", "FrameSource", "open_frames"]
