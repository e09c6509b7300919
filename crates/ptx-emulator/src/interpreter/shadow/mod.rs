//! Shadow memory: what is known of each granule of memory besides its value: whether it was written, by whom, who read it
//! since, and whether a copy to it is in flight.

mod asynchronous;
mod global;
mod shared;
mod wrong;

pub use asynchronous::{AgentStamp, Asker, Cells};
pub use global::Record;
pub use shared::{Shared, hull};
pub use wrong::Wrong;
