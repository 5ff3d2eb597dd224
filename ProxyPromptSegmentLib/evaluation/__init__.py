"""How good a model is, by protocols that can be run again."""
