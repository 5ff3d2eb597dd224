"""ProxyPromptSegmentLib: in-context segmentation with proxy prompts for SAM and SAM 2. Research use only."""

__version__ = "0.1.0"
