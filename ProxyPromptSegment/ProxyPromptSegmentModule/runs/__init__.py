"""Runs: requests, tasks for the worker thread, and the destinations of results."""
