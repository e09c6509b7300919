//! What a shadow finds.

use super::super::happens_before::Conflict;

/// What is wrong with an access of one lane.
pub enum Violation {
    Unwritten,
    InFlight,
    Race(Conflict),
    /// Written by a store, read by what does not see stores without `fence.proxy.async`.
    Proxy(Conflict),
}
