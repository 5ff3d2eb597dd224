"""Readers of image files: NRRD, MetaImage and NIfTI by their own headers, pictures by Pillow; nothing is assumed.

Each compares what the header says with what the file holds before memory is taken: length, checksum, sizes, numbers.
"""
