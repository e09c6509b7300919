//! One golden case: recorded with its values, judged, and written.

use super::choice::Planned;
use super::{hex, sha256};
use crate::check::judges;
use crate::contract::Header;
use crate::device::dry::{DryRecorder, DryRecording, Seen, Written};
use crate::device::{Device, Gpu, Language};
use crate::error::{Error, Result};
use crate::files::safetensors::save_safetensors;
use crate::tensor::{DType, Tensor};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// SHA-256 of the files that have been named so far, by path: PTX is large, and every launch names its file.
pub(super) type Hashes = HashMap<String, String>;

/// Writes the file of a case.
///
/// # Errors
/// [`Error::Io`] where the system refuses.
pub(super) fn write(language: Language, planned: &Planned, path: &Path, hashes: &mut Hashes) -> Result<()> {
    let (case, activation) = (&planned.case, planned.activation);
    let recorder = Arc::new(DryRecorder::new(language));
    let device = Device::Gpu(Gpu::Dry(recorder.clone()));
    let inputs = case.inputs.iter().map(|i| i.tensor(&device, activation)).collect::<Result<Vec<_>>>()?;
    let mut outputs = case.outputs.iter().map(|o| o.before.tensor(&device, activation)).collect::<Result<Vec<_>>>()?;
    (case.run)(&inputs, &mut outputs)?;
    let DryRecording { mut buffers, launches } = recorder.take();
    let judges = judges(case, activation).map_err(|e| Error::Usage(format!("{} {}: {e}", planned.op, planned.label())))?;

    // Operands have the operation's names; buffers that the operation made have the first kernel's.
    let find = |buffers: &[Seen], tensor: &Tensor| buffers.iter().position(|b| b.is(tensor.view()));
    let operands = case.inputs.iter().chain(case.outputs.iter().map(|o| &o.before));
    for (operand, tensor) in operands.zip(inputs.iter().chain(&outputs)) {
        if let Some(i) = find(&buffers, tensor) {
            buffers[i].name = operand.name.into();
        }
    }
    for i in 0..buffers.len() {
        let alike = buffers[..i].iter().filter(|b| b.name == buffers[i].name).count();
        if alike > 0 {
            buffers[i].name = format!("{}_{}", buffers[i].name, alike + 1);
        }
    }

    let scratch: Vec<usize> = case.outputs.iter().zip(&outputs).filter(|(o, _)| o.scratch).filter_map(|(_, t)| find(&buffers, t)).collect();
    let mut tensors = Vec::new();
    for (i, buffer) in buffers.iter().enumerate() {
        if !scratch.contains(&i) {
            tensors.push((format!("before.{}", buffer.name), buffer.shape.clone(), buffer.dtype, buffer.before()));
        }
    }
    let mut compare = Vec::new();
    for (judge, tensor) in judges.iter().zip(&outputs) {
        let (Some(judge), Some(i)) = (judge, find(&buffers, tensor)) else { continue };
        let targets = judge.expected.iter().map(|&e| judge.allowance.target(e));
        let (dtype, bytes) = match tensor.dtype() {
            DType::I32 => (DType::I32, targets.flat_map(|e| (e as i32).to_le_bytes()).collect()),
            DType::U8 => (DType::U8, targets.map(|e| e as u8).collect()),
            _ => (DType::F64, targets.flat_map(f64::to_le_bytes).collect()),
        };
        tensors.push((format!("expected.{}", buffers[i].name), buffers[i].shape.clone(), dtype, bytes));
        let (absolute, relative) = judge.allowance.without_ulps();
        compare.push(json!({ "buffer": i, "absolute": absolute, "relative": relative }));
    }

    let text = json!({
        "op": planned.op,
        "case": case.entry,
        "label": planned.label(),
        "language": super::language_name(language),
        "buffers": buffers.iter().map(described).collect::<Vec<_>>(),
        "launches": launches.iter().map(|written| launch(written, hashes)).collect::<Vec<_>>(),
        "compare": compare,
    });
    save_safetensors(path, &[("trimodal", text.to_string())], &tensors)
}

fn described(buffer: &Seen) -> Value {
    let bytes = buffer.shape.iter().product::<usize>() * buffer.dtype.size();
    json!({ "name": buffer.name, "dtype": buffer.dtype.to_string(), "shape": buffer.shape, "bytes": bytes })
}

fn launch(launch: &Written, hashes: &mut Hashes) -> Value {
    let constants: serde_json::Map<_, _> = launch.constants.iter().map(|&(name, value)| (name.to_string(), value.into())).collect();
    let mut written = json!({
        "file": launch.file,
        "sha256": hashes.entry(launch.file.clone()).or_insert_with(|| sha256(launch.text)),
        "entry": launch.entry,
        "constants": constants,
        "buffers": launch.buffers,
        "dims": dims(launch),
        "dims_hex": hex(&launch.dims),
        "groups": launch.groups,
        "block": launch.block,
        "shared": launch.shared,
    });
    if !launch.maps.is_empty() {
        let dim = |d: &crate::device::MapDim| json!({ "size": d.size, "stride": d.stride, "box": d.box_size });
        let maps: Vec<Value> = launch.maps.iter().map(|m| json!({ "buffer": m.buffer, "dims": m.dims.iter().map(dim).collect::<Vec<_>>() })).collect();
        written["maps"] = maps.into();
    }
    written
}

/// The fields of the `Dims` by name, without what only fills them up.
fn dims(launch: &Written) -> Value {
    let value = |bytes: &[u8], float: bool| -> Value {
        let bytes = bytes.try_into().expect("four bytes");
        match float {
            // The shortest text that is this f32: 1e-5, not 9.999999747378752e-6.
            true => f32::from_le_bytes(bytes).to_string().parse::<f64>().expect("a number's own text").into(),
            false => u32::from_le_bytes(bytes).into(),
        }
    };
    let header = Header::parse(launch.source);
    let fields = header.fields.iter().zip(launch.dims.chunks_exact(4)).filter(|(field, _)| !field.name.starts_with("padding"));
    fields.map(|(field, bytes)| (field.name.clone(), value(bytes, field.kind == "f32"))).collect::<serde_json::Map<_, _>>().into()
}
