"""Public data sets: cases and their splits. Imports no torch."""
