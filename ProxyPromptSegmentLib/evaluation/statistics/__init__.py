"""Scores of masks, their summaries, intervals and paired tests."""
