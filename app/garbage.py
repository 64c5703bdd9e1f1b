"""Keeps the garbage collector's long pauses out of streams."""

import gc


def settle() -> None:
    """Exempt all that exists now from every later collection. Call it once, when a process has started.

    A full collection walks every object there is, which stops all streams of a process: what start-up made (modules,
    schemas, routes: most of it) stays to the end anyhow.
    """
    gc.collect()
    gc.freeze()
