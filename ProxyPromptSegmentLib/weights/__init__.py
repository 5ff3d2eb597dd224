"""Weights as resources: the known files, and how a verified copy gets onto this machine.

Other packages use two parts of it: `registry` (which entries exist) and `ModelCache` (download, verify, remove).
Nothing here imports torch, prints, or accesses the network unless asked to download.

Why not pooch: it verifies hashes and finds the cache folder, but restarts each broken download from zero, trusts
the server's content length, follows redirects to plain http, has neither a lock between processes nor cancellation,
and does not check disk space; all of that would have to be added. Maintained libraries are used for the rest:
`urllib.request` and `ssl` for proxies and certificates, platformdirs for the folders, filelock for the lock. What
remains, one range request at a time, is `transfer`.
"""
