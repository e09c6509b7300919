//! Running out of memory on purpose, and counting what is allocated: for tests. Where debug assertions are off, nothing is limited
//! or counted, and it costs nothing.

use super::Device;
#[cfg(debug_assertions)]
use crate::error::Error;
use crate::error::Result;
#[cfg(debug_assertions)]
use std::cell::{Cell, RefCell};
#[cfg(debug_assertions)]
use std::rc::Rc;
#[cfg(debug_assertions)]
use std::sync::Arc;

#[cfg(debug_assertions)]
thread_local! {
    static LIMIT: RefCell<Option<Rc<Limit>>> = const { RefCell::new(None) };
}

/// What this thread may allocate on devices.
#[cfg(debug_assertions)]
struct Limit {
    /// Allocations that succeed; all later ones fail.
    allocations: usize,
    /// Bytes of the largest one that succeeds.
    largest: u64,
    /// Allocations asked for so far.
    asked: Cell<usize>,
    /// Held by everything that was allocated and not freed yet.
    held: Arc<()>,
}

/// A limit that holds for this thread until it is dropped.
#[cfg(debug_assertions)]
pub struct AllocLimit(Rc<Limit>);

#[cfg(debug_assertions)]
impl AllocLimit {
    /// From now on `allocations` allocations of at most `largest` bytes each succeed; all others are an [`Error::OutOfMemory`].
    pub fn new(allocations: usize, largest: u64) -> Self {
        let limit = Rc::new(Limit { allocations, largest, asked: Cell::new(0), held: Arc::new(()) });
        LIMIT.set(Some(limit.clone()));
        AllocLimit(limit)
    }

    /// Allocations that were asked for since.
    pub fn asked(&self) -> usize {
        self.0.asked.get()
    }

    /// Tensors that were allocated since and not freed yet.
    pub fn live(&self) -> usize {
        Arc::strong_count(&self.0.held) - 1
    }
}

#[cfg(debug_assertions)]
impl Drop for AllocLimit {
    fn drop(&mut self) {
        LIMIT.set(None);
    }
}

/// Held by what was allocated under a limit, until it is freed.
#[derive(Clone, Default)]
pub(crate) struct Held {
    #[cfg(debug_assertions)]
    _by: Option<Arc<()>>,
}

/// Asks this thread's limit for an allocation of so many bytes, if there is one.
#[cfg_attr(not(debug_assertions), allow(unused_variables))]
#[inline]
pub(crate) fn ask(device: &Device, what: impl FnOnce() -> String, bytes: u64) -> Result<Held> {
    #[cfg(debug_assertions)]
    if let Some(limit) = LIMIT.with_borrow(|limit| limit.clone()) {
        limit.asked.set(limit.asked.get() + 1);
        if limit.asked.get() > limit.allocations || bytes > limit.largest {
            return Err(Error::OutOfMemory { device: device.to_string(), what: what() + " (a test's limit)", asked: bytes, free: None });
        }
        return Ok(Held { _by: Some(limit.held.clone()) });
    }
    Ok(Held::default())
}
