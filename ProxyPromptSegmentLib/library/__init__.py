"""The support library on disk: entries, files, archives, thumbnails. Imports no torch."""
