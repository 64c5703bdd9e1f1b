"""Builds the Celery worker: one task, which answers one message. Run it with `celery -A app.worker worker`."""
