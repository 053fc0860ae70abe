"""Bring back redacted images and measure how much came back; knows nothing of Ray.

contracts   errors (the tree of errors, the failure classes), schemas (tables between jobs)
domain      images (decode, encode), redaction (pixelate, blur, boxes), models/ (the networks),
            losses, metrics (errors of one image), plan (inputs to shards)
services    storage (disk and S3 as one), commits (a run's state beside its output),
            checkpoints (weights), training (steps and epochs), reconstruction (batches),
            embedded_s3 (a throw-away S3 server)
"""
