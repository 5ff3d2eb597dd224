"""Registration of annotated volumes to a target: where their masks would lie in it, as a soft prior. Needs no torch."""
