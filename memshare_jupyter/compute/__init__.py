"""Numerics and the work of one worker; runs the same in-process or on an engine."""
