"""What runs after what: one folder for each stage, thin nodes, every node with a name."""
