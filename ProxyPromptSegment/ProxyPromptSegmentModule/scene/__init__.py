"""MRML nodes: reading volumes and sequences, writing voxels into segments."""
