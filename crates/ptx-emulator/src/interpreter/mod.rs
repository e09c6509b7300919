//! The interpreter: decodes a kernel, runs it, and checks what it does.
//!
//! - Blocks run in parallel, the warps of a block one after the other from barrier to barrier, the 32 lanes of a warp at once.
//! - Kernels with bulk copies, `wgmma`, mbarriers or clusters run under a scheduler: the warps of a cluster in turn, each until it
//!   waits, with a vector clock per warp. What is asynchronous happens as late as it may.
//! - While it runs it checks: [`Kind`] lists what it finds.
//!
//! Where a GPU leaves something open, the emulator chooses one way: blocks and warps in some order, approximations rounded
//! correctly, `mma` with one rounding per eight k. A kernel whose result depends on more than that is wrong.

mod access;
mod approx;
mod arith;
mod block;
mod buffer;
mod cluster;
mod decode;
mod finding;
mod flow;
mod grid;
mod group;
mod happens_before;
mod in_flight;
mod integer;
mod kernel;
mod lanes;
mod launch;
mod machine;
mod mma;
mod ops;
mod options;
mod program;
mod run;
mod scheduler;
mod shadow;
mod stats;
mod tensor_map;
mod trace;
mod vector_clock;
mod warp;
mod wgmma;

pub use buffer::Buffer;
pub use finding::{Finding, Kind};
pub use kernel::Access;
pub use options::{Options, Trace};
pub use program::Program;
pub use run::{Argument, Error, Report, run};
pub use stats::{Banks, Class, Count, Stats, Traffic};
pub use tensor_map::{MapType, Swizzle, TensorMap};
pub use trace::TraceLine;
