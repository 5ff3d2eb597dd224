"""Many studies segmented alike in one folder: what is to be done, who does it, and what was done."""
