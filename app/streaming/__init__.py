"""Streaming backends behind one contract; which one a stream has is pinned when its message is posted."""
