"""How the next token is chosen: processors reshape a distribution, strategies search, the sampler draws.

Importing this package, its parameters and its tables never imports torch: the HTTP server validates with them.
"""
