"""What a run will need and how it is spread over workers, known before it starts."""
