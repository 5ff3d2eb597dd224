"""A closer look: small structures are segmented a second time, enlarged, around where they were found.

`choice` decides it from the support's masks and cuts slices, without torch; `look` segments.
"""
