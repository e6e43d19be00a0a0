"""The parts of `benchmarks/serving.py`: prompts, arrivals, requests, processes, figures, tables and plots."""
