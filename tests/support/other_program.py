"""Another program's Celery worker that was given our broker: it knows none of our tasks."""

import os

from celery import Celery

celery_app = Celery("other", broker=os.environ["BROKER_URL"])
