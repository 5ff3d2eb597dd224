"""Images, masks and files in millimetres: geometry, reading, writing. Imports no torch."""
