"""NVRTC, CUDA's compiler of kernels, by its C functions: it needs neither a GPU nor a driver.

pip install nvidia-cuda-nvrtc-cu12
"""

import ctypes
import functools
import importlib.util
from pathlib import Path

HINT = "pip install nvidia-cuda-nvrtc-cu12"


@functools.cache
def library():
    """The library of the wheel, or None where it is not installed."""
    spec = importlib.util.find_spec("nvidia")
    folders = spec.submodule_search_locations if spec else ()
    found = [path for folder in folders for path in sorted(Path(folder).rglob("libnvrtc.so*"))]
    return ctypes.CDLL(str(found[0])) if found else None


def compiled(source, architecture):
    """The size of a source's machine code for "sm_90", say, and the compiler's log. RuntimeError where it fails."""
    nvrtc = library()
    program = ctypes.c_void_p()
    _checked(nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None))
    options = [f"--gpu-architecture={architecture}", "-std=c++17"]  # CuPy adds include paths and no meaning
    failed = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * 2)(*(o.encode() for o in options)))
    size = ctypes.c_size_t()
    _checked(nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size)))
    log = ctypes.create_string_buffer(size.value)
    _checked(nvrtc.nvrtcGetProgramLog(program, log))
    lines = [line for line in log.value.decode().splitlines() if "Architectures prior to" not in line]
    text = "\n".join(lines).strip()
    if failed:
        raise RuntimeError(f"{text}\n{source}")
    _checked(nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size)))
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return size.value, text


def _checked(status):
    if status:
        raise RuntimeError(f"NVRTC's error {status}")
