"""Blocks, sequences, the scheduler and the step loop; the engine process and its client; `LLM` for use in process."""
