"""The packages of the Slicer module; Slicer loads `ProxyPromptSegment.py` in the parent folder.

Slicer adds the module's folder to `sys.path`, so this is imported as `ProxyPromptSegmentModule`. Packages that
Slicer lacks are not imported at the top of files, because Slicer loads modules before they are installed.
"""
