"""Readers for the papers' data sets as their publishers distribute them, one short file for each layout."""
