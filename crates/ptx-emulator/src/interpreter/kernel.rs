//! The decoded kernel: what decoding leaves to those who run, follow, count and describe it.

use super::ops::{Slot, Step, Use};

/// Bytes of shared memory that a block can have on sm_90.
pub const MAX_SHARED: usize = 227 << 10;

/// Where generic addresses of each space start: bits 40 and up. Buffers are 1, 2, 3, …
pub const SHARED: u64 = 0xF1 << 40;
/// Local memory.
pub const LOCAL: u64 = 0xF2 << 40;
/// Parameters.
pub const PARAM: u64 = 0xF3 << 40;
/// `.global` and `.const` variables of the module.
pub const MODULE: u64 = 0xF4 << 40;

/// A register whose value the machine provides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Special {
    ThreadX,
    ThreadY,
    ThreadZ,
    BlockX,
    SizeX,
    SizeY,
    SizeZ,
    GridX,
    Lane,
    Warp,
    Warps,
    MaskEq,
    MaskLt,
    MaskLe,
    MaskGt,
    MaskGe,
    /// Place in the cluster, blocks of a cluster, the cluster, how many clusters.
    ClusterRank,
    ClusterSize,
    Cluster,
    Clusters,
    DynamicShared,
}

/// A decoded kernel.
#[derive(Clone)]
pub struct Kernel {
    pub name: String,
    pub steps: Vec<Step>,
    /// Step → index of its instruction in the entry.
    pub source: Vec<u32>,
    /// How many slots each file has.
    pub words: usize,
    pub longs: usize,
    pub bits: usize,
    /// Slots that never change.
    pub constants: Vec<(Slot, u64)>,
    /// Slots that the machine fills.
    pub specials: Vec<(u16, Special)>,
    /// The slots of declared registers, for traces: step order is lost when slots are reused, so by instruction.
    pub registers: Vec<Slot>,
    /// Of variables whose size is known; where the others start is aligned.
    pub shared_bytes: usize,
    /// Blocks of a cluster.
    pub cluster: u32,
    /// Whether it has bulk copies, `wgmma`, mbarriers, clusters: it runs under a scheduler, with a clock per warp.
    pub asynchronous: bool,
    /// Word slots that are accumulators or register operands of a `wgmma`; by step, those that other instructions touch, and
    /// whether `wgmma.fence` must follow: a constant may be put into them at any time.
    pub wgmma_slots: Vec<u16>,
    pub touches: Vec<Box<[(Use, u16, bool)]>>,
    /// Log2 of the smallest access to shared memory.
    pub shared_granule: u32,
    /// How many loads from shared memory have a number.
    pub shared_loads: usize,
    /// What each step uses, if a register may be read before anything was put into it.
    pub uses: Option<Vec<Option<Box<Uses>>>>,
    /// The registers of which it is watched.
    pub watched: Vec<Slot>,
    /// What it does with the buffer of each parameter.
    pub access: Vec<Access>,
    pub local_bytes: usize,
    pub block: [u32; 3],
    /// Where each parameter is, and constants that are such places.
    pub parameters: Vec<usize>,
    pub addresses: Vec<(Slot, u64)>,
    /// Where each variable of shared memory is: for messages.
    pub shared_variables: Vec<(String, usize, usize)>,
}

/// What one step does with slots.
#[derive(Clone, Debug, Default)]
pub struct Uses {
    pub reads: Vec<Slot>,
    pub writes: Vec<Slot>,
    /// Undefined sources matter here and now: an address, a stored value, what other lanes see. Elsewhere they make the
    /// result undefined, which may never matter.
    pub sink: bool,
}

/// What a kernel does with the buffer of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Access {
    /// It may read it.
    pub reads: bool,
    /// It may write it.
    pub writes: bool,
    /// The smallest access in bytes, at most 4; 0 if there is none.
    pub(crate) least: u32,
}
