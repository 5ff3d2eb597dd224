"""Few-shot adaptation: a model learns a structure from a few annotated cases, and is tested on each of them."""
