//! A copied CUDA kernel in somebody else's engine: plain cudarc, nothing of trimodal but the files that `trimodal vendor` copied.
//!
//!     trimodal vendor rms_norm --lang ptx --to vendored && cargo run --example vendor_cudarc -- vendored
//!     trimodal golden vectors --lang ptx && cargo run --example vendor_cudarc -- . vectors        (all PTX of this repository)
//!
//! Replays every golden vector in the folder's `golden/` (or the second folder) and compares each element with what is expected; those
//! of kernels for compute capability 9.0 only there. Exit code 0: all are right; 1: one is not, or none ran; 77: there is no NVIDIA GPU
//! or driver, nothing was run. In a debug build (or with CONTRACT set) every launch is first checked against the contract
//! in `kernels.json`: grid and buffers are compared with what the `Dims` require.

use cudarc::driver::{result, sys};
use safetensors::SafeTensors;
use serde_json::Value;
use std::ffi::{CString, c_void};
use std::{collections::HashMap, error::Error, fs, path::Path, process::exit, ptr::null_mut};

mod vendored;

type Fallible<T> = Result<T, Box<dyn Error>>;

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [root, golden @ ..] = &arguments[..] else { return Err("usage: vendor_cudarc FOLDER [GOLDEN]".into()) };
    let (root, golden) = (Path::new(root), golden.first().map_or(Path::new(root).join("golden"), Into::into));
    // SAFETY: only tries to load the driver's library.
    if !unsafe { sys::is_culib_present() } || result::init().is_err() || result::device::get_count().unwrap_or(0) == 0 {
        eprintln!("no NVIDIA GPU or no driver: nothing was run");
        exit(77);
    }
    let device = result::device::get(0)?;
    // SAFETY: the device is the driver's own, and its context is current from here to the end.
    let major = unsafe {
        result::ctx::set_current(result::primary_ctx::retain(device)?)?;
        result::device::get_attribute(device, sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?
    };
    let manifest = vendored::manifest(root)?;
    let index: Value = serde_json::from_slice(&fs::read(golden.join("golden.json"))?)?;
    let (mut ran, mut wrong, mut left_out, mut known) = (0, 0, 0, HashMap::new());
    for case in index["cases"].as_array().ok_or("golden.json has no cases")? {
        if case["needs"] == "sm_90a" && major != 9 {
            left_out += 1;
            continue;
        }
        let file = case["file"].as_str().ok_or("a case without a file")?;
        ran += 1;
        if let Err(what) = replay(root, &manifest, &fs::read(golden.join(file))?, &mut known).map_err(|e| format!("{file}: {e}"))? {
            wrong += 1;
            eprintln!("WRONG {file} ({}): {what}", case["label"].as_str().unwrap_or_default());
        }
    }
    if left_out > 0 {
        println!("{left_out} left out: they need a GPU of compute capability 9.0");
    }
    println!("{} of {ran} golden vectors are right on {}", ran - wrong, result::device::get_name(device)?);
    exit((wrong > 0 || ran == 0) as i32)
}

/// Launches what a vector says. The outer error: the vector is damaged, or the driver refuses. The inner one: what is wrong.
fn replay(root: &Path, manifest: &Option<Value>, vector: &[u8], known: &mut HashMap<String, sys::CUmodule>) -> Fallible<Result<(), String>> {
    let (_, header) = SafeTensors::read_metadata(vector)?;
    let about: Value = serde_json::from_str(header.metadata().as_ref().and_then(|m| m.get("trimodal")).ok_or("no entry `trimodal`")?)?;
    let tensors = SafeTensors::deserialize(vector)?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let number = |value: &Value| value.as_u64().unwrap_or_default() as usize;
    let stream: sys::CUstream = null_mut(); // the default one

    let mut buffers = Vec::new();
    for described in list(&about["buffers"]) {
        let mut bytes = vec![0; number(&described["bytes"]).next_multiple_of(16).max(16)];
        if let Ok(before) = tensors.tensor(&format!("before.{}", text(&described["name"]))) {
            bytes[..before.data().len()].copy_from_slice(before.data());
        }
        // SAFETY: as many bytes are copied as were allocated.
        buffers.push(unsafe {
            let address = result::malloc_async(stream, bytes.len())?;
            result::memcpy_htod_async(address, &bytes, stream)?;
            address
        });
    }
    for launch in list(&about["launches"]) {
        if let Some(manifest) = manifest {
            vendored::contract::check(manifest, &launch, &about["buffers"])?;
        }
        let (file, entry) = (text(&launch["file"]), CString::new(text(&launch["entry"]))?);
        if !known.contains_key(&file) {
            let ptx = CString::new(fs::read(root.join(&file))?)?;
            // SAFETY: text with a zero after it; the module is never unloaded.
            known.insert(file.clone(), unsafe { result::module::load_data(ptx.as_ptr().cast()) }?);
        }
        // Arguments: tensor maps, addresses, the Dims by value.
        let maps = list(&launch["maps"]).iter().map(|map| tensor_map(map, &about["buffers"], &buffers)).collect::<Fallible<Vec<_>>>()?;
        let addresses: Vec<u64> = list(&launch["buffers"]).iter().map(|n| n.as_u64().map_or(0, |n| buffers[n as usize])).collect();
        let dims = text(&launch["dims_hex"]);
        let dims = (0..dims.len()).step_by(8).map(|i| u32::from_str_radix(&dims[i..i + 8], 16).map(u32::swap_bytes)).collect::<Result<Vec<_>, _>>()?;
        let maps = maps.iter().map(|map| (&raw const *map).cast::<c_void>());
        let values = maps.chain(addresses.iter().map(|address| (&raw const *address).cast())).chain([dims.as_ptr().cast()]);
        let mut arguments: Vec<*mut c_void> = values.map(|value| value.cast_mut()).collect();
        let [groups, block, shared] = ["groups", "block", "shared"].map(|key| number(&launch[key]) as u32);
        // SAFETY: the vector was recorded from the kernel's own launcher: arguments and sizes are what the kernel takes. The driver copies
        // the arguments before it returns.
        unsafe {
            let function = result::module::get_function(known[&file], entry)?;
            if shared > 48 << 10 {
                let most = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
                sys::cuFuncSetAttribute(function, most, shared as i32).result()?;
            }
            result::launch_kernel(function, (groups, 1, 1), (block, 1, 1), shared, stream, &mut arguments)?;
        }
    }
    let mut outcome = Ok(());
    for compare in list(&about["compare"]) {
        let described = &about["buffers"][number(&compare["buffer"])];
        let mut bytes = vec![0u8; number(&described["bytes"])];
        // SAFETY: the buffer has at least these bytes; the stream is waited for before they are looked at.
        unsafe {
            result::memcpy_dtoh_async(&mut bytes, buffers[number(&compare["buffer"])], stream)?;
            result::stream::synchronize(stream)?;
        }
        if let Some(what) = vendored::wrong(&tensors, described, &compare, &bytes)? {
            outcome = Err(what);
        }
    }
    // SAFETY: nothing runs any more.
    buffers.into_iter().try_for_each(|address| unsafe { result::free_async(address, stream) })?;
    Ok(outcome)
}

/// A tensor as the TMA of compute capability 9.0 sees it: elements of a stride of 1 first, 128-byte swizzle, zeros outside.
fn tensor_map(map: &Value, described: &Value, buffers: &[u64]) -> Fallible<sys::CUtensorMap> {
    let number = map["buffer"].as_u64().ok_or("a map without a buffer")? as usize;
    let of = |key: &str| -> Vec<u64> { map["dims"].as_array().into_iter().flatten().filter_map(|dim| dim[key].as_u64()).collect() };
    let (is_bf16, address) = (described[number]["dtype"] == "bf16", buffers[number] as *mut c_void);
    let (sizes, strides, boxes) = (of("size"), of("stride"), of("box").iter().map(|&side| side as u32).collect::<Vec<_>>());
    let strides: Vec<u64> = strides[1..].iter().map(|stride| stride * if is_bf16 { 2 } else { 4 }).collect();
    let mut encoded = sys::CUtensorMap { opaque: [0; 16] };
    use sys::{CUtensorMapDataType as Type, CUtensorMapFloatOOBfill as Fill, CUtensorMapInterleave as Layers};
    use sys::{CUtensorMapL2promotion as Promotion, CUtensorMapSwizzle as Swizzle, cuTensorMapEncodeTiled as encode};
    let dtype = if is_bf16 { Type::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 } else { Type::CU_TENSOR_MAP_DATA_TYPE_FLOAT32 };
    let (layers, swizzle) = (Layers::CU_TENSOR_MAP_INTERLEAVE_NONE, Swizzle::CU_TENSOR_MAP_SWIZZLE_128B);
    let (promotion, fill) = (Promotion::CU_TENSOR_MAP_L2_PROMOTION_NONE, Fill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    let (rank, ones, [sizes, strides]) = (boxes.len() as u32, [1; 5], [sizes.as_ptr(), strides.as_ptr()]);
    // SAFETY: the arrays have `rank` elements (strides one less), and the driver only reads them.
    unsafe { encode(&mut encoded, dtype, rank, address, sizes, strides, boxes.as_ptr(), ones.as_ptr(), layers, swizzle, promotion, fill) }.result()?;
    Ok(encoded)
}
