//! Where the numbers of an operation's `Dims` come from, for whoever launches its kernels in another engine.
//!
//! Most are sizes of operands, which the kernel files' headers say (`x [rows, C]`). The others stand in a table beside `Dims`, in words
//! and as expressions of [`crate::contract`]; `kernels.json` has both. A test launches every case without a GPU and compares the expressions
//! with the numbers of the launch.

/// A field of `Dims` whose value no shape in a header says.
#[derive(Clone, Copy, Debug)]
pub struct DimsField {
    /// Its name in the kernel files.
    pub name: &'static str,
    /// Where its value comes from.
    pub origin: Origin,
}

/// Where a value comes from. In expressions, `element_bytes` is the size of an element of the activations: 4, or 2 in bf16.
#[derive(Clone, Copy, Debug)]
pub enum Origin {
    /// The size of an operand's axis, `a[1]`, where that depends on the entry: in some it is another.
    Size(&'static str, (&'static str, &'static str)),
    /// It follows from other fields.
    Formula(&'static str),
    /// Free, within what the words say.
    Choice {
        /// What it may be, and what it does.
        range: &'static str,
        /// What this crate takes, in WGSL and in PTX.
        ours: [&'static str; 2],
        /// Where it takes something else, in words, and what.
        elsewhere: Option<(&'static str, [&'static str; 2])>,
    },
    /// What the caller wants: what it may be and what it means.
    Option(&'static str),
}

impl DimsField {
    /// See [`Origin::Formula`].
    pub const fn formula(name: &'static str, value: &'static str) -> Self {
        DimsField { name, origin: Origin::Formula(value) }
    }

    /// See [`Origin::Option`].
    pub const fn option(name: &'static str, range: &'static str) -> Self {
        DimsField { name, origin: Origin::Option(range) }
    }

    /// See [`Origin::Choice`]: the same in both languages.
    pub const fn choice(name: &'static str, range: &'static str, value: &'static str) -> Self {
        DimsField { name, origin: Origin::Choice { range, ours: [value; 2], elsewhere: None } }
    }
}

#[cfg(test)]
mod tests {
    use crate::check::precisions;
    use crate::contract::{catalog::Source, evaluate, shipped};
    use crate::device::dry::DryRecorder;
    use crate::device::{Device, Gpu, Language};
    use crate::ops::OPS;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    /// Every case of every operation, launched without a GPU: formulas and choices of `kernels.json` are the numbers in its `Dims`, sizes make
    /// the operands' shapes. No field of any file is left without a launch that was compared.
    #[test]
    fn every_launch_has_the_numbers_that_the_manifest_works_out() {
        let mut compared: BTreeMap<(String, String), [usize; 2]> = BTreeMap::new();
        for language in [Language::Wgsl, Language::Ptx] {
            let recorder = Arc::new(DryRecorder::new(language));
            let device = Device::Gpu(Gpu::Dry(recorder.clone()));
            for (op, case) in OPS.iter().flat_map(|op| (op.cases)().into_iter().map(move |case| (op, case))) {
                if case.large || case.skip.is_some_and(|skip| skip(&device).is_some()) {
                    continue;
                }
                for activation in precisions(&case, &device) {
                    case.run_on_zeros(&device, activation).unwrap();
                    let recorded = recorder.take();
                    for launch in &recorded.launches {
                        let file = shipped().file(&launch.file).unwrap();
                        let entry = file.entry(&launch.entry).unwrap();
                        let place = format!("{} {} of {} {} ({})", file.file, entry.name, op.name, case.entry, case.label);
                        let of = |name: &str| match name {
                            "element_bytes" if language == Language::Ptx => Some(activation.size() as u64),
                            "element_bytes" => Some(4),
                            _ => file.value(name, &launch.dims, &launch.constants),
                        };
                        // Tensor maps come first among the operands; a Hopper entry is compared by its fields alone.
                        let buffers = launch.maps.is_empty().then(|| launch.buffers.iter().zip(&entry.buffers));
                        for (buffer, operand) in buffers.into_iter().flatten() {
                            let Some(seen) = buffer.map(|number| &recorded.buffers[number]) else { continue };
                            let shape = operand.shape_in(&of);
                            let elements: u64 = shape.iter().map(|size| evaluate(size, &of).unwrap()).product();
                            let has = seen.shape.iter().product::<usize>() as u64;
                            // A workspace may be longer, and an operand may begin inside of it.
                            assert!(elements <= has, "{place}: {} has {has} elements, {shape:?} are {elements}", operand.name);
                        }
                        for field in &file.dims.fields {
                            let found = of(&field.name).unwrap();
                            let count = compared.entry((file.file.clone(), field.name.clone())).or_default();
                            let values = field.value.iter().chain(field.elsewhere.iter().map(|e| &e.value));
                            match field.from {
                                Source::Option | Source::Size => count[0] += 1,
                                Source::Padding => assert_eq!(found, 0, "{place}: {}", field.name),
                                Source::Formula | Source::Choice => {
                                    let expected: Vec<u64> =
                                        values.map(|value| evaluate(value, &of).unwrap_or_else(|e| panic!("{place}: {value}: {e}"))).collect();
                                    assert!(expected.contains(&found), "{place}: {} is {found}, {:?} and elsewhere give {expected:?}", field.name, field.value);
                                    count[0] += 1;
                                    count[1] += (expected.first() == Some(&found)) as usize;
                                }
                            }
                        }
                    }
                }
            }
        }
        for file in shipped().files.iter().filter(|file| file.op != "ceiling") {
            for field in &file.dims.fields {
                let [all, first] = compared.get(&(file.file.clone(), field.name.clone())).copied().unwrap_or_default();
                let computed = matches!(field.from, Source::Formula | Source::Choice);
                assert!(field.from == Source::Padding || all > 0 && (!computed || first > 0), "{}: no launch shows {}", file.file, field.name);
            }
        }
    }
}
