"""Plots as static SVG: numbers in, one element out. No statistics here, and no script in what comes out."""
