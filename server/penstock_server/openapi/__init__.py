"""The OpenAPI document of a server, and the page that shows it. Made once at start; nothing here serves requests."""
