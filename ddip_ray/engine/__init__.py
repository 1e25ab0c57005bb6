"""When and where things run; the engine knows no mathematics."""
