"""From a plan to masks: segmenter, results, post-processing."""
