"""Prompts by hand: points, boxes and masks of the user, and everything that an image shows."""
