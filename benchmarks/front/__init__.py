"""The parts of `front_end.py`."""
