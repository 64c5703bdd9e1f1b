"""Faults under live load: what the stream contract promises, tried on a running system and counted stream by stream."""
