"""Making acquisition stores: simulated from images (CT, MRI), or imported from measurements.

`simulate_ct`, `simulate_mri`, `import_ct` and `import_mri` hold the tasks; the other files hold their parts.
"""
