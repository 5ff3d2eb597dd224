"""Which model, and how many supports, for a user's own annotated cases; measured by leaving one patient out."""
