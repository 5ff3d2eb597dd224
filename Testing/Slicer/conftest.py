"""These run inside a real Slicer; pytest does not collect them."""

collect_ignore_glob = ["*.py"]
