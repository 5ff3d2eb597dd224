"""The models that can be chosen, and their downloads."""
