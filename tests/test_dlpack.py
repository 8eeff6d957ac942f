"""Arrays shared with PyTorch and NumPy, without a copy, and those that cannot be."""

import numpy as np
import pytest
import strict

from minivae import Tensor, backend, from_dlpack


@pytest.fixture(autouse=True)
def backend_as_it_was():
    before = backend.current()
    yield
    backend.use(before.name)


def test_a_tensor_of_pytorch_and_ours_are_one_memory():
    torch = pytest.importorskip("torch")
    theirs = torch.arange(6, dtype=torch.float32).reshape(2, 3).T
    ours = from_dlpack(theirs)
    ours.data[0, 1] = 9
    assert theirs[0, 1] == 9 and ours.shape == (3, 2) and not ours.requires_grad
    theirs[2, 0] = 7
    assert ours.data[2, 0] == 7


def test_ours_in_pytorch():
    torch = pytest.importorskip("torch")
    ours = Tensor(np.zeros((4, 3), np.float64)[::2])
    theirs = torch.from_dlpack(ours)
    theirs[1, 2] = 5
    assert ours.data[1, 2] == 5 and theirs.dtype == torch.float64 and theirs.stride() == (6, 1)
    assert ours.__dlpack_device__() == (1, 0)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int32", "int64", "uint8", "bool"])
def test_dtypes_come_through(dtype):
    a = np.ones(3, dtype)
    assert from_dlpack(a).dtype == dtype and np.from_dlpack(Tensor(a)).dtype == dtype


def test_what_needs_a_gradient_is_not_shared():
    torch = pytest.importorskip("torch")
    with pytest.raises(BufferError, match=r"shape \(2,\) that needs a gradient .* detach"):
        torch.from_dlpack(Tensor(np.zeros(2), requires_grad=True))
    torch.from_dlpack(Tensor(np.zeros(2), requires_grad=True).detach())
    with pytest.raises(TypeError, match=r"torch\.Tensor cannot be shared \(Can't export tensors that require gradient"):
        from_dlpack(torch.zeros(2, requires_grad=True))


def test_what_is_read_only_stays_so():
    a = np.zeros(3)
    a.setflags(write=False)
    assert not from_dlpack(a).data.flags.writeable
    assert not np.from_dlpack(Tensor(a)).flags.writeable


class There:
    """An array of some library, on a device of a kind."""

    def __init__(self, kind):
        self.kind = kind

    def __dlpack__(self, **options):
        raise BufferError("no such thing.\nmore")

    def __dlpack_device__(self):
        return self.kind, 0


def test_sentences():
    torch = pytest.importorskip("torch")
    backend.use("numpy")
    for x, words in {
        (1, 2): "a tuple does not share its data by DLPack",
        There(1): r"There cannot be shared \(no such thing\)\.$",
        There(2): r"lies on a GPU: choose it first, with minivae\.use\('cupy'\)",
        There(8): r"a device of DLPack's kind 8: move it to the host",
        torch.zeros(2, dtype=torch.bfloat16): r"torch\.Tensor cannot be shared \(",
    }.items():
        with pytest.raises(TypeError, match=words) as raised:
            from_dlpack(x)
        assert "\n" not in str(raised.value)


def test_an_array_on_the_device_stays_there():
    xp = backend.use("strict")
    ours = from_dlpack(Tensor(xp.ones(3)))
    assert type(ours.data) is strict.ndarray and ours.__dlpack_device__()[0] == 2
    assert type(from_dlpack(np.ones(3)).data) is np.ndarray  # moving it is a call of its own
