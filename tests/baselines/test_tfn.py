"""TFN against loops."""

import numpy as np
import torch

from finelib.baselines import tfn


def test_tfn_is_an_outer_product():
    t, a, v = torch.randn(2, 3), torch.randn(2, 2), torch.randn(2, 4)
    fused = tfn.tensor_fusion([t, a, v])
    for b in range(2):
        one = [[*z[b].tolist(), 1.0] for z in (t, a, v)]
        expected = [x * y * z for x in one[0] for y in one[1] for z in one[2]]
        np.testing.assert_allclose(fused[b].numpy(), expected, rtol=1e-5)
