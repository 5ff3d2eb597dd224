"""Training of SAM 2 on the compact SAM's frozen encoder: clips of images and volumes, a memory, the same pools."""
