"""The engine decides when and where things run; it knows no mathematics."""
