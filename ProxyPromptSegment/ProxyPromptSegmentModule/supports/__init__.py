"""The supports of the panel: table, rows, where they come from, how the scene keeps them."""
