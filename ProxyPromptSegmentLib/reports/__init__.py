"""What a run leaves behind beside masks: reports, tables, previews, overlays."""
