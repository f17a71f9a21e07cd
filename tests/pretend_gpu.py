"""A GPU that is not there: tensors that say they are on "cuda" and hold their numbers on the CPU.

torch's FakeTensorMode cannot do it: without a PyTorch made for CUDA it aborts at the first gradient, and it
has no numbers, which degradation and guards against NaN need. Here operations compute on the CPU, and what
torch would refuse on a GPU is refused: tensors of both kinds in one operation, and numpy's view of one. What
the host waits for, and what it sends, is counted. Autocast does what it would on a GPU, as far as the names
of operations tell.

To torch's own C++ such tensors are on the device "meta:1", so that nothing there looks for a GPU.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

GPU = torch.device("cuda", 0)
_INSIDE = torch.device("meta", 1)

_aten = torch.ops.aten
_COPIES = {_aten.copy_.default, _aten._to_copy.default}
_INDEXING = {_aten.index.Tensor, _aten._index_put_impl_.default, _aten.index_put_.default}
_WAITS = {
    _aten._local_scalar_dense.default,
    _aten.nonzero.default,
    _aten.masked_select.default,
    _aten.equal.default,
}
"""Operations whose result, or its size, the host has to know."""
# What autocast does on a GPU, as the page "Automatic Mixed Precision" of PyTorch's manual lists it.
_LOWER = {
    "conv2d",
    "linear",
    "matmul",
    "__matmul__",
    "bmm",
    "baddbmm",
    "einsum",
    "scaled_dot_product_attention",
    "prelu",
}
_FLOAT32 = {
    "layer_norm",
    "l1_loss",
    "mse_loss",
    "softmax",
    "exp",
    "pow",
    "__pow__",
    "sum",
    "prod",
    "norm",
    "log2",
}
_WIDEST = {"addcmul", "addcmul_", "grid_sample", "tensordot"}


class Pretended(Tensor):
    """A tensor on the pretended GPU.

    Attributes:
        held: The numbers, on the CPU.
    """

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "Pretended":
        found: Pretended = Tensor._make_wrapper_subclass(
            cls, held.shape, held.stride(), held.storage_offset(), dtype=held.dtype, device=_INSIDE
        )
        found.held = held
        return found

    device = property(lambda self: GPU)
    is_meta = property(lambda self: False)
    is_cuda = property(lambda self: True)

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Pretended({self.held!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copied = Pretended(self.held.clone())
        if isinstance(self, torch.nn.Parameter):
            return torch.nn.Parameter(copied, self.requires_grad)
        return copied

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.held.detach().__reduce_ex__(protocol)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        raise AssertionError(f"{func} outside of pretended_gpu")


class _Generator(torch.Generator):
    """A source of randomness that says it is on the device that was asked for."""

    _device: torch.device

    def __new__(cls, device: Any = "cpu") -> "_Generator":
        found = super().__new__(cls)
        found._device = torch.device(device)
        return found

    device = property(lambda self: self._device)


class _Operations(TorchDispatchMode):
    """Every operation, on the CPU; see `Gpu`."""

    def __init__(self, gpu: "Gpu") -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _is_composite(func):
            with self:  # some come here whole
                return func.decompose(*args, **kwargs)
        tensors = [leaf for leaf in _leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        ours = [t for t in tensors if isinstance(t, Pretended)]
        others = [t for t in tensors if not isinstance(t, Pretended)]
        where = kwargs.get("device")
        on_gpu = bool(ours) if where is None else torch.device(where) == _INSIDE
        if not ours and not on_gpu:
            return func(*args, **kwargs)
        if ours and others and not _takes_both(func, args, kwargs):
            raise RuntimeError(
                f"Expected all tensors to be on the same device: {func}, {[*map(_kind, tensors)]}"
            )
        if func is _aten.copy_.default:
            on_gpu = isinstance(args[0], Pretended)
        if func in _WAITS or (func in _COPIES and not on_gpu) or _has_mask(func, args):
            self.gpu.wait()
        self.gpu.sent += sum(t.nbytes for t in others)
        plain = {key: "cpu" if key == "device" else _held(value) for key, value in kwargs.items()}
        out = func(*_held(args), **plain)
        if func._schema.is_mutable:
            return _written(func, args, kwargs)
        return _each(lambda t: Pretended(t) if isinstance(t, Tensor) and on_gpu else t, out)


class _Calls(TorchFunctionMode):
    """Every call of torch from Python: names "cuda" as C++ knows it, and does what autocast does on a GPU."""

    def __init__(self, gpu: "Gpu") -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.device:
            return func(*args, **(kwargs or {}))
        args, kwargs = _each(_named, args), _each(_named, kwargs or {})
        name = getattr(func, "__name__", "")
        ours = bool(args) and isinstance(args[0], Pretended)
        if name in ("numpy", "__array__") and ours:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if name == "tolist" and ours:
            self.gpu.wait()
            return args[0].held.tolist()
        if name == "new_tensor" and ours:
            kwargs = {"dtype": args[0].dtype} | kwargs
            return torch.tensor(args[1], **kwargs).to(_INSIDE)
        if func is torch.tensor and kwargs.get("device") == _INSIDE:
            return torch.tensor(*args, **kwargs | {"device": "cpu"}).to(_INSIDE)
        if torch.is_autocast_enabled("cuda"):
            args, kwargs = _autocast(name, args, kwargs)
        return func(*args, **kwargs)


class Gpu:
    """What was seen of the pretended GPU.

    Attributes:
        waits: How often the host waited for the GPU, by the function of the package that asked for it.
        sent: Bytes copied from the host.
    """

    def __init__(self) -> None:
        self.waits: Counter[str] = Counter()
        self.sent = 0

    def wait(self) -> None:
        """Note that the host waits."""
        frame: Any = sys._getframe()
        while frame and "/esc_sr/" not in frame.f_code.co_filename:
            frame = frame.f_back
        if frame:
            self.waits[f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_code.co_name}"] += 1


def _leaves(tree: Any) -> Iterator[Any]:
    """What lies in lists, tuples and dictionaries."""
    if type(tree) in (list, tuple, dict):
        for branch in tree.values() if type(tree) is dict else tree:
            yield from _leaves(branch)
    else:
        yield tree


def _each(change: Callable[[Any], Any], tree: Any) -> Any:
    """The same lists, tuples and dictionaries of changed leaves."""
    if type(tree) is dict:
        return {key: _each(change, branch) for key, branch in tree.items()}
    if type(tree) in (list, tuple):
        return type(tree)(_each(change, branch) for branch in tree)
    return change(tree)


@cache
def _is_composite(func: Any) -> bool:
    """Whether an operation is nothing but others."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")


def _takes_both(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether an operation takes what it is given from both sides: copies, indices and single numbers."""
    given = _leaves((args[0], args[2:]) if func in _INDEXING else (args, kwargs))
    sides = {isinstance(t, Pretended) for t in given if isinstance(t, Tensor) and t.ndim}
    return func in _COPIES or len(sides) <= 1


def _has_mask(func: Any, args: Any) -> bool:
    """Whether an operation is indexed by a mask, whose sum the host has to know."""
    return func in _INDEXING and any(t is not None and t.dtype == torch.bool for t in args[1])


def _kind(t: Tensor) -> str:
    return f"{t.device.type} {tuple(t.shape)}"


def _held(tree: Any) -> Any:
    return _each(lambda t: t.held if isinstance(t, Pretended) else t, tree)


def _written(func: Any, args: Any, kwargs: Any) -> Any:
    """What an operation gives that writes into its arguments: these."""
    found = []
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            found.append(args[place] if place < len(args) else kwargs[argument.name])
    returns = len(func._schema.returns)
    return None if returns == 0 else found[0] if returns == 1 else tuple(found)


def _named(value: Any) -> Any:
    """The name by which C++ knows a device."""
    if isinstance(value, str | torch.device) and str(value).split(":")[0] == "cuda":
        return _INSIDE
    return value


def _autocast(name: str, args: Any, kwargs: Any) -> Any:
    dtypes = [t.dtype for t in _leaves((args, kwargs)) if isinstance(t, Pretended) and t.is_floating_point()]
    if name in _LOWER:
        wanted = torch.get_autocast_dtype("cuda")
    elif name in _FLOAT32 or (name in _WIDEST and torch.float32 in dtypes):
        wanted = torch.float32
    else:
        return args, kwargs

    def cast(t: Any) -> Any:
        floating = isinstance(t, Pretended) and t.is_floating_point() and t.dtype != torch.float64
        return t.to(wanted) if floating else t

    return _each(cast, args), _each(cast, kwargs)


@contextmanager
def pretended_gpu(free: int = 2**33) -> Iterator[Gpu]:
    """Pretend that there is one GPU, with so many bytes free."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "Generator", _Generator)
        patch.setattr(torch, "inference_mode", torch.no_grad)  # in which such tensors have no views
        patch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: GPU)
        patch.setattr(torch.accelerator, "device_count", lambda: 1)
        patch.setattr(torch.cuda, "get_device_name", lambda device: "a pretended GPU")
        patch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2 * free))
        patch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        name = "_accelerator_graph_capture_health_check"
        patch.setattr(torch.optim.Optimizer, name, lambda self: None, raising=False)
        gpu = Gpu()
        with _Operations(gpu), _Calls(gpu):
            yield gpu
