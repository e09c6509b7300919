"""Whether a launch fits the contract in kernels.json: what debug runs of an engine with copied kernels check before they launch."""
import collections
import struct

FUNCTIONS = {"ceil_div": lambda a, b: -(-a // b), "min": min, "max": max, "__builtins__": {}}
SIZES = {"u8": 1, "bf16": 2}


def check(manifest, launch, buffers):
    """Raises ValueError with what does not fit. `buffers` are the golden vector's."""
    file = next(f for f in manifest["files"] if launch["file"] in (f["file"], f.get("compiled", {}).get("file")))
    entry = next(e for e in file["entries"] if e["name"] == launch["entry"])
    dims = bytes.fromhex(launch["dims_hex"])

    def expect(right, what):
        if not right:
            raise ValueError(f"{launch['file']} {launch['entry']}: {what}")

    expect(len(dims) == file["dims"]["bytes"], f"Dims of {file['dims']['bytes']} bytes, found {len(dims)}")
    # What names stand for. Persistent kernels: at most one block for each multiprocessor.
    number = {"u32": "<I", "f32": "<f"}
    values = {field["name"]: struct.unpack_from(number[field["type"]], dims, field["offset"])[0] for field in file["dims"]["fields"]}
    names = {"multiprocessors": 1 << 20, **{c["name"]: launch["constants"].get(c["name"], c["default"]) for c in file.get("constants", [])}, **values}

    def evaluate(text):
        return eval(text.replace("/", "//"), FUNCTIONS, names)  # the manifest's expressions are Python's, but for this

    for rule in file.get("checks", []) + entry.get("checks", []):
        expect(evaluate(rule), f"the Dims break {rule}")
    grid = evaluate(entry["grid"])
    right = 0 < launch["groups"] <= grid if "multiprocessors" in entry["grid"] else launch["groups"] == grid
    expect(right, f"{launch['groups']} groups, expected {grid}: {entry['grid']}")
    expect(launch["block"] == evaluate(entry["block"]), f"{launch['block']} threads in a block, expected {entry['block']}")
    given = [m["buffer"] for m in launch.get("maps", [])] + launch["buffers"]
    expect(len(given) == len(entry["buffers"]), f"{len(given)} buffers, expected {len(entry['buffers'])}")
    for wanted, number in zip(entry["buffers"], given):
        for other in wanted.get("alternatives", []):  # another shape or dtype, where a field has one of these values
            if names.get(other["name"]) in other.get("values", []):
                wanted = {**wanted, **{key: other[key] for key in ("shape", "dtype") if key in other}}
        condition = wanted.get("only_if")
        if condition and not eval(condition, {"__builtins__": {}}, collections.defaultdict(int, values)):
            continue  # not there, and not looked at; or as a number in a buffer says, which only the kernel knows
        expect(number is not None, f"`{wanted['name']}` is not there" + (f", although {condition}" if condition else ""))
        elements = evaluate(" * ".join(f"({side})" for side in wanted["shape"]) or "1")
        has, needed = buffers[number]["bytes"], (evaluate(wanted.get("from", "0")) + elements) * SIZES.get(wanted["dtype"], 4)
        expect(has >= needed, f"`{wanted['name']}` has {has} bytes, {needed} are needed: {wanted['shape']}")
        limit = file.get("elements_below", elements + 1)
        expect(elements < limit, f"`{wanted['name']}` has {elements} elements, expected fewer than {limit}")
