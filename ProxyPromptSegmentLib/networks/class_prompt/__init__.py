"""AutoMedSAM: prompts from a class name and the image, without a support."""
