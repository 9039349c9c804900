"""What programs that know Celery alone send: tasks on lists of kombu's, and remote control."""
