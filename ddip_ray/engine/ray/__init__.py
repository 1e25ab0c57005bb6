"""The only code that knows Ray: clusters, actors, process groups, failures."""
