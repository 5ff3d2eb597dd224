"""The table of speed: every figure is a ratio of two things that were timed alternately in one run."""
