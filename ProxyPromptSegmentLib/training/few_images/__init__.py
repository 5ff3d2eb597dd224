"""A new prompt generator on a frozen image encoder, learned from a few annotated images, as a system of the tables."""
