"""The only code that knows Ray: cluster, actors, process group, failures."""
