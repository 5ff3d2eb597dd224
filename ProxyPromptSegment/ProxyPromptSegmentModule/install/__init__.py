"""Installation of the Python packages that Slicer lacks."""
