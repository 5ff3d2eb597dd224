"""Every table and figure of the papers as a protocol that one command measures."""
