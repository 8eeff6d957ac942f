"""Arrays shared with other libraries without a copy, by DLPack: what one writes, the other reads.

    array = torch.from_dlpack(tensor)         any library that follows the protocol
    tensor = minivae.from_dlpack(array)       a Tensor on the device where the data lie

See https://dmlc.github.io/dlpack/latest/python_spec.html.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minivae import backend

if TYPE_CHECKING:
    from minivae.tensor import Tensor

HOST, HOST_PINNED, CUDA, CUDA_MANAGED = 1, 3, 2, 13  # DLPack's kinds of devices


def exported(tensor: Tensor, options: dict[str, Any]) -> Any:
    """The capsule of a tensor's data, for another library. BufferError where they cannot be shared."""
    if tensor.requires_grad:
        raise BufferError(
            f"a tensor of shape {tensor.shape} that needs a gradient cannot be shared, as another library would not "
            "record what it does to it: give its detach()."
        )
    return tensor.data.__dlpack__(**options)


def from_dlpack(x: Any) -> Tensor:
    """A tensor that shares the memory of x, an array of another library: on NumPy from the host, on CuPy from a GPU.

    It needs no gradient, and cannot be written to where x cannot. Raises TypeError where x has no __dlpack__, a dtype
    or a device that is not known here, or needs a gradient where it comes from.
    """
    from minivae.tensor import Tensor

    source = type(x).__module__.partition(".")[0]
    kind = f"{source}.{type(x).__name__}" if source != "builtins" else type(x).__name__
    if not hasattr(x, "__dlpack__") or not hasattr(x, "__dlpack_device__"):
        raise TypeError(
            f"from_dlpack: a {kind} does not share its data by DLPack: give an array of a library that does."
        )
    device = x.__dlpack_device__()[0]
    if device in (HOST, HOST_PINNED):
        xp = backend.host()
    elif device in (CUDA, CUDA_MANAGED):
        xp = backend.current()
        if xp is backend.host():
            raise TypeError(f"from_dlpack: this {kind} lies on a GPU: choose it first, with minivae.use('cupy').")
    else:
        raise TypeError(f"from_dlpack: this {kind} lies on a device of DLPack's kind {device}: move it to the host.")
    try:
        return Tensor(xp.from_dlpack(x))
    except (BufferError, RuntimeError, TypeError, ValueError) as error:  # whatever the other library says
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise TypeError(f"from_dlpack: the data of this {kind} cannot be shared ({reason}).") from None
