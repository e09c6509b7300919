//! The scheduler of asynchronous kernels: the warps of a cluster in turn, each until it waits.
//!
//! Whatever may happen late happens as late as it can, so that a missing wait shows: a bulk load arrives only when
//! no warp can continue without it, a bulk store reads when it is waited for, a `wgmma` computes when it is waited for.

use super::block::Worker;
use super::cluster::Cluster;
use super::finding::{Kind, Note};
use super::lanes::lanes;
use super::launch::Launch;
use super::machine::Machine;
use super::shadow::AgentEpoch;
use super::vector_clock::VectorClocks;
use super::warp::{State, WarpSplit};

/// The blocks of a cluster, one cluster after the other.
pub struct Scheduler<'a> {
    blocks: Vec<Worker<'a>>,
    /// With the block that runs, else here. None of a kernel that is not asynchronous.
    cluster: Option<Box<Cluster>>,
    vectors: Option<Box<VectorClocks>>,
    /// What waited when time limits last expired, and the events until then.
    expired: (Vec<(usize, usize, u32, u32)>, u64),
}

impl<'a> Scheduler<'a> {
    pub fn new(launch: &'a Launch<'a>, mut blocks: Vec<Worker<'a>>) -> Scheduler<'a> {
        let warps: usize = blocks.iter().map(|b| b.warps.len()).sum();
        blocks.iter_mut().enumerate().for_each(|(rank, b)| b.machine.rank = rank);
        let asynchronous = launch.kernel.asynchronous;
        let cluster = asynchronous.then(|| Box::new(Cluster::new(launch, warps)));
        let vectors = asynchronous.then(|| Box::new(VectorClocks::new(warps)));
        Scheduler { blocks, cluster, vectors, expired: Default::default() }
    }

    pub fn machines(self) -> Vec<Machine<'a>> {
        self.blocks.into_iter().map(|b| b.machine).collect()
    }

    /// Gives a block what the cluster shares, while it runs.
    fn enter(&mut self, rank: usize) {
        let warps = self.blocks[rank].warps.len();
        let machine = &mut self.blocks[rank].machine;
        (machine.cluster, machine.order.vectors) = (self.cluster.take(), self.vectors.take());
        if let (Some(cluster), Some(vectors)) = (&machine.cluster, &mut machine.order.vectors) {
            machine.order.time = machine.order.time.max(cluster.time);
            vectors.base = rank * warps;
        }
    }

    fn leave(&mut self, rank: usize) {
        let machine = &mut self.blocks[rank].machine;
        (self.cluster, self.vectors) = (machine.cluster.take(), machine.order.vectors.take());
        if let Some(cluster) = &mut self.cluster {
            cluster.time = machine.order.time;
        }
    }

    fn cluster(&mut self) -> &mut Cluster {
        self.cluster.as_mut().expect("nobody runs")
    }

    /// Runs the cluster whose first block is `first` to its end.
    pub fn run(&mut self, first: u32) -> Result<(), (u32, u32)> {
        let (Some(cluster), Some(vectors)) = (&mut self.cluster, &mut self.vectors) else {
            return self.blocks[0].block(first).map_err(|pc| (first, pc));
        };
        vectors.start();
        cluster.start(vectors);
        self.expired = Default::default();
        for rank in 0..self.blocks.len() {
            self.enter(rank);
            self.blocks[rank].start(first + rank as u32);
            self.leave(rank);
        }
        loop {
            let mut ran = false;
            for rank in 0..self.blocks.len() {
                for w in 0..self.blocks[rank].warps.len() {
                    if self.blocks[rank].warps[w].splits.iter().any(|f| f.state == State::Ready) {
                        ran = true;
                        self.step(rank, w).map_err(|pc| (first + rank as u32, pc))?;
                    }
                }
            }
            if self.settle() || ran {
                continue;
            }
            if self.blocks.iter().all(|b| b.warps.iter().all(|w| w.splits.is_empty())) {
                break;
            }
            if self.deliver() || self.expire() {
                continue;
            }
            self.deadlock();
            return Ok(());
        }
        self.end();
        Ok(())
    }

    /// One warp runs until it waits.
    fn step(&mut self, rank: usize, w: usize) -> Result<(), u32> {
        self.enter(rank);
        let block = &mut self.blocks[rank];
        block.machine.warp = w as u32;
        block.machine.traced = block.traced(w);
        let result = block.warps[w].run(&mut block.machine);
        let has_ended = block.warps[w].splits.is_empty();
        let all = block.warps.iter().all(|w| w.splits.is_empty());
        self.leave(rank);
        if has_ended {
            let per = self.blocks[rank].warps.len();
            self.cluster().events += 1;
            if all {
                let vectors = self.vectors.as_ref().expect("nobody runs");
                let mut clock = vectors.nothing();
                (0..per).for_each(|w| vectors.release(rank * per + w, &mut clock));
                self.cluster().ended[rank] = Some(clock);
            }
        }
        result
    }

    /// Ends every wait that can end. False if there is none.
    fn settle(&mut self) -> bool {
        let mut any = false;
        for rank in 0..self.blocks.len() {
            self.enter(rank);
            any |= settle_barriers(&mut self.blocks[rank]);
            any |= settle_waits(&mut self.blocks[rank]);
            self.leave(rank);
        }
        any | self.settle_cluster()
    }

    fn settle_cluster(&mut self) -> bool {
        let live: u32 = self.blocks.iter().flat_map(|b| &b.warps).flat_map(|w| &w.splits).map(|f| f.mask.count_ones()).sum();
        let barrier = &mut self.cluster().barrier;
        if barrier.arrived == 0 || barrier.arrived < live {
            return false;
        }
        barrier.end();
        for split in self.blocks.iter_mut().flat_map(|b| &mut b.warps).flat_map(|w| &mut w.splits).filter(|f| f.state == State::Cluster) {
            split.state = State::Ready;
        }
        true
    }

    /// The oldest bulk load arrives.
    fn deliver(&mut self) -> bool {
        let Some(transfer) = self.cluster().transfers.pop_front() else { return false };
        for rank in lanes(transfer.ranks) {
            self.enter(rank);
            let machine = &mut self.blocks[rank].machine;
            machine.land(&transfer);
            let mut cluster = machine.cluster.take().expect("just entered");
            let time = machine.order.time;
            machine.order.time += 1;
            let mut text = None;
            let vectors = machine.order.vectors.as_ref().expect("just entered");
            let mut agent = 0;
            match cluster.mbarriers.get_mut(&(rank, transfer.barrier)) {
                None => text = Some(format!("a bulk copy has come, but no mbarrier is at {}, where it counts", machine.name_of(rank, transfer.barrier))),
                Some(barrier) => {
                    agent = vectors.mbarrier(barrier.slot);
                    barrier.bytes -= transfer.bytes as i64;
                    let known = &mut barrier.current()[agent];
                    *known = (time + 1).max(*known);
                    if !barrier.settle() {
                        let (more, name) = (-barrier.bytes, machine.name_of(rank, transfer.barrier));
                        text = Some(format!("{more} bytes more than expected have come to the mbarrier at {name}, with the copy issued"));
                    }
                }
            }
            let epoch = AgentEpoch { time, pc: transfer.pc, agent: agent as u16, thread: transfer.thread as u16 };
            cluster.shadows[rank].lands(epoch, transfer.to, transfer.bytes);
            cluster.events += 1;
            machine.cluster = Some(cluster);
            if let Some(text) = text {
                note(machine, Kind::Mbarrier, transfer.pc, transfer.thread, vec![(transfer.pc, text)]);
            }
            self.leave(rank);
        }
        true
    }

    /// The time limits of all waits at mbarriers are over. False if that has just been tried without effect.
    fn expire(&mut self) -> bool {
        let mut waits = Vec::new();
        for (rank, block) in self.blocks.iter_mut().enumerate() {
            for (w, warp) in block.warps.iter_mut().enumerate() {
                for split in warp.splits.iter().filter(|f| matches!(f.state, State::Phase(..))) {
                    waits.push((rank, w, split.pc, split.mask));
                }
            }
        }
        let now = (waits, self.cluster().events);
        if now.0.is_empty() || now == self.expired {
            return false;
        }
        self.expired = now;
        for warp in self.blocks.iter_mut().flat_map(|b| &mut b.warps) {
            for split in warp.splits.iter_mut().filter(|f| matches!(f.state, State::Phase(..))) {
                warp.expired |= split.mask;
                split.state = State::Ready;
            }
        }
        true
    }

    /// Everybody waits and nothing is on its way.
    fn deadlock(&mut self) {
        let mut list = Vec::new();
        let mut first = None;
        for rank in 0..self.blocks.len() {
            self.enter(rank);
            let block = &self.blocks[rank];
            let cluster = block.machine.cluster.as_ref().expect("just entered");
            for (w, warp) in block.warps.iter().enumerate() {
                for f in &warp.splits {
                    let thread = w as u32 * 32 + f.mask.trailing_zeros();
                    first = first.or(Some((rank, f.pc, thread)));
                    let who = if self.blocks.len() > 1 { format!("warp {w} of the block of rank {rank}") } else { format!("warp {w}") };
                    list.push((f.pc, format!("{who} waits for {}", waits_for(block, cluster, rank, f))));
                }
            }
            self.leave(rank);
        }
        let Some((rank, pc, thread)) = first else { return };
        // Many wait for the same: one of each is enough.
        list.dedup_by(|b, a| a.0 == b.0 && a.1.split_once(" waits").map(|x| x.1) == b.1.split_once(" waits").map(|x| x.1));
        let (more, most) = (list.len().saturating_sub(8), 8);
        list.truncate(most);
        if let Some((_, text)) = list.first_mut() {
            *text = format!("deadlock: {text}");
        }
        if more > 0
            && let Some((_, text)) = list.last_mut()
        {
            *text = format!("{more} more wait elsewhere; {text}");
        }
        note(&mut self.blocks[rank].machine, Kind::Deadlock, pc, thread, list);
    }

    /// All have ended: whether they may.
    fn end(&mut self) {
        let cluster = self.cluster.take().expect("nobody runs");
        for remote in &cluster.remote {
            let knows = cluster.ended[remote.target].as_ref().is_some_and(|clock| clock[remote.warp] > remote.time);
            if !knows {
                let text = format!("the block of rank {} may end before this arrival at its mbarrier: it does not wait for it", remote.target);
                note(&mut self.blocks[remote.rank].machine, Kind::Ended, remote.pc, remote.thread, vec![(remote.pc, text)]);
            }
        }
        for transfer in &cluster.transfers {
            let text = "a block may end while this bulk copy to its shared memory is in flight".to_string();
            note(&mut self.blocks[transfer.rank].machine, Kind::Ended, transfer.pc, transfer.thread, vec![(transfer.pc, text)]);
        }
        self.cluster = Some(cluster);
    }
}

fn note(machine: &mut Machine, kind: Kind, pc: u32, thread: u32, list: Vec<(u32, String)>) {
    machine.notes.add(Note { list, ..Note::new(kind, pc, machine.block, thread) });
}

/// What a split waits for, in words.
fn waits_for(block: &Worker, cluster: &Cluster, rank: usize, f: &WarpSplit) -> String {
    match f.state {
        State::Phase(at, parity, value) => {
            let which = if parity { format!("the phase of parity {}", value & 1) } else { format!("phase {value}") };
            let name = block.machine.name_of(rank, at);
            match cluster.mbarriers.get(&(rank, at)) {
                Some(b) => format!(
                    "{which} of the mbarrier at {name}, which lacks {} of {} arrivals and {} bytes in its phase {}",
                    b.pending, b.count, b.bytes, b.phase
                ),
                None => format!("the mbarrier at {name}, which is not initialised"),
            }
        }
        State::Block(number, count) => {
            let needed = if count == 0 { block.threads } else { count };
            format!("barrier {number} of {needed} threads")
        }
        State::Wgmma(_) => "the other warps of its warpgroup to start the same wgmmas".into(),
        State::Cluster => format!("the cluster, of which {} threads have arrived", cluster.barrier.arrived),
        State::Ready | State::Lanes => "other lanes of its warp".into(),
    }
}

/// Barriers of a block that are complete open.
fn settle_barriers(block: &mut Worker) -> bool {
    let mut any = false;
    for number in 0..16u32 {
        let waiting = |f: &&WarpSplit| matches!(f.state, State::Block(n, _) if n % 16 == number);
        let all = || block.warps.iter().enumerate().flat_map(|(w, warp)| warp.splits.iter().map(move |f| (w, f)));
        let threads: u32 = all().filter(|(_, f)| waiting(f)).map(|(_, f)| f.mask.count_ones()).sum();
        let mut cluster = block.machine.cluster.take().expect("just entered");
        let rank = block.machine.rank;
        let barrier = &mut cluster.named[rank][number as usize];
        let asked = all().find(|(_, f)| waiting(f)).map(|(_, f)| if let State::Block(_, n) = f.state { n } else { 0 });
        let needed = match asked.unwrap_or(barrier.count) {
            0 => block.threads,
            count => count,
        };
        if threads + barrier.arrived < needed || threads + barrier.arrived == 0 {
            block.machine.cluster = Some(cluster);
            continue;
        }
        any = true;
        cluster.events += 1;
        let warps: Vec<usize> = all().filter(|(_, f)| waiting(f)).map(|(w, _)| w).collect();
        warps.iter().for_each(|&w| block.machine.order.release(w as u32, &mut barrier.clock));
        barrier.end();
        for &w in &warps {
            block.machine.order.acquire(w as u32, &barrier.over);
            block.machine.order.meet(w as u32);
            for f in block.warps[w].splits.iter_mut().filter(|f| matches!(f.state, State::Block(n, _) if n % 16 == number)) {
                (f.pc, f.state) = (f.pc + 1, State::Ready);
            }
        }
        block.machine.cluster = Some(cluster);
    }
    any
}

/// Waits at mbarriers and for `wgmma`s.
fn settle_waits(block: &mut Worker) -> bool {
    let mut any = false;
    let kernel = block.machine.launch.kernel;
    let mut ready = Vec::new();
    for (w, warp) in block.warps.iter_mut().enumerate() {
        for f in &mut warp.splits {
            match f.state {
                State::Phase(at, parity, value) => {
                    let cluster = block.machine.cluster.as_ref().expect("just entered");
                    let over = cluster.mbarriers.get(&(block.machine.rank, at)).is_none_or(|b| b.is_over(parity, value));
                    if over {
                        (f.state, any) = (State::Ready, true);
                    }
                }
                State::Wgmma(groups) => ready.push((w, groups)),
                _ => {}
            }
        }
    }
    for (w, groups) in ready {
        let first = w / 4 * 4;
        let of = first..(first + 4).min(block.warps.len());
        if block.warps[of.clone()].iter().any(|warp| warp.scoreboard.committed < groups) {
            continue;
        }
        any = true;
        let mut decoded = Default::default();
        for (quarter, warp) in block.warps[of].iter_mut().enumerate() {
            warp.scoreboard.compute(&mut warp.registers, kernel, &block.machine.shared, quarter as u32, groups, &mut decoded);
        }
        let warp = &mut block.warps[w];
        warp.scoreboard.retire(groups, kernel);
        warp.splits.iter_mut().filter(|f| matches!(f.state, State::Wgmma(_))).for_each(|f| (f.pc, f.state) = (f.pc + 1, State::Ready));
        if let Some(vectors) = &mut block.machine.order.vectors {
            let (me, slot) = (vectors.base + w, vectors.wgmma(w as u32));
            vectors.learn(me, slot, groups + 1);
        }
    }
    any
}
