"""Training on many data sets at once: episodes whose answer depends on the mask that the support shows."""
