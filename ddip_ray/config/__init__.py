"""Settings: names, the table of methods with their defaults, the schema. Imports neither torch nor ray."""
