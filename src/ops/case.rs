//! Cases: one list of shapes per operation that serves the oracle test, the `check` command, the gradient check and the
//! benchmark. This file says what a case *is* and draws its inputs; [`crate::check`] runs them.

use crate::device::Device;
use crate::error::Result;
use crate::tensor::{DType, Shape, Tensor};
use half::bf16;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, LazyLock};
use trimodal_base::random;

/// The kind of an operand's elements. What some of them are depends on the run: f32, mixed precision, or f64 for the oracle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// f32 on a device, f64 in the oracle: statistics, parameter gradients, optimiser state.
    Real,
    /// Activations and weights: as `Real`, but bf16 where the case runs in mixed precision.
    Mixed,
    /// bf16 on a device; the same (already rounded) values as f64 in the oracle.
    Bf16,
    /// i32 everywhere.
    I32,
    /// u8 everywhere.
    U8,
}

impl Kind {
    fn round(self, x: f64) -> f64 {
        match self {
            Kind::Real | Kind::Mixed => x as f32 as f64,
            Kind::Bf16 => bf16::from_f64(x).to_f64(),
            Kind::I32 | Kind::U8 => x,
        }
    }

    /// The dtype that stands for it when activations are `activation`: f32, bf16 (mixed precision), or f64 (the oracle).
    pub fn dtype(self, activation: DType) -> DType {
        match self {
            Kind::Mixed => activation,
            Kind::Real | Kind::Bf16 if activation == DType::F64 => DType::F64,
            Kind::Real => DType::F32,
            Kind::Bf16 => DType::Bf16,
            Kind::I32 => DType::I32,
            Kind::U8 => DType::U8,
        }
    }
}

/// An operand's elements, which are made when something first reads them: a list of cases costs nothing until one runs.
#[derive(Clone)]
pub struct Values(Arc<LazyLock<Vec<f64>, Drawing>>);

/// The function that makes them.
type Drawing = Box<dyn FnOnce() -> Vec<f64> + Send>;

impl Values {
    /// The elements that this gives.
    pub fn lazy(make: impl FnOnce() -> Vec<f64> + Send + 'static) -> Self {
        Values(Arc::new(LazyLock::new(Box::new(make))))
    }
}

impl From<Vec<f64>> for Values {
    fn from(values: Vec<f64>) -> Self {
        Self::lazy(|| values)
    }
}

impl Deref for Values {
    type Target = [f64];

    fn deref(&self) -> &[f64] {
        &self.0
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// What the benchmark, which compares nothing, fills an operand with: as many elements as it likes, in the time it has.
#[derive(Clone, Debug)]
pub enum Fill {
    /// Normals with this standard deviation.
    Normals(f64),
    /// These.
    Values(Values),
}

/// An operand: what the operation reads, or what is in an output before it is written.
#[derive(Clone, Debug)]
pub struct Operand {
    /// Its name in the operation's documentation.
    pub name: &'static str,
    /// Its shape.
    pub shape: Shape,
    /// The kind of its elements.
    pub kind: Kind,
    /// Its elements, all exactly representable in f32 (or in bf16, where that is the kind).
    pub values: Values,
    /// What stands for them in the benchmark.
    pub fill: Fill,
    /// Elements that the operation must touch, where these are not all: the rows of a table that are asked for.
    pub touched: Option<usize>,
}

impl Operand {
    /// An operand with these values, rounded to f32 (bf16) first.
    pub fn new(name: &'static str, shape: impl Into<Shape>, kind: Kind, values: Vec<f64>) -> Self {
        Self::lazy(name, shape, kind, move || values)
    }

    /// As [`Operand::new`], with values that are made when something first reads them.
    pub fn lazy(name: &'static str, shape: impl Into<Shape>, kind: Kind, make: impl FnOnce() -> Vec<f64> + Send + 'static) -> Self {
        let shape = shape.into();
        let values = Values::lazy(move || {
            let mut values = make();
            assert_eq!(shape.len(), values.len(), "{name}: {shape}");
            values.iter_mut().for_each(|x| *x = kind.round(*x));
            values
        });
        Operand { name, shape, kind, fill: Fill::Values(values.clone()), values, touched: None }
    }

    /// The same, but the benchmark uses these values instead: the true ones cost much to compute, and its time does not depend on them.
    pub fn timed_as(self, make: impl FnOnce() -> Vec<f64> + Send + 'static) -> Self {
        Operand { fill: Fill::Values(Values::lazy(make)), ..self }
    }

    /// The same, but the operation touches only this many of its elements.
    pub fn touching(self, elements: usize) -> Self {
        Operand { touched: Some(elements), ..self }
    }

    /// As this kind, rounded to it.
    pub fn of_kind(self, kind: Kind) -> Self {
        let values = self.values;
        let mut new = Self::lazy(self.name, self.shape, kind, move || values.to_vec());
        if let Fill::Normals(_) = self.fill {
            new.fill = self.fill;
        }
        Operand { touched: self.touched, ..new }
    }

    /// i32 values.
    pub fn ints(name: &'static str, shape: impl Into<Shape>, values: impl IntoIterator<Item = i32>) -> Self {
        Self::new(name, shape, Kind::I32, values.into_iter().map(f64::from).collect())
    }

    /// As [`Kind::Mixed`]: an activation or a weight.
    pub fn mixed(self) -> Self {
        assert_eq!(self.kind, Kind::Real, "{}", self.name);
        Operand { kind: Kind::Mixed, ..self }
    }

    /// The operand as a tensor, where activations are `activation`.
    pub fn tensor(&self, device: &Device, activation: DType) -> Result<Tensor> {
        Tensor::from_f64(device, self.shape, self.kind.dtype(activation), &self.values)
    }

    /// The operand as a run with such activations sees it: rounded to bf16, where that is what it then is.
    pub fn rounded(&self, activation: DType) -> Self {
        let values = match self.kind.dtype(activation) {
            DType::Bf16 => Values::from(self.values.iter().map(|&x| bf16::from_f64(x).to_f64()).collect::<Vec<_>>()),
            _ => self.values.clone(),
        };
        Operand { values, ..self.clone() }
    }

    /// Bytes of what the operation must touch of it, where activations are `activation`.
    pub fn bytes(&self, activation: DType) -> u64 {
        (self.touched.unwrap_or(self.shape.len()) * self.kind.dtype(activation).size()) as u64
    }
}

/// What an operation writes.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its name, shape and kind. `values` holds what is there before the call: what an accumulating operation adds to;
    /// NaN (−1 for integers) everywhere for one that overwrites, so that an element left out shows.
    pub before: Operand,
    /// Whether it is working memory whose contents mean nothing afterwards (its redzone still does).
    pub scratch: bool,
    /// Whether nothing may read what is there before.
    pub overwritten: bool,
    /// Whether the operation writes some rows and leaves the others as they are.
    pub partial: bool,
}

impl Output {
    /// An output that is overwritten whole: poisoned before the call.
    pub fn overwritten(name: &'static str, shape: impl Into<Shape>, kind: Kind) -> Self {
        let shape = shape.into();
        let poison = match kind {
            Kind::Real | Kind::Mixed | Kind::Bf16 => f64::NAN,
            Kind::I32 => -77.0,
            Kind::U8 => 255.0,
        };
        let before = Operand::lazy(name, shape, kind, move || vec![poison; shape.len()]).timed_as(Vec::new);
        Output { before, scratch: false, overwritten: true, partial: false }
    }

    /// Working memory of this many elements.
    pub fn scratch(elements: usize) -> Self {
        Output { scratch: true, ..Self::overwritten("workspace", [elements], Kind::Real) }
    }

    /// An output that the operation adds to.
    pub fn updated(before: Operand) -> Self {
        Output { before, scratch: false, overwritten: false, partial: false }
    }

    /// An output of which the operation writes only so many elements.
    pub fn partial(before: Operand, elements: usize) -> Self {
        Output { partial: true, ..Self::updated(before.touching(elements)) }
    }

    /// Bytes that the operation must write (and read first, where it adds), where activations are `activation`.
    pub fn bytes(&self, activation: DType) -> u64 {
        match self {
            Output { scratch: true, .. } => 0,
            Output { overwritten: true, .. } | Output { partial: true, .. } => self.before.bytes(activation),
            _ => 2 * self.before.bytes(activation),
        }
    }
}

/// How close a result must be to the f64 oracle, element by element. NaN or infinity where the oracle has none always
/// fails.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Compare {
    /// The same bits: index-like operations and integer-valued sums.
    Exact,
    /// At most this many ulp of the expected value, for operations without a sum. An output that is bf16 only because the run is
    /// in mixed precision gets one ulp of its own: half for rounding, the rest for what f32 was off.
    Ulp(f64),
    /// At most twice the largest error of [`Case::naive`] in the same precision over the output, plus one ulp of the
    /// output's largest magnitude, plus the second number of ulp of that magnitude for approximated functions (WGSL's `exp`,
    /// `inverseSqrt`, …; 0 where there is none).
    Reduction(f64),
}

/// A call of a public operation: `(inputs, outputs)`, all on one device.
pub type CaseFn = Box<dyn Fn(&[Tensor], &mut [Tensor]) -> Result<()> + Send + Sync>;

/// One executed comparison: an entry of an operation on one set of inputs.
pub struct Case {
    /// The entry and its rung: `forward`, `backward`, `forward:naive`.
    pub entry: &'static str,
    /// The sizes, for people: `rows=33 C=65`.
    pub label: String,
    /// What is read.
    pub inputs: Vec<Operand>,
    /// What is written.
    pub outputs: Vec<Output>,
    /// Calls the public operation.
    pub run: CaseFn,
    /// Plain sequential loops for the same result, on CPU tensors of either precision; `None` where the operation's CPU
    /// implementation is itself just that. In f64 it is the oracle, in f32 it sets the allowance of
    /// [`Compare::Reduction`].
    pub naive: Option<CaseFn>,
    /// In mixed precision: the plain loops (on f32 tensors) that also round to bf16 where a kernel with bf16 operands must, as
    /// softmax's weights before the second product. They set the allowance there, in place of `naive`.
    pub naive_mixed: Option<CaseFn>,
    /// The allowance.
    pub compare: Compare,
    /// Floating-point operations of the call, counted from the kernel's contract.
    pub flops: u64,
    /// Those of the CPU's kernel and of the plain loops, where they compute the same result with more or fewer than a GPU's kernels.
    pub cpu_flops: Option<[u64; 2]>,
    /// Whether it takes too long on anything but a real GPU; run only on request.
    pub large: bool,
    /// Whether it runs in mixed precision alone: its kernel takes nothing but bf16.
    pub only_mixed: bool,
    /// Why this case cannot run on a device, if so: listed, never silent.
    pub skip: Option<fn(&Device) -> Option<String>>,
}

impl Case {
    /// Calls it on tensors of zeros: on a device that only records ([`crate::device::Gpu::Dry`]), what it launches, with nothing drawn.
    ///
    /// # Errors
    /// Those of the operation.
    pub fn run_on_zeros(&self, device: &Device, activation: DType) -> Result<()> {
        let zeros = |operand: &Operand| Tensor::zeros(device, operand.shape, operand.kind.dtype(activation));
        let inputs = self.inputs.iter().map(zeros).collect::<Result<Vec<_>>>()?;
        let mut outputs = self.outputs.iter().map(|output| zeros(&output.before)).collect::<Result<Vec<_>>>()?;
        (self.run)(&inputs, &mut outputs)
    }

    /// A case with an allowance of `compare`, no plain twin, and no count of operations.
    pub fn new(
        entry: &'static str,
        label: impl Into<String>,
        inputs: Vec<Operand>,
        outputs: Vec<Output>,
        compare: Compare,
        run: impl Fn(&[Tensor], &mut [Tensor]) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        Case {
            entry,
            label: label.into(),
            inputs,
            outputs,
            run: Box::new(run),
            naive: None,
            naive_mixed: None,
            compare,
            flops: 0,
            cpu_flops: None,
            large: false,
            only_mixed: false,
            skip: None,
        }
    }

    /// The same with plain loops to compare with.
    pub fn naive(mut self, run: impl Fn(&[Tensor], &mut [Tensor]) -> Result<()> + Send + Sync + 'static) -> Self {
        self.naive = Some(Box::new(run));
        self
    }

    /// With plain loops that round to bf16 within, for the allowance in mixed precision.
    pub fn naive_mixed(mut self, run: impl Fn(&[Tensor], &mut [Tensor]) -> Result<()> + Send + Sync + 'static) -> Self {
        self.naive_mixed = Some(Box::new(run));
        self
    }

    /// As one of a kernel that takes nothing but bf16, on the devices for which `absent` gives no reason against it.
    pub fn only_mixed(mut self, absent: fn(&Device) -> Option<String>) -> Self {
        self.only_mixed = true;
        self.skip = Some(absent);
        self
    }

    /// The same as one that takes too long on anything but a real GPU.
    pub fn large(mut self) -> Self {
        self.large = true;
        self
    }

    /// Whether it has activations or weights, and so a run in mixed precision of its own.
    pub fn is_mixed(&self) -> bool {
        self.inputs.iter().chain(self.outputs.iter().map(|o| &o.before)).any(|o| o.kind == Kind::Mixed)
    }

    /// With this many floating-point operations.
    pub fn flops(mut self, flops: u64) -> Self {
        self.flops = flops;
        self
    }

    /// With other numbers of operations on the CPU: those of its kernel and of the plain loops.
    pub fn cpu_flops(mut self, kernel: u64, plain: u64) -> Self {
        self.cpu_flops = Some([kernel, plain]);
        self
    }

    /// Floating-point operations that are computed on a CPU or a GPU, by its kernel or the plain loops.
    pub fn computed(&self, cpu: bool, plain: bool) -> u64 {
        self.cpu_flops.filter(|_| cpu).map_or(self.flops, |flops| flops[plain as usize])
    }

    /// Bytes of those outputs that are overwritten without being read, where activations are `activation`.
    pub fn overwritten(&self, activation: DType) -> u64 {
        let fresh = |o: &&Output| o.overwritten || o.partial;
        self.outputs.iter().filter(fresh).map(|o| o.bytes(activation)).sum()
    }

    /// Bytes of the contract, where activations are `activation`: everything read once and everything written once, also what is
    /// read to be added to; no workspace.
    pub fn bytes(&self, activation: DType) -> u64 {
        self.inputs.iter().map(|i| i.bytes(activation)).sum::<u64>() + self.outputs.iter().map(|o| o.bytes(activation)).sum::<u64>()
    }
}

/// A call that makes its own result tensors: `inputs → outputs`, or `(inputs, cotangents) → gradients`.
pub type Make = Box<dyn Fn(&[Tensor]) -> Result<Vec<Tensor>> + Send + Sync>;
/// See [`Make`].
pub type MakeGradient = Box<dyn Fn(&[Tensor], &[Tensor]) -> Result<Vec<Tensor>> + Send + Sync>;

/// A backward pass against central differences of its forward pass, in f64 on the CPU.
pub struct GradientCase {
    /// The sizes, for people.
    pub label: String,
    /// The inputs.
    pub inputs: Vec<Operand>,
    /// Which inputs have a gradient, by index.
    pub wrt: Vec<usize>,
    /// Inputs → the outputs that a loss can see.
    pub forward: Make,
    /// (inputs, one cotangent per output) → one gradient per entry of `wrt`.
    pub backward: MakeGradient,
}

/// Draws the inputs of a case: the same values for the same label on every machine.
#[derive(Clone)]
pub struct Draw(ChaCha8Rng);

impl Draw {
    /// A generator for one label.
    pub fn new(label: &str) -> Self {
        Draw(ChaCha8Rng::seed_from_u64(random::fnv1a(label)))
    }

    /// Uniform in [0, n).
    pub fn below(&mut self, n: usize) -> usize {
        random::below(self.0.next_u32(), n)
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let (u, v) = (1.0 - self.uniform(), self.uniform());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    /// A real operand of independent normals with this standard deviation.
    pub fn normals(&mut self, name: &'static str, shape: impl Into<Shape>, deviation: f64) -> Operand {
        let shape = shape.into();
        let mut draw = self.leave(4 * shape.len());
        let operand = Operand::lazy(name, shape, Kind::Real, move || (0..shape.len()).map(|_| draw.normal() * deviation).collect());
        Operand { fill: Fill::Normals(deviation), ..operand }
    }

    /// A real operand of small integers in [−range, range]: sums of products are exact in f32.
    pub fn integers(&mut self, name: &'static str, shape: impl Into<Shape>, range: usize) -> Operand {
        let shape = shape.into();
        let mut draw = self.leave(shape.len());
        Operand::lazy(name, shape, Kind::Real, move || (0..shape.len()).map(|_| draw.below(2 * range + 1) as f64 - range as f64).collect())
    }

    /// A generator for the next words, this many, which this one skips: an operand that is drawn later has the values that it
    /// would have had if it were drawn now.
    fn leave(&mut self, words: usize) -> Draw {
        let draw = self.clone();
        self.0.set_word_pos(self.0.get_word_pos() + words as u128);
        draw
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_late_is_what_would_have_been_drawn_at_once() {
        for (first, second) in [(1, 7), (3, 16), (16, 5), (17, 64), (1000, 33), (0, 9)] {
            let mut at_once = Draw::new("label");
            let [a, b] = [first, second].map(|n| (0..n).map(|_| at_once.normal() as f32 as f64).collect::<Vec<_>>());
            let c: Vec<f64> = (0..first).map(|_| at_once.below(9) as f64 - 4.0).collect();
            let d = at_once.uniform();
            let mut late = Draw::new("label");
            let (x, y) = (late.normals("x", [first], 1.0), late.normals("y", [second], 1.0));
            let z = late.integers("z", [first], 4);
            assert_eq!(late.uniform(), d);
            assert_eq!((&*z.values, &*y.values, &*x.values), (&c[..], &b[..], &a[..]));
        }
    }

    #[test]
    fn bytes_are_what_the_contract_says() {
        let mut draw = Draw::new("bytes");
        let input = draw.normals("x", [10, 4], 1.0).mixed();
        let table = draw.normals("table", [100, 4], 1.0).mixed().touching(40);
        let statistic = draw.normals("rstd", [10], 1.0);
        let outputs = vec![
            Output::overwritten("y", [10, 4], Kind::Mixed),
            Output::updated(draw.normals("dw", [4], 1.0)),
            Output::partial(draw.normals("rows", [50, 4], 1.0).mixed(), 8),
            Output::scratch(1000),
        ];
        let case = Case::new("forward", "", vec![input, table, statistic], outputs, Compare::Exact, |_, _| Ok(()));
        assert_eq!(case.bytes(DType::F32), 4 * (40 + 40 + 10 + 40 + 2 * 4 + 8));
        assert_eq!(case.overwritten(DType::F32), 4 * (40 + 8));
        assert_eq!(case.bytes(DType::Bf16), 2 * (40 + 40 + 40 + 8) + 4 * (10 + 2 * 4));
    }
}
