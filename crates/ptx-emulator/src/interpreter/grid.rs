//! The blocks of a launch: clusters in parallel with each other, as a rule of one block.

use super::block::Worker;
use super::finding::{Kind, Note, Other, Place};
use super::happens_before::thread_and_pc;
use super::launch::Launch;
use super::machine::{Machine, Notes};
use super::scheduler::Scheduler;
use super::stats::Step as Count;
use super::trace::Tracer;
use rayon::prelude::*;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The result of all blocks.
pub struct Outcome {
    pub notes: Notes,
    pub tracer: Tracer,
    pub counts: Vec<Count>,
}

/// Runs all blocks of a launch; returns what was noted, or a block and a place that never end.
pub fn run(launch: &Launch) -> Result<Outcome, (u32, u32)> {
    let clusters = launch.grid / launch.kernel.cluster;
    let workers = rayon::current_num_threads().min(clusters as usize).max(1);
    // A worker takes the next few clusters that nobody has taken; as a rule a cluster is a block.
    let (next, few) = (AtomicU32::new(0), (clusters / (workers as u32 * 16)).clamp(1, 64));
    let work = |_| {
        let blocks = (0..launch.kernel.cluster).map(|_| Worker::new(launch)).collect();
        let mut scheduler = Scheduler::new(launch, blocks);
        loop {
            let first = next.fetch_add(few, Relaxed);
            if first >= clusters {
                return Ok(scheduler.machines());
            }
            for cluster in first..(first + few).min(clusters) {
                scheduler.run(cluster * launch.kernel.cluster).inspect_err(|_| next.store(clusters, Relaxed))?;
            }
        }
    };
    let done: Vec<Result<Vec<Machine>, (u32, u32)>> = if workers == 1 { vec![work(0)] } else { (0..workers).into_par_iter().map(work).collect() };
    let mut notes = Notes::default();
    let machines: Vec<Machine> = done.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
    for (i, a) in machines.iter().enumerate() {
        for b in &machines[i + 1..] {
            compare(launch, a, b, &mut notes);
        }
    }
    let mut tracer = Tracer::default();
    let mut counts = vec![Count::default(); if launch.counted { launch.kernel.steps.len() } else { 0 }];
    for machine in machines {
        tracer.lines.extend(machine.tracer.lines);
        counts.iter_mut().zip(&machine.counts).for_each(|(sum, count)| sum.add(count));
        notes.more += machine.notes.more;
        machine.notes.first.into_values().for_each(|note| notes.add(note));
    }
    Ok(Outcome { notes, tracer, counts })
}

/// Races between blocks of different workers.
fn compare(launch: &Launch, a: &Machine, b: &Machine, notes: &mut Notes) {
    for (i, pair) in a.global_shadows.iter().zip(&b.global_shadows).enumerate() {
        let (Some(ra), Some(rb)) = pair else { continue };
        let size = 1 << launch.buffers[i].as_ref().and_then(|b| b.granule).unwrap_or(0);
        ra.compare(rb, &launch.kernel.steps, |offset, (x, x_writes), (y, y_writes), own| {
            let side = |machine: &Machine, epoch, write| {
                let (thread, pc) = thread_and_pc(epoch);
                Other { block: machine.order.block_of(epoch), thread, pc, write }
            };
            let (mx, my) = if own { (a, b) } else { (b, a) };
            let (x, y) = (side(mx, x, x_writes), side(my, y, y_writes));
            let (late, early) = if x.block > y.block { (x, y) } else { (y, x) };
            let address = ((i as u64 + 1) << 40) + offset as u64;
            notes.add(Note {
                place: Place::Buffer(i as u16),
                address,
                offset: offset as i64,
                size,
                write: late.write,
                other: Some(early),
                ..Note::new(Kind::Race, late.pc, late.block, late.thread.min(1023))
            });
        });
    }
}
