"""The parts of `report.py`: reading results, and one module per kind of result that turns one into a section."""
