"""What people are told when a fire, a flow or a reload goes wrong, and over which channel."""
