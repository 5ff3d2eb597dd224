"""Parts of the Slicer module; `ProxyPromptSegment.py` beside this folder is what Slicer loads.

Slicer puts the module's folder on `sys.path`, so this is imported as `ProxyPromptSegmentModule`. Nothing heavy is
imported at file scope: Slicer loads modules before anything is installed.
"""
