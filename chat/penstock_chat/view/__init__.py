"""What the user sees: replies while they come, and the lines around them. Nothing here asks a server."""
