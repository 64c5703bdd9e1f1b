"""Measures a streaming server over the wire; shares no code with the application it measures."""
