"""A run as a service: what it tells its service manager, and the unit that starts it."""
