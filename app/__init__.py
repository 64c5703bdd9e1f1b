"""The streaming system: an API that serves answers as Server-Sent Events and a worker that produces them."""
