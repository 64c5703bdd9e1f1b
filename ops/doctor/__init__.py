"""`streamgauge doctor`: small checks of a running system, each with a finding, its evidence and its fix.

A module examines one part and gives its findings; `examination` asks them in order. A check that can't be made because
something before it is away says nothing: the finding before it says enough.
"""
