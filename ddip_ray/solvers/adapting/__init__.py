"""Methods that adapt the prior to the scan: D3IP, DDIP, SCD."""
