"""Methods that sample with a fixed prior: DDS, DDNM, DiffPIR, DiffusionMBIR, DPS, Score-SDE."""
