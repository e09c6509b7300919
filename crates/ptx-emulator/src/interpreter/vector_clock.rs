//! Vector clocks of an asynchronous kernel, in which no barrier is for everybody.

/// mbarriers of a cluster that are told apart; more would share their slots, and some mistakes would go unseen.
const MBARRIERS: usize = 256;

/// What each warp of a cluster knows of every agent: its time up to which the warp comes after it. Whoever releases hands
/// over what it knows, with its own time; whoever acquires adds that to what it knows.
///
/// Agents are the warps; each warp once more, for `fence.proxy.async`; the `wgmma`s of each warpgroup, whose time is the
/// number of their group; each warp's bulk stores, likewise; and the copies that each mbarrier counts.
pub struct VectorClocks {
    warps: usize,
    /// The first warp of the block that runs.
    pub base: usize,
    slots: usize,
    known: Vec<u32>,
}

impl VectorClocks {
    pub fn new(warps: usize) -> VectorClocks {
        let slots = 4 * warps + MBARRIERS;
        VectorClocks { warps, base: 0, slots, known: vec![0; warps * slots] }
    }

    pub fn start(&mut self) {
        self.known.fill(0);
    }

    /// A clock that knows nothing.
    pub fn nothing(&self) -> Vec<u32> {
        vec![0; self.slots]
    }

    pub fn proxy(&self, warp: usize) -> usize {
        self.warps + warp
    }

    /// Of the warpgroup of a warp of the block that runs.
    pub fn wgmma(&self, warp: u32) -> usize {
        2 * self.warps + self.base + warp as usize / 4 * 4
    }

    pub fn stores(&self, warp: usize) -> usize {
        3 * self.warps + warp
    }

    pub fn mbarrier(&self, number: usize) -> usize {
        4 * self.warps + number % MBARRIERS
    }

    /// Whether an agent is something else than a warp.
    pub fn is_async(&self, agent: usize) -> bool {
        agent >= self.warps
    }

    #[inline(always)]
    pub fn knows(&self, warp: usize, agent: usize, time: u32) -> bool {
        self.known[warp * self.slots + agent] > time
    }

    /// The warp comes after what that agent did before `time`.
    pub fn learn(&mut self, warp: usize, agent: usize, time: u32) {
        let known = &mut self.known[warp * self.slots + agent];
        *known = time.max(*known);
    }

    pub fn acquire(&mut self, warp: usize, clock: &[u32]) {
        join(&mut self.known[warp * self.slots..][..self.slots], clock);
    }

    pub fn release(&self, warp: usize, clock: &mut [u32]) {
        join(clock, &self.known[warp * self.slots..][..self.slots]);
    }
}

/// What either clock knows.
pub fn join(into: &mut [u32], from: &[u32]) {
    into.iter_mut().zip(from).for_each(|(a, b)| *a = (*a).max(*b));
}
