//! Shadow memory: what is known of each granule of memory besides its value: whether it was written, by whom, who read it
//! since, and whether a copy to it is in flight.

mod asynchronous;
mod global;
mod shared;
mod violation;

pub use asynchronous::{Accessor, AgentEpoch, AsyncShadow};
pub use global::GlobalShadow;
pub use shared::{SharedShadow, hull};
pub use violation::Violation;
