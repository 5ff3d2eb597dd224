"""AutoSAM: a prompt from the image alone, for SAM as it is."""
