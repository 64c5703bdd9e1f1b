"""Benchmarks of the lean path: `streamgauge perf`. What they found is in RESULTS.md."""
