"""Weights as resources: which files there are, and how the right one, or none, comes to this machine.

A subpackage, because it is one subject in several small files and everything above it needs two doors only:
`registry` (what is known by which name) and `ModelCache` (get, check, remove). Nothing here imports torch, prints, or
reaches the network unless it is asked to download.

Why not pooch: it checks hashes and finds the cache folder, but it begins each broken download again from zero, trusts
the server with the length, follows a redirect to plain http, knows neither a lock between processes nor a cancel, and
looks at no disk space; all of that would have to be written around it. What a maintained library does well is left to
one: `urllib.request` and `ssl` know proxies and certificates, platformdirs the folders, filelock the lock. What is
left, one range request at a time, is `transfer`.
"""
