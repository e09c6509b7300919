//! What the tests of a copied kernel need in any engine: elements as numbers, a comparison, and the contract.

pub mod contract;

use safetensors::SafeTensors;
use serde_json::Value;

/// `kernels.json`, where launches are to be checked against it: in debug builds, or with CONTRACT set.
///
/// # Errors
/// The file cannot be read.
pub fn manifest(root: &std::path::Path) -> Result<Option<Value>, Box<dyn std::error::Error>> {
    let wanted = cfg!(debug_assertions) || std::env::var_os("CONTRACT").is_some();
    let path = root.join("kernels.json");
    let read = || std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()));
    Ok(if wanted { Some(serde_json::from_slice(&read()?)?) } else { None })
}

/// The first element of a buffer that is not within what `compare` allows, if there is one.
///
/// # Errors
/// The vector has no expectation for the buffer, or one of another size.
pub fn wrong(tensors: &SafeTensors, described: &Value, compare: &Value, found: &[u8]) -> Result<Option<String>, Box<dyn std::error::Error>> {
    let [name, dtype] = ["name", "dtype"].map(|key| described[key].as_str().unwrap_or_default());
    let [absolute, relative] = ["absolute", "relative"].map(|key| compare[key].as_f64().unwrap_or(0.0));
    let expected = tensors.tensor(&format!("expected.{name}"))?;
    let (found, expected) = (numbers(dtype, found), numbers(&expected.dtype().to_string(), expected.data()));
    if found.len() < expected.len() || expected.is_empty() {
        return Err(format!("{name}: {} elements expected, {} found", expected.len(), found.len()).into());
    }
    // Written so that a NaN is wrong.
    let at = (0..expected.len()).find(|&i| !((found[i] - expected[i]).abs() <= absolute + relative * expected[i].abs()));
    Ok(at.map(|i| format!("{name}[{i}]: expected {:e}, found {:e}", expected[i], found[i])))
}

/// Elements as f64.
fn numbers(dtype: &str, bytes: &[u8]) -> Vec<f64> {
    match dtype.to_lowercase().as_str() {
        "u8" => bytes.iter().map(|&b| b as f64).collect(),
        "i32" => bytes.chunks_exact(4).map(|b| i32::from_le_bytes(b.try_into().unwrap()) as f64).collect(),
        "f32" => bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()) as f64).collect(),
        "bf16" => bytes.chunks_exact(2).map(|b| f32::from_le_bytes([0, 0, b[0], b[1]]) as f64).collect(),
        _ => bytes.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
    }
}
