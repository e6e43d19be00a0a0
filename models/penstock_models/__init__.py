"""The decoder-only transformer, its families, the checkpoint loader and the storage of keys and values.

This module imports nothing, so that what the API process needs (`config`, `hub`, `spec`, `families`) costs no torch.
"""
