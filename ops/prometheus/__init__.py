"""What Prometheus records and whom it wakes, made from `objectives.yml`."""
