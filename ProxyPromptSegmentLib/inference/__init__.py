"""Inference: planning of jobs, the segmenter, results, post-processing, explanation of predictions."""
