"""Installation of the Python packages that Slicer does not have."""
