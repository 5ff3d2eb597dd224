"""Tiles: slices are cut, segmented at a larger scale and stitched, where a structure is too thin or too small for them.

`plan` decides from the support alone, `grid` and `cut` lay out the tiles of targets and supports, `choose` picks the
support tiles that a target tile reads, `tiler` segments a slice, `stitch` joins the predictions, and `stack` segments
slices as a plan says.
"""
