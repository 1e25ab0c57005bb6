"""The layout, memory and time of a run, known before it starts."""
