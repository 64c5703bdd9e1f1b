"""Load scenarios: the only modules that import locust, which patches the whole process on import."""
