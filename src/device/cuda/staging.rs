//! Pinned host memory for uploads: the host copies into it and continues; the GPU fetches it when its turn comes.

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;

/// The fewest bytes of one slot, and the most that one copy takes: a longer upload is copied in pieces.
const SLOT: usize = 1 << 20;
const LARGEST: usize = 64 << 20;
/// Slots that may be under way; the next upload then waits for the oldest.
const SLOTS: usize = 32;

/// The slots, the least recently used first.
#[derive(Default)]
pub(super) struct Staging {
    slots: Vec<Slot>,
}

/// A piece of pinned memory and when it is free again.
struct Slot {
    memory: *mut u8,
    bytes: usize,
    done: Event,
}

// SAFETY: the memory is this slot's alone, and the driver takes its handles from any thread with the context current.
unsafe impl Send for Staging {}

/// A point on a stream.
pub(super) struct Event {
    raw: sys::CUevent,
}

// SAFETY: a name that the driver gave out; it takes it from any thread with the context current.
unsafe impl Send for Event {}

impl Event {
    fn new() -> Result<Event, DriverError> {
        Ok(Event { raw: result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING)? })
    }

    /// The point on this stream after everything launched so far.
    pub(super) fn here(stream: sys::CUstream) -> Result<Event, DriverError> {
        let event = Event::new()?;
        event.record(stream)?;
        Ok(event)
    }

    /// The event now stands for everything launched on this stream so far.
    fn record(&self, stream: sys::CUstream) -> Result<(), DriverError> {
        // SAFETY: created in `new`, and streams live as long as the context.
        unsafe { result::event::record(self.raw, stream) }
    }

    /// Whatever is launched on this stream from now on runs after the event.
    pub(super) fn hold(&self, stream: sys::CUstream) -> Result<(), DriverError> {
        // SAFETY: as above.
        unsafe { result::stream::wait_event(stream, self.raw, sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT) }
    }

    fn wait(&self) -> Result<(), DriverError> {
        // SAFETY: as above.
        unsafe { result::event::synchronize(self.raw) }
    }

    fn has_passed(&self) -> bool {
        // SAFETY: as above.
        unsafe { result::event::query(self.raw) }.is_ok()
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: created once, destroyed once; the driver keeps what is under way. An error leaks a few bytes.
        let _ = unsafe { result::event::destroy(self.raw) };
    }
}

impl Staging {
    /// Copies bytes to the device on a stream. Returns the point at which the last piece has arrived; `None` for no bytes.
    pub(super) fn upload(&mut self, to: sys::CUdeviceptr, bytes: &[u8], stream: sys::CUstream) -> Result<Option<Event>, DriverError> {
        let mut arrived = None;
        for (index, piece) in bytes.chunks(LARGEST).enumerate() {
            let slot = self.take(piece.len())?;
            // SAFETY: the slot has room for the piece and nothing else uses its memory until `done` has passed.
            let staged = unsafe {
                std::ptr::copy_nonoverlapping(piece.as_ptr(), slot.memory, piece.len());
                std::slice::from_raw_parts(slot.memory, piece.len())
            };
            // SAFETY: `to` is an allocation that `bytes` fits (the code that writes the tensor has checked its length), and the pinned
            // memory stays as it is until the copy is done.
            let copied = unsafe { result::memcpy_htod_async(to + (index * LARGEST) as u64, staged, stream) };
            let recorded = slot.done.record(stream);
            // The receiver's point is an event of its own: the slot's is recorded again when the slot is used again.
            let own = Event::here(stream);
            self.slots.push(slot);
            copied.and(recorded)?;
            arrived = Some(own?);
        }
        Ok(arrived)
    }

    /// A slot that is free and large enough.
    fn take(&mut self, bytes: usize) -> Result<Slot, DriverError> {
        if let Some(index) = self.slots.iter().position(|s| s.bytes >= bytes && s.done.has_passed()) {
            return Ok(self.slots.remove(index));
        }
        if self.slots.len() >= SLOTS {
            // The oldest makes room, whatever its size.
            let oldest = self.slots.remove(0);
            oldest.done.wait()?;
            if oldest.bytes >= bytes {
                return Ok(oldest);
            }
            oldest.free();
        }
        let bytes = bytes.next_power_of_two().max(SLOT);
        let done = Event::new()?;
        // SAFETY: freed once, in `Slot::free`.
        let memory = unsafe { result::malloc_host(bytes, 0) }?.cast();
        Ok(Slot { memory, bytes, done })
    }

    /// Gives the pinned memory back; no copy uses it any more.
    pub(super) fn free(&mut self) {
        self.slots.drain(..).for_each(Slot::free);
    }
}

impl Slot {
    fn free(self) {
        // SAFETY: allocated in `take`, and its last copy is done. An error leaks it.
        let _ = unsafe { result::free_host(self.memory.cast()) };
    }
}
