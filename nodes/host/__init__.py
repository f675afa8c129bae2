"""Score sessions, differentiable encoding, residency, progress and paths on the host's own services."""
