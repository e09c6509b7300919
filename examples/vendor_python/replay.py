#!/usr/bin/env python3
"""A copied CUDA kernel from Python: the PTX through NVIDIA's driver (ctypes), nothing else but Python's own library.

    trimodal vendor rms_norm --lang ptx --to vendored && python3 examples/vendor_python/replay.py vendored

Replays the golden vectors in FOLDER/golden (or a second folder). Exit code 0: all are right; 1: one is not, or none ran; 77: no NVIDIA GPU or
driver, not run. LIBCUDA names another driver library. Unless Python runs with -O, launches are held to kernels.json first (contract.py)."""
import ctypes, json, os, struct, sys
from ctypes import byref, c_int, c_uint, c_uint64 as u64, c_void_p
from pathlib import Path
import contract

def call(name, *arguments):
    if status := getattr(cuda, name)(*arguments):
        sys.exit(f"{name}: the driver answers {status}")

def read(path):
    """The tensors of a safetensors file, {name: (dtype, bytes)}, and its entry `trimodal`."""
    data = path.read_bytes()
    start = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:start])
    about = json.loads(header.pop("__metadata__")["trimodal"])
    at = {name: slice(*(start + offset for offset in t["data_offsets"])) for name, t in header.items()}
    return {name: (t["dtype"], data[at[name]]) for name, t in header.items()}, about

def numbers(dtype, data):
    code = {"F64": "d", "F32": "f", "I32": "i", "U8": "B", "BF16": "H"}[dtype]
    values = struct.unpack(f"<{len(data) // struct.calcsize(code)}{code}", data)
    return struct.unpack(f"<{len(values)}f", struct.pack(f"<{len(values)}I", *(v << 16 for v in values))) if dtype == "BF16" else values

def tensor_map(m, about, addresses):
    """128 bytes, aligned to 64, that tell the TMA of compute capability 9.0 about a tensor."""
    dims, room = m["dims"], ctypes.create_string_buffer(192)
    size, kind, swizzle_128 = (2, 9, 3) if about["buffers"][m["buffer"]]["dtype"] == "bf16" else (4, 7, 3)
    sizes, strides = (u64 * 5)(*(d["size"] for d in dims)), (u64 * 5)(*(d["stride"] * size for d in dims[1:]))
    boxes, ones = (c_uint * 5)(*(d["box"] for d in dims)), (c_uint * 5)(*[1] * 5)
    encoded = ctypes.addressof(room) + -ctypes.addressof(room) % 64
    call("cuTensorMapEncodeTiled", c_void_p(encoded), kind, len(dims), addresses[m["buffer"]], sizes, strides, boxes, ones, 0, swizzle_128, 0, 0)
    return room, encoded

def replay(root, manifest, path):
    """Launches what a vector says; the elements that are wrong."""
    tensors, about = read(path)
    addresses, wrong = [], []
    for buffer in about["buffers"]:
        data = tensors.get("before." + buffer["name"], ("", b""))[1]
        address, size = u64(), max(16, (buffer["bytes"] + 15) // 16 * 16)
        call("cuMemAllocAsync", byref(address), ctypes.c_size_t(size), None)
        call("cuMemcpyHtoDAsync_v2", address, data.ljust(size, b"\0"), ctypes.c_size_t(size), None)
        addresses.append(address)
    for launch in about["launches"]:
        if manifest:
            contract.check(manifest, launch, about["buffers"])
        if launch["file"] not in modules:
            modules[launch["file"]] = c_void_p()
            call("cuModuleLoadData", byref(modules[launch["file"]]), (root / launch["file"]).read_bytes() + b"\0")
        function = c_void_p()
        call("cuModuleGetFunction", byref(function), modules[launch["file"]], launch["entry"].encode())
        call("cuFuncSetAttribute", function, 8, launch["shared"])  # dynamic shared memory, up to 227 KiB
        # Pointers to the arguments: tensor maps, addresses, the Dims by value.
        maps = [tensor_map(m, about, addresses) for m in launch.get("maps", [])]
        given = [u64(0) if n is None else addresses[n] for n in launch["buffers"]]
        given.append(ctypes.create_string_buffer(bytes.fromhex(launch["dims_hex"])))
        arguments = (c_void_p * (len(maps) + len(given)))(*[at for _, at in maps], *[ctypes.addressof(value) for value in given])
        call("cuLaunchKernel", function, launch["groups"], 1, 1, launch["block"], 1, 1, launch["shared"], None, arguments, None)
    for compare in about["compare"]:
        buffer = about["buffers"][compare["buffer"]]
        data = ctypes.create_string_buffer(buffer["bytes"])
        call("cuMemcpyDtoHAsync_v2", data, addresses[compare["buffer"]], ctypes.c_size_t(buffer["bytes"]), None)
        call("cuStreamSynchronize", None)
        pairs = zip(numbers(buffer["dtype"].upper(), data.raw), numbers(*tensors["expected." + buffer["name"]]), strict=True)
        # Written so that a NaN is wrong.
        right = [abs(f - e) <= compare["absolute"] + compare["relative"] * abs(e) for f, e in pairs]
        wrong += [f"{buffer['name']}[{i}]" for i, right in enumerate(right) if not right]
    for address in addresses:
        call("cuMemFreeAsync", address, None)
    return wrong

def main(root, golden=None):
    device, context, major = c_int(), c_void_p(), c_int()
    if cuda is None or cuda.cuInit(0) or cuda.cuDeviceGet(byref(device), 0):
        print("no NVIDIA GPU or no driver: not run", file=sys.stderr)
        return 77
    call("cuDeviceGetAttribute", byref(major), 75, device)  # of the compute capability
    call("cuDevicePrimaryCtxRetain", byref(context), device)
    call("cuCtxSetCurrent", context)
    root, golden = Path(root), Path(golden or Path(root, "golden"))
    manifest = json.loads((root / "kernels.json").read_text()) if __debug__ else None
    cases = [c for c in json.loads((golden / "golden.json").read_text())["cases"] if major.value == 9 or "needs" not in c]
    wrong = {case["file"]: at for case in cases if (at := replay(root, manifest, golden / case["file"]))}
    sys.stderr.writelines(f"WRONG {file}: {len(at)} elements, the first: {at[0]}\n" for file, at in wrong.items())
    print(f"{len(cases) - len(wrong)} of {len(cases)} golden vectors are right")
    return int(bool(wrong) or not cases)

try:
    cuda, modules = ctypes.CDLL(os.environ.get("LIBCUDA", "nvcuda.dll" if os.name == "nt" else "libcuda.so.1")), {}
except OSError:
    cuda = None
sys.exit(main(*sys.argv[1:]))
