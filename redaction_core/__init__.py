"""Bring back redacted images and measure how much came back; knows nothing of Ray.

contracts   errors (the tree of errors, the failure classes), schemas (tables between jobs)
domain      images (decode, encode), redaction (pixelate, blur, boxes), models/ (the networks),
            losses, metrics (errors of one image), reference (estimates without a network),
            totals (what rows add up to), plan (inputs to shards), contact_sheet (side by side)
services    storage/ (disk and S3 as one), commits/ (a run's state beside its output),
            checkpoints (weights), companions (originals and masks), loading (key to pixels),
            gate (what may be in memory at once), inference (a network on a device),
            reconstruction (one shard), training (steps and epochs), embedded_s3 (a server to try)
"""
