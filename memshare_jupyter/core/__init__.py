"""The shared-memory registry; needs numpy and the standard library only.

Modules import in one direction: names and view; layout, arrays and values; segment and page;
session, entry and ledger; snapshot; holdings, owning and viewing; registry, process and api.
"""
