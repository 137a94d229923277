"""What the machine around the daemon sees of it."""
