"""The shared-memory registry; needs numpy and the standard library only.

Modules import in one direction: names and view, then values, segment and page, then session and
ledger, then snapshot, registry and api.
"""
