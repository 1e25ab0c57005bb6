"""What a run will need: layout, memory, network calls, time."""
