"""Training of one model: from a task to its checkpoints."""
