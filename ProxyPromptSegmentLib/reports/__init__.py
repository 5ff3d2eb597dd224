"""Results other than masks: reports, tables, previews, overlays."""
