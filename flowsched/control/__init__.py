"""The daemon spoken to over a socket: what can be asked, how it is served, and how it is called."""
