"""When and where things run; knows no mathematics."""
