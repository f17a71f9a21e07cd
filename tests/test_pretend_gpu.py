"""The pretended GPU refuses what a GPU would, and counts what the host waits for."""

import pytest
import torch

from pretend_gpu import GPU, pretended_gpu


def test_tensors_of_both_kinds_are_refused() -> None:
    with pretended_gpu():
        near, far = torch.ones(2, 3), torch.ones(2, 3, device="cuda")
        assert (far.device, far.is_cuda, (far + 1).device) == (GPU, True, GPU)
        for mixed in (lambda: far + near, lambda: near @ far.T, lambda: torch.cat((far, near))):
            with pytest.raises(RuntimeError, match="on the same device"):
                mixed()
        assert torch.equal((far + torch.tensor(2.0) + near.to(far)).cpu(), torch.full((2, 3), 4.0))
        with pytest.raises(TypeError, match="to numpy"):
            far.numpy()


def test_gradients_stay_on_it() -> None:
    x = torch.rand(3, 4)
    with pretended_gpu() as gpu:
        layer = torch.nn.Linear(4, 2).to("cuda")
        layer(x.to("cuda")).square().sum().backward()
        assert layer.weight.grad is not None and layer.weight.grad.device == GPU
        assert gpu.sent == 4 * (12 + 8 + 2) and not gpu.waits


def test_autocast_is_that_of_a_gpu() -> None:
    with pretended_gpu(), torch.autocast("cuda", torch.bfloat16):
        x = torch.ones(2, 2, device="cuda")
        assert ((x @ x).dtype, (x @ x).exp().dtype) == (torch.bfloat16, torch.float32)


def test_a_machine_is_itself_again_afterwards() -> None:
    with pretended_gpu():
        assert torch.Generator("cuda").device.type == "cuda"
    assert torch.Generator().device.type == "cpu"
    assert torch.inference_mode.__name__ == "inference_mode"
