"""Runs: what is asked for, the tasks on the worker thread, where the results go."""
