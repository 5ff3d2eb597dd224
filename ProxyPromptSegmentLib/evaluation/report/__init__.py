"""Reports of evaluations: one HTML file with tables, charts and pictures, which needs nothing else."""
