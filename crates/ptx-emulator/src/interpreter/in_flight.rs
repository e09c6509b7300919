//! Copies in flight: `cp.async`, and bulk stores. (Bulk loads are the cluster's.)

use super::cluster::Source;

/// A `cp.async` on its way.
#[derive(Clone, Copy)]
pub struct AsyncCopy {
    pub lane: u8,
    pub bytes: u8,
    pub group: u32,
    pub to: u32,
    pub pc: u32,
    pub data: [u32; 4],
}

/// The `cp.async`s of a warp.
#[derive(Default, Clone)]
pub struct AsyncCopies {
    pub list: Vec<AsyncCopy>,
    /// Groups that each lane has committed.
    pub committed: [u32; 32],
}

/// A bulk store that a thread has issued.
#[derive(Clone)]
pub struct BulkStore {
    pub lane: u8,
    pub group: u32,
    pub to: Source,
    pub from: u32,
    pub bytes: u32,
    pub add: bool,
    pub pc: u32,
}

/// The bulk stores of a warp.
#[derive(Clone, Default)]
pub struct BulkStores {
    pub list: Vec<BulkStore>,
    /// Groups that each lane has committed.
    pub committed: [u32; 32],
}
