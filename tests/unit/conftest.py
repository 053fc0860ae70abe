"""What all unit tests share."""

import torch

# On the small tensors of these tests, threads lose more by waiting for each other than they gain.
torch.set_num_threads(1)
