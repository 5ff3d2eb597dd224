"""ProxyPromptSegmentLib: in-context segmentation with proxy prompts for SAM and SAM 2. Research use only.

The names of `ProxyPromptSegmentLib.api` can be used from here; each is loaded when it is first used, so that importing
the package costs nothing and needs nothing installed.
"""

__version__ = "0.1.0"

# The same as in `api`, which a test compares.
__all__ = [
    "ByHand",
    "CancelToken",
    "EverythingChoice",
    "EverythingResult",
    "FrameSource",
    "FramesResult",
    "Model",
    "ModelFacts",
    "Note",
    "Progress",
    "ProxyPromptError",
    "Segment",
    "Segmentation",
    "Severity",
    "SupportCase",
    "SupportLibrary",
    "TrackingMode",
    "Volume",
    "VolumeGeometry",
    "VolumeResult",
    "VoxelBox",
    "VoxelMask",
    "VoxelPoint",
    "dice",
    "load_model",
    "open_frames",
    "read_segmentation",
    "read_support_case",
    "read_volume",
    "write_dicom_seg",
    "write_frames",
    "write_labels",
    "write_segmentation",
    "write_volume",
]


def __getattr__(name: str) -> object:
    """Load a name of the public API when it is first used."""
    if name in __all__:
        import importlib

        return getattr(importlib.import_module("ProxyPromptSegmentLib.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; Docs/api.md lists what it offers")
