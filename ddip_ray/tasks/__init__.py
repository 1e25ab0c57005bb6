"""One function for each command: no printing, no command-line options, callable from Python.

Functions take paths and settings and return values. Where a Python user finds things:

- Make an acquisition: `acquire.simulate_ct.simulate`, `acquire.simulate_mri.simulate_mri`,
  `acquire.import_ct.import_projections`, `acquire.import_mri.import_mri`.
- Score a result: `judge.evaluate.evaluate` compares stores, `judge.scores.psnr` and `judge.scores.ssim`
compare
  arrays or tensors, and `judge.montage.montage` draws a picture.
- Reconstruct with several methods and tabulate: `compare.compare.compare`.
- Reconstruct many volumes: `cohort.driver.Cohort`, which works through a `cohort.ledger.Ledger`.
- Write NIfTI: `export.export`. Describe a store in words: `describe.in_words`.

A single reconstruction is `ddip_ray.engine.run.reconstruct`. Long tasks take a ``report`` function
(`progress.Report`) that is told how far they are.
"""
