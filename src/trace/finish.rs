//! From what was recorded to a [`Trace`]: names, contracts, the share of each launch in its call.

use super::recorder::{RawCall, Recording};
use super::{Access, Phase, Span, SpanKind, Trace, TracedOperand, live, source};
use crate::contract::{self, Header};
use crate::device::ptx::{self, Compiled};
use crate::device::{Device, Language};
use crate::observe::{self, GRADIENT, Launched, TensorId};
use std::collections::HashMap;

/// Puts together what was recorded; `times` are the beginning and the length of every span.
pub(super) fn trace(device: &Device, Recording { recorder, clock, wall, times }: &Recording) -> Trace {
    let language = match device {
        Device::Cpu => None,
        Device::Gpu(gpu) => Some(gpu.language()),
    };
    let (calls, recorded, known) = (recorder.calls.borrow(), recorder.spans.borrow(), recorder.names.borrow());
    let mut headers = Headers::default();
    let mut spans: Vec<Span> = Vec::with_capacity(recorded.len());
    for (raw, &(start, seconds)) in recorded.iter().zip(times) {
        let call = raw.call.map(|number| &calls[number]);
        let (mut name, mut source, mut groups) = (format!("{:?}", raw.kind).to_lowercase(), String::new(), 0);
        let mut operands = raw.operands.clone();
        let mut names: Vec<String> = operands.iter().map(|o| o.name.to_string()).collect();
        match (&raw.launch, call) {
            (Some(launch), _) => {
                let language = language.unwrap_or(Language::Ptx); // a launch is a GPU's
                let entry = format!("{}{}", launch.kernel.1, if language == Language::Ptx { launch.variant.as_str() } else { "" });
                name = format!("{}.{entry}", launch.kernel.0);
                source = source::of_entry(language, launch.hopper, launch.kernel.0, &entry);
                groups = launch.groups;
                (names, operands) = headers.operands(language, launch, &entry, call);
            }
            (None, Some(call)) if raw.kind == SpanKind::Kernel => {
                name = format!("{}.{}", call.op, call.pass);
                source = source::on_cpu(call.place);
                operands = call.work.operands.clone();
                names = operands.iter().map(|o| o.name.to_string()).collect();
            }
            _ => {}
        }
        let operands: Vec<TracedOperand> = names.into_iter().zip(&operands).map(|(name, raw)| operand(name, raw, &known)).collect();
        spans.push(Span {
            kind: raw.kind,
            name,
            op: call.map_or(String::new(), |c| c.op.to_string()),
            call: raw.call,
            phase: raw.scope.0,
            part: raw.scope.1,
            what: what(raw.kind, raw.scope.0, call, &operands, &known),
            source,
            bytes: operands.iter().map(|o| o.bytes).sum(),
            operands,
            groups,
            start,
            seconds,
            flops: 0,
            products: 0,
            made_live: 0,
            freed: 0,
            live: 0,
            percent: None,
            bound: None,
        });
    }
    share(&mut spans, &calls);
    live::fill(&mut spans);
    Trace { device: device.to_string(), clock, wall: *wall, formula: None, spans }
}

fn operand(name: String, raw: &observe::ObservedOperand, known: &HashMap<TensorId, String>) -> TracedOperand {
    let size = raw.dtype.size() as u64;
    TracedOperand {
        name,
        tensor: known.get(&raw.id).cloned(),
        shape: raw.shape.dims().to_vec(),
        dtype: raw.dtype.to_string(),
        access: raw.access,
        // What is written in part keeps the rest: it is not read.
        bytes: raw.elements as u64 * size * if raw.access == Access::Update && raw.elements == raw.shape.len() { 2 } else { 1 },
        values: raw.values.clone(),
        id: raw.id,
        size: raw.shape.len() as u64 * size,
    }
}

/// Gives every launch its share of its call's operations: what the call says of its entry, the rest to the others by the size of what
/// they read first.
fn share(spans: &mut [Span], calls: &[RawCall]) {
    let mut of_call: Vec<Vec<usize>> = vec![Vec::new(); calls.len()];
    for (i, span) in spans.iter().enumerate() {
        if let (Some(number), SpanKind::Kernel) = (span.call, span.kind) {
            of_call[number].push(i);
        }
    }
    for (call, members) in calls.iter().zip(of_call) {
        let said = |span: &Span| {
            let entry = span.name.split_once('.').map_or("", |(_, entry)| entry);
            call.work.launches.iter().find(|(name, _)| entry.starts_with(name)).map(|&(_, flops)| flops)
        };
        // On the CPU the call is one span.
        let (named, others): (Vec<usize>, Vec<usize>) = members.iter().partition(|&&i| members.len() > 1 && said(&spans[i]).is_some());
        let mut rest = call.work.flops;
        for i in named {
            spans[i].flops = said(&spans[i]).unwrap_or(0);
            rest = rest.saturating_sub(spans[i].flops);
        }
        let weight = |i: &usize| spans[*i].operands.first().map_or(1, |o| o.size.max(1)) as u128;
        let weights: Vec<u128> = others.iter().map(weight).collect();
        let all: u128 = weights.iter().sum::<u128>().max(1);
        let mut given = 0;
        for (n, (&i, weight)) in others.iter().zip(&weights).enumerate() {
            let part = if n + 1 == others.len() { rest - given } else { (rest as u128 * weight / all) as u64 };
            spans[i].flops = part;
            given += part;
        }
        for i in members {
            spans[i].products = if call.work.product { spans[i].flops } else { 0 };
        }
    }
}

/// What a span is about, in a word or two.
fn what(kind: SpanKind, phase: Phase, call: Option<&RawCall>, operands: &[TracedOperand], known: &HashMap<TensorId, String>) -> String {
    let short = |name: &str| {
        let name = name.trim_end_matches(".weight").trim_end_matches(".bias");
        // `audio_embed.conv1` is one name, and so is `vision_stem.conv1.norm`.
        let from = if ["audio_embed", "vision_stem"].iter().any(|part| name.contains(part)) { 0 } else { name.rfind('.').map_or(0, |at| at + 1) };
        name[from..].to_string()
    };
    if kind != SpanKind::Kernel {
        return operands.last().and_then(|o| o.tensor.clone()).unwrap_or_default();
    }
    // The norm is about all of them.
    if call.is_some_and(|c| c.pass == "global_norm") {
        return String::new();
    }
    let of_call = call.map_or(&[][..], |c| &c.work.operands);
    let about = of_call.iter().filter_map(|o| known.get(&o.id)).find(|name| is_parameter(name));
    let Some(about) = about else { return String::new() };
    // A forward product in the backward pass is one of a layer's gradients.
    let product = call.is_some_and(|c| c.work.product && c.pass == "forward") && phase == Phase::Backward;
    match about.strip_prefix(GRADIENT) {
        Some(of) => format!("{}{}", short(of), if product { ": dW" } else { "" }),
        None => format!("{}{}", short(about), if product { ": dx" } else { "" }),
    }
}

/// Whether a tensor's name is a parameter's, or its gradient's.
fn is_parameter(name: &str) -> bool {
    let name = name.strip_prefix(GRADIENT).unwrap_or(name);
    !name.contains(' ') && name.contains('.')
}

/// The headers of the kernel files, read once.
#[derive(Default)]
struct Headers(HashMap<&'static str, Option<Header>>);

impl Headers {
    /// The names and operands of a launch: names, shapes and accesses from the header of its file; what its call says of a tensor
    /// (that only some rows of it are touched, that it is added to) counts before that.
    fn operands(&mut self, language: Language, launch: &Launched, entry: &str, call: Option<&RawCall>) -> (Vec<String>, Vec<observe::ObservedOperand>) {
        let stem = launch.kernel.0;
        let compiled = if launch.hopper { Compiled::hopper(stem) } else { Compiled::portable(stem) };
        // The twins take the same `Dims`; the CUDA file's says which letters stand for its fields.
        let contract = compiled.map(|c| &ptx::module(c).contract);
        let values = contract.map(|c| c.values(&launch.dims)).unwrap_or_default();
        let documented = match language {
            Language::Ptx => contract,
            Language::Wgsl => self.0.entry(stem).or_insert_with(|| source::wgsl(stem).map(Header::parse)).as_ref(),
        };
        let buffers = documented.and_then(|c| c.entry(entry)).map_or(&[][..], |e| &e.buffers);
        let (mut names, mut operands) = (Vec::new(), Vec::new());
        for (i, tensor) in launch.tensors.iter().enumerate() {
            let Some(tensor) = tensor else { continue };
            let buffer = buffers.get(i);
            let mut operand = tensor.clone();
            if let Some(buffer) = buffer {
                operand.access = access(buffer.access);
                let elements = buffer.elements(&values).ok().map(|n| n as usize);
                operand.elements = elements.unwrap_or(operand.elements).min(operand.elements);
            }
            if let Some(said) = call.and_then(|c| c.work.operands.iter().rfind(|o| o.id == tensor.id)) {
                let partial = said.elements < said.shape.len();
                // One launch of several may only read what the call writes in the end.
                if operand.access != Access::Read || buffer.is_none() {
                    operand.access = said.access;
                }
                operand.elements = if partial { said.elements } else { operand.elements };
                operand.values = said.values.clone();
            }
            names.push(buffer.map_or_else(|| format!("buffer {i}"), |b| b.name.clone()));
            operands.push(operand);
        }
        (names, operands)
    }
}

/// What a header says happens to a buffer, as traffic.
fn access(said: Option<contract::Access>) -> Access {
    match said {
        Some(contract::Access::Overwrite) => Access::Write,
        Some(contract::Access::Accumulate | contract::Access::Update) => Access::Update,
        Some(contract::Access::Read) | None => Access::Read,
    }
}
