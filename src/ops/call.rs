//! A call of an operation, as whoever observes the thread is told of it: what it reads, what it writes, what it stands for.

use crate::observe::{self, Access, Operand, Running, Values, Work};
use crate::tensor::Tensor;

impl Work {
    /// So many floating-point operations.
    pub(crate) fn new(flops: impl TryInto<u64>) -> Work {
        Work { flops: flops.try_into().unwrap_or(0), ..Work::default() }
    }

    /// So many floating-point operations, which are part of a product.
    pub(crate) fn product(flops: impl TryInto<u64>) -> Work {
        Work { product: true, ..Work::new(flops) }
    }

    /// Of which the launches of this entry are so many.
    pub(crate) fn of_launch(mut self, entry: &'static str, flops: impl TryInto<u64>) -> Work {
        self.launches.push((entry, flops.try_into().unwrap_or(0)));
        self
    }

    /// It reads a tensor.
    pub(crate) fn reads(self, name: &'static str, tensor: &Tensor) -> Work {
        self.touches(name, tensor, Access::Read, tensor.len())
    }

    /// It reads a tensor, if there is one.
    pub(crate) fn reads_if(self, name: &'static str, tensor: Option<&Tensor>) -> Work {
        match tensor {
            Some(tensor) => self.reads(name, tensor),
            None => self,
        }
    }

    /// It touches so many elements of a tensor, whose others stay as they are.
    pub(crate) fn touches(mut self, name: &'static str, tensor: &Tensor, access: Access, elements: usize) -> Work {
        self.operands.push(Operand { elements: elements.min(tensor.len()), ..tensor.operand(name, access) });
        self
    }
}

/// What a call has written, and how many numbers of it are wanted.
pub(crate) struct Outputs(Vec<Operand>, usize);

impl Outputs {
    /// New contents.
    pub(crate) fn writes(self, name: &'static str, tensor: &Tensor) -> Outputs {
        self.add(name, tensor, Access::Write, tensor.len())
    }

    /// New contents, if there is one.
    pub(crate) fn writes_if(self, name: &'static str, tensor: Option<&Tensor>) -> Outputs {
        match tensor {
            Some(tensor) => self.writes(name, tensor),
            None => self,
        }
    }

    /// Added to, or changed in place.
    pub(crate) fn updates(self, name: &'static str, tensor: &Tensor) -> Outputs {
        self.add(name, tensor, Access::Update, tensor.len())
    }

    /// Some elements of it, the others stay.
    pub(crate) fn writes_some(self, name: &'static str, tensor: &Tensor, elements: usize) -> Outputs {
        let access = if elements >= tensor.len() { Access::Write } else { Access::Update };
        self.add(name, tensor, access, elements)
    }

    fn add(mut self, name: &'static str, tensor: &Tensor, access: Access, elements: usize) -> Outputs {
        let values = if self.1 > 0 { values(tensor, self.1) } else { None };
        self.0.push(Operand { elements: elements.min(tensor.len()), values, ..tensor.operand(name, access) });
        self
    }
}

impl Running {
    /// The call has ended, and has written this.
    #[inline]
    pub(crate) fn wrote(self, outputs: impl FnOnce(Outputs) -> Outputs) {
        self.end(|count| outputs(Outputs(Vec::new(), count)).0);
    }
}

fn values(tensor: &Tensor, count: usize) -> Option<Values> {
    let all = observe::unseen(|| tensor.read_f64()).ok()?;
    let n = all.len().max(1) as f64;
    let (mean, square) = (all.iter().sum::<f64>() / n, all.iter().map(|x| x * x).sum::<f64>() / n);
    Some(Values { first: all.into_iter().take(count).collect(), mean, rms: square.sqrt() })
}

/// Pairs of rows that see each other: as [`observe::tell_pairs`] said, or counted in `visible` where nobody did.
pub(crate) fn pairs(visible: &Tensor, keys: usize) -> u64 {
    observe::pairs().unwrap_or_else(|| {
        let intervals = observe::unseen(|| visible.read::<i32>()).unwrap_or_default();
        let length = |v: &[i32]| (v[1].min(keys as i32) - v[0].max(0)).max(0) as u64;
        intervals.chunks_exact(2).map(length).sum()
    })
}
