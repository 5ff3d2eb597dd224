"""Images and masks with their geometry in mm: reading, writing, measuring. Imports no torch."""
