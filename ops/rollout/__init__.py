"""A guarded rollout: the flag moves in steps, and each is judged by how the candidate does beside the baseline."""
