"""Networks and checkpoints that other projects publish."""

CHECKPOINTS = (".pt", ".pth")
SIDECARS = (".yaml", ".yml", ".json")  # beside a checkpoint: what its weights do not show
