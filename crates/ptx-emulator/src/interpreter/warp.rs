//! A warp: 32 threads, their places in the program, and the loop that runs them.
//!
//! Threads that diverged are splits: a place and a mask. The split with the lowest place runs, and splits that
//! meet become one; so threads come together again where the compiler laid the code for it. A warp runs until all of its
//! threads have ended or wait for the block.

use super::approx::{exp2, flush, log2};
use super::arith::{bf16, compares};
use super::finding::{Kind, Note, Other, Place};
use super::lanes::{FULL, Registers, Value, lanes};
use super::machine::Machine;
use super::mma::mma;
use super::ops::{Compare, Op, Phase, Reduction, Round, VoteMode};
use multiversion::multiversion;

mod exchange;
mod scoreboard;
use exchange::{groups, shuffle};
pub use scoreboard::Scoreboard;

/// What a split waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Ready,
    /// For other lanes of the warp.
    Lanes,
    /// For the block, at this barrier, with this many threads (0: all).
    Block(u32, u32),
    /// For a phase of the mbarrier at this place: of this parity, or (false) with this number.
    Phase(u32, bool, u64),
    /// For the `wgmma`s of the warpgroup, so many groups of them.
    Wgmma(u32),
    /// For the cluster.
    Cluster,
}

impl State {
    /// Whether others than this warp end the wait.
    pub fn is_parked(self) -> bool {
        !matches!(self, State::Ready | State::Lanes)
    }
}

/// Threads of a warp that are at the same place.
#[derive(Clone, Copy, Debug)]
pub struct WarpSplit {
    pub pc: u32,
    pub mask: u32,
    pub state: State,
}

/// A warp of a block.
pub struct Warp {
    pub registers: Registers,
    pub splits: Vec<WarpSplit>,
    /// Lanes that have ended, and where.
    pub exited: Vec<(u32, u32)>,
    /// Thread instructions left before the block counts as endless.
    pub budget: i64,
    /// Lanes whose wait at an mbarrier has reached its time limit.
    pub expired: u32,
    pub scoreboard: Scoreboard,
}

/// Why the loop returned.
enum Stop {
    /// Another split may have to run now.
    Switch,
    /// The budget is used up.
    Endless,
}

impl Warp {
    /// Runs until every thread has ended or waits at a barrier of the block. An error is a place that never ends.
    pub fn run(&mut self, machine: &mut Machine) -> Result<(), u32> {
        while let Some((current, limit)) = self.next(machine) {
            if let Stop::Endless = interpret(self, machine, current, limit) {
                return Err(self.splits[current].pc);
            }
        }
        Ok(())
    }

    /// Merges splits that met; the ready one with the lowest place, and the nearest place beyond it at which another
    /// one stands. When only splits are left that wait for lanes which cannot come any more, that is noted and
    /// they continue.
    fn next(&mut self, machine: &mut Machine) -> Option<(usize, u32)> {
        let splits = &mut self.splits;
        if splits.len() > 1 {
            splits.sort_by_key(|f| f.pc);
            splits.dedup_by(|b, a| {
                let met = a.pc == b.pc && (a.state == b.state || !(a.state.is_parked() || b.state.is_parked()));
                if met {
                    a.mask |= b.mask;
                    a.state = if a.state == b.state && a.state != State::Lanes { a.state } else { State::Ready };
                }
                met
            });
        }
        let current = match splits.iter().position(|f| f.state == State::Ready) {
            Some(i) => i,
            // Lanes of asynchronous kernels wait for one that waits for something else.
            None if machine.cluster.is_some() && splits.iter().any(|f| f.state.is_parked()) => return None,
            None => {
                let i = splits.iter().position(|f| f.state == State::Lanes)?;
                let (pc, mask) = (splits[i].pc, splits[i].mask);
                let other = splits.iter().find(|f| f.pc != pc).map(|f| Other {
                    block: machine.block,
                    thread: machine.warp * 32 + f.mask.trailing_zeros(),
                    pc: f.pc,
                    write: false,
                });
                machine.pc = pc;
                let thread = machine.warp * 32 + mask.trailing_zeros();
                machine.notes.add(Note { lanes: mask, other, ..Note::new(Kind::WarpSync, pc, machine.block, thread) });
                machine.forced = true;
                i
            }
        };
        splits[current].state = State::Ready;
        let pc = splits[current].pc;
        let limit = splits.iter().map(|f| f.pc).filter(|&p| p > pc).min().unwrap_or(u32::MAX);
        Some((current, limit))
    }

    /// Lanes of the warp that have not ended.
    fn live(&self) -> u32 {
        self.splits.iter().fold(0, |mask, f| mask | f.mask)
    }

    /// Ends lanes of the current split.
    fn exit(&mut self, current: usize, pc: u32, mask: u32) {
        self.exited.push((pc, mask));
        self.splits[current].mask &= !mask;
        self.splits[current].pc = pc + 1;
        if self.splits[current].mask == 0 {
            self.splits.remove(current);
        }
        // Who waited for these lanes need not any more.
        self.splits.iter_mut().filter(|f| f.state == State::Lanes).for_each(|f| f.state = State::Ready);
    }
}

/// How a `.sync` instruction may continue.
enum Sync {
    Run,
    Wait,
}

/// Whether all of `members` that are alive are here. The others of `active` come along.
fn gathered(machine: &mut Machine, live: u32, active: u32, members: u32, own: bool) -> Sync {
    if !own {
        let thread = machine.warp * 32 + active.trailing_zeros();
        machine.notes.add(Note { lanes: active, ..Note::new(Kind::WarpSync, machine.pc, machine.block, thread) });
    }
    if members & live & !active == 0 || std::mem::take(&mut machine.forced) { Sync::Run } else { Sync::Wait }
}

/// Runs one split from its place until it ends, waits, splits or reaches `limit`.
#[multiversion(targets("x86_64+avx2+fma+bmi1+bmi2+lzcnt+popcnt"))]
fn interpret(warp: &mut Warp, machine: &mut Machine, current: usize, limit: u32) -> Stop {
    let kernel = machine.launch.kernel;
    let steps = &kernel.steps[..];
    let active = warp.splits[current].mask;
    let mut pc = warp.splits[current].pc;
    let alone = warp.splits.len() == 1;
    let tracked = kernel.uses.is_some();
    loop {
        if pc >= limit {
            warp.splits[current].pc = pc;
            return Stop::Switch;
        }
        let step = &steps[pc as usize];
        let registers = &mut warp.registers;
        let guard = registers.bits(step.guard.0);
        let mask = active & if step.guard.1 { !guard } else { guard };
        warp.budget -= 32;
        machine.pc = pc;
        if let Some(count) = machine.counts.get_mut(pc as usize) {
            count.warps += (mask != 0) as u64;
            count.threads += mask.count_ones() as u64;
        }
        if let Some(lane) = machine.traced {
            machine.tracer.step(kernel, &machine.launch.names, registers, pc, mask, lane);
        }
        if tracked && kernel.uses.as_ref().is_some_and(|u| u[pc as usize].is_some()) {
            let lanes = registers.define(kernel, pc, active, mask);
            if lanes != 0 {
                machine.note(Kind::Register, lanes.trailing_zeros() as usize, Place::None, 0, 0, 0, false);
            }
        }
        if mask == 0 {
            pc += 1;
            continue;
        }
        if let Some(list) = kernel.touches.get(pc as usize)
            && !list.is_empty()
            && warp.scoreboard.touches(machine, step, list, mask)
        {
            pc += 1;
            continue;
        }
        // A warp-wide instruction: waits for its members. Lanes that its guard leaves out continue alone.
        macro_rules! together {
            ($members:expr, $own:expr) => {
                let live = warp.live();
                if mask != active {
                    warp.splits[current].mask = mask;
                    warp.splits[current].pc = pc;
                    warp.splits.push(WarpSplit { pc: pc + 1, mask: active & !mask, state: State::Ready });
                    return Stop::Switch;
                }
                if let Sync::Wait = gathered(machine, live, mask, $members, $own) {
                    warp.splits[current].pc = pc;
                    warp.splits[current].state = State::Lanes;
                    return Stop::Switch;
                }
            };
        }
        macro_rules! members {
            ($slot:expr) => {{
                let words = registers.words($slot);
                let (mut union, mut own) = (0, true);
                groups(words, mask, |members, group| {
                    union |= members;
                    // Whoever is named must be one of those that name them.
                    own &= group & !members == 0 && members & mask & !group == 0;
                });
                (union, own)
            }};
        }
        // SAFETY: of all `map` and `compare` calls below: every slot was handed out by the decoder, which counted how many
        // there are of each file, and `Registers::new` made that many.
        unsafe {
            match &step.op {
                Op::Mov32(s) => registers.map1(s, mask, |a: u32| a),
                Op::Not32(s) => registers.map1(s, mask, |a: u32| !a),
                Op::Neg32(s) => registers.map1(s, mask, |a: u32| a.wrapping_neg()),
                Op::Abs32(s) => registers.map1(s, mask, |a: u32| (a as i32).wrapping_abs() as u32),
                Op::NegF(s) => registers.map1(s, mask, |a: u32| a ^ 1 << 31),
                Op::AbsF(s) => registers.map1(s, mask, |a: u32| a & !(1 << 31)),
                Op::SqrtF(s) => registers.map1(s, mask, |a: u32| f(a).sqrt().to_bits()),
                Op::RcpF(s) => registers.map1(s, mask, |a: u32| (1.0 / f(a)).to_bits()),
                Op::RsqrtF(s) => registers.map1(s, mask, |a: u32| ((1.0 / (f(a) as f64).sqrt()) as f32).to_bits()),
                Op::Ex2F(s, false) => registers.map1(s, mask, exp2),
                Op::Ex2F(s, true) => registers.map1(s, mask, |a: u32| flush(exp2(a))),
                Op::RcpFtz(s) => registers.map1(s, mask, |a: u32| flush((1.0 / f(flush(a))).to_bits())),
                Op::Lg2F(s) => registers.map1(s, mask, log2),
                Op::RoundF(s, Round::Nearest) => registers.map1(s, mask, |a: u32| f(a).round_ties_even().to_bits()),
                Op::RoundF(s, Round::Zero) => registers.map1(s, mask, |a: u32| f(a).trunc().to_bits()),
                Op::RoundF(s, Round::Down) => registers.map1(s, mask, |a: u32| f(a).floor().to_bits()),
                Op::RoundF(s, Round::Up) => registers.map1(s, mask, |a: u32| f(a).ceil().to_bits()),
                Op::RoundF(s, Round::Away) => registers.map1(s, mask, |a: u32| f(a).round().to_bits()),
                // `as` clamps and makes a NaN zero, as PTX does.
                Op::S32FromF(s, Round::Nearest) => registers.map1(s, mask, |a: u32| f(a).round_ties_even() as i32 as u32),
                Op::S32FromF(s, Round::Zero) => registers.map1(s, mask, |a: u32| f(a) as i32 as u32),
                Op::S32FromF(s, Round::Down) => registers.map1(s, mask, |a: u32| f(a).floor() as i32 as u32),
                Op::S32FromF(s, Round::Up) => registers.map1(s, mask, |a: u32| f(a).ceil() as i32 as u32),
                Op::S32FromF(s, Round::Away) => registers.map1(s, mask, |a: u32| f(a).round() as i32 as u32),
                Op::FFromS32(s) => registers.map1(s, mask, |a: u32| (a as i32 as f32).to_bits()),
                Op::FFromU32(s) => registers.map1(s, mask, |a: u32| (a as f32).to_bits()),
                Op::Low16(s) => registers.map1(s, mask, |a: u32| a & 0xFFFF),
                Op::High16(s) => registers.map1(s, mask, |a: u32| a >> 16),
                Op::Bf16FromF(s) => registers.map1(s, mask, bf16),
                Op::FFromBf16(s) => registers.map1(s, mask, |a: u32| a << 16),
                Op::Add32(s) => registers.map2(s, mask, |a: u32, b: u32| a.wrapping_add(b)),
                Op::Sub32(s) => registers.map2(s, mask, |a: u32, b: u32| a.wrapping_sub(b)),
                Op::Mul32(s) => registers.map2(s, mask, |a: u32, b: u32| a.wrapping_mul(b)),
                Op::MulHiU32(s) => registers.map2(s, mask, |a: u32, b: u32| ((a as u64 * b as u64) >> 32) as u32),
                Op::And32(s) => registers.map2(s, mask, |a: u32, b: u32| a & b),
                Op::Or32(s) => registers.map2(s, mask, |a: u32, b: u32| a | b),
                Op::Xor32(s) => registers.map2(s, mask, |a: u32, b: u32| a ^ b),
                Op::Shl32(s) => registers.map2(s, mask, |a: u32, b: u32| if b < 32 { a << (b & 31) } else { 0 }),
                Op::ShrU32(s) => registers.map2(s, mask, |a: u32, b: u32| if b < 32 { a >> (b & 31) } else { 0 }),
                Op::ShrS32(s) => registers.map2(s, mask, |a: u32, b: u32| ((a as i32) >> b.min(31)) as u32),
                Op::MinS32(s) => registers.map2(s, mask, |a: u32, b: u32| (a as i32).min(b as i32) as u32),
                Op::MaxS32(s) => registers.map2(s, mask, |a: u32, b: u32| (a as i32).max(b as i32) as u32),
                Op::MinU32(s) => registers.map2(s, mask, |a: u32, b: u32| a.min(b)),
                Op::MaxU32(s) => registers.map2(s, mask, |a: u32, b: u32| a.max(b)),
                Op::AddF(s) => registers.map2(s, mask, |a: u32, b: u32| (f(a) + f(b)).to_bits()),
                Op::SubF(s) => registers.map2(s, mask, |a: u32, b: u32| (f(a) - f(b)).to_bits()),
                Op::MulF(s) => registers.map2(s, mask, |a: u32, b: u32| (f(a) * f(b)).to_bits()),
                Op::DivF(s) => registers.map2(s, mask, |a: u32, b: u32| (f(a) / f(b)).to_bits()),
                Op::MinF(s) => registers.map2(s, mask, |a: u32, b: u32| extreme(a, b, f(a) < f(b), f(b) < f(a), a | b)),
                Op::MaxF(s) => registers.map2(s, mask, |a: u32, b: u32| extreme(a, b, f(a) > f(b), f(b) > f(a), a & b)),
                Op::Pack16(s) => registers.map2(s, mask, |a: u32, b: u32| a & 0xFFFF | b << 16),
                Op::Bf16x2FromF(s) => registers.map2(s, mask, |a: u32, b: u32| bf16(a) << 16 | bf16(b)),
                Op::Mad32(s) => registers.map3(s, mask, |a: u32, b: u32, c: u32| a.wrapping_mul(b).wrapping_add(c)),
                Op::FmaF(s) => registers.map3(s, mask, |a: u32, b: u32, c: u32| f(a).mul_add(f(b), f(c)).to_bits()),
                Op::Lop3(s, table) => {
                    let t = |i: u32| 0u32.wrapping_sub(*table as u32 >> i & 1);
                    let t = [t(0), t(1), t(2), t(3), t(4), t(5), t(6), t(7)];
                    registers.map3(s, mask, |a: u32, b: u32, c: u32| {
                        let low = !a & (!b & (!c & t[0] | c & t[1]) | b & (!c & t[2] | c & t[3]));
                        low | a & (!b & (!c & t[4] | c & t[5]) | b & (!c & t[6] | c & t[7]))
                    })
                }
                Op::Select32(s) => {
                    let p = registers.bits(s[3]);
                    let b = *registers.words(s[2]);
                    registers.map1(&[s[0], s[1]], mask & p, |a: u32| a);
                    registers.set_words(s[0], mask & !p, &b);
                }
                Op::Select64(s) => {
                    let p = registers.bits(s[3]);
                    let b = *registers.longs(s[2]);
                    registers.map1(&[s[0], s[1]], mask & p, |a: u64| a);
                    registers.set_longs(s[0], mask & !p, &b);
                }
                Op::Mov64(s) => registers.map1(s, mask, |a: u64| a),
                Op::Add64(s) => registers.map2(s, mask, |a: u64, b: u64| a.wrapping_add(b)),
                Op::Sub64(s) => registers.map2(s, mask, |a: u64, b: u64| a.wrapping_sub(b)),
                Op::Mul64(s) => registers.map2(s, mask, |a: u64, b: u64| a.wrapping_mul(b)),
                Op::And64(s) => registers.map2(s, mask, |a: u64, b: u64| a & b),
                Op::Or64(s) => registers.map2(s, mask, |a: u64, b: u64| a | b),
                Op::Xor64(s) => registers.map2(s, mask, |a: u64, b: u64| a ^ b),
                Op::Shl64(s) => registers.map2(s, mask, |a: u64, b: u32| if b < 64 { a << (b & 63) } else { 0 }),
                Op::ShrU64(s) => registers.map2(s, mask, |a: u64, b: u32| if b < 64 { a >> (b & 63) } else { 0 }),
                Op::ShrS64(s) => registers.map2(s, mask, |a: u64, b: u32| ((a as i64) >> b.min(63)) as u64),
                Op::ZeroExtend(s) => registers.map1(s, mask, |a: u32| a as u64),
                Op::SignExtend(s) => registers.map1(s, mask, |a: u32| a as i32 as u64),
                Op::Low32(s) => registers.map1(s, mask, |a: u64| a as u32),
                Op::High32(s) => registers.map1(s, mask, |a: u64| (a >> 32) as u32),
                Op::Pack32(s) => registers.map2(s, mask, |a: u32, b: u32| a as u64 | (b as u64) << 32),
                Op::MulWideU(s) => registers.map2(s, mask, |a: u32, b: u32| a as u64 * b as u64),
                Op::MulWideS(s) => registers.map2(s, mask, |a: u32, b: u32| (a as i32 as i64 * b as i32 as i64) as u64),
                Op::MadWideU(s) => registers.map3(s, mask, |a: u32, b: u32, c: u64| (a as u64 * b as u64).wrapping_add(c)),
                Op::MadWideS(s) => registers.map3(s, mask, |a: u32, b: u32, c: u64| ((a as i32 as i64 * b as i32 as i64) as u64).wrapping_add(c)),
                Op::SetU32(how, s) => registers.order(*how, s, mask, |a: u32| a),
                Op::SetS32(how, s) => registers.order(*how, s, mask, |a: u32| a as i32),
                Op::SetU64(how, s) => registers.order(*how, s, mask, |a: u64| a),
                Op::SetS64(how, s) => registers.order(*how, s, mask, |a: u64| a as i64),
                Op::SetF(how, s) => registers.order(*how, s, mask, f),
                Op::MovBit(s) => registers.set_bits(s[0], mask, registers.bits(s[1])),
                Op::NotBit(s) => registers.set_bits(s[0], mask, !registers.bits(s[1])),
                Op::AndBit(s) => registers.set_bits(s[0], mask, registers.bits(s[1]) & registers.bits(s[2])),
                Op::OrBit(s) => registers.set_bits(s[0], mask, registers.bits(s[1]) | registers.bits(s[2])),
                Op::XorBit(s) => registers.set_bits(s[0], mask, registers.bits(s[1]) ^ registers.bits(s[2])),
                Op::Each(each) => {
                    let (d, [a, b, c], function) = &**each;
                    for lane in lanes(mask) {
                        let value = function(registers.lane(*a, lane), registers.lane(*b, lane), registers.lane(*c, lane));
                        registers.set_lane(*d, lane, value);
                    }
                }
                Op::Load(access) => machine.load(registers, access, mask),
                Op::Store(access) => machine.store(registers, access, mask),
                Op::Atomic(atomic) => machine.atomic(registers, atomic, mask),
                Op::CpAsync(copy) => machine.cp_async(registers, copy, mask),
                Op::CpCommit => machine.cp_commit(mask),
                Op::CpWait(most) => machine.cp_wait(mask, *most),
                Op::LdMatrix(load) => {
                    together!(FULL, true);
                    machine.ldmatrix(&mut warp.registers, load, mask);
                }
                Op::Mma(m) => {
                    together!(FULL, true);
                    mma(&mut warp.registers, m);
                }
                Op::Shuffle(s) => {
                    let (members, own) = members!(s.members);
                    together!(members, own);
                    shuffle(&mut warp.registers, s, mask);
                }
                Op::Vote(mode, d, a, not, slot) => {
                    let (members, own) = members!(*slot);
                    together!(members, own);
                    let registers = &mut warp.registers;
                    let value = registers.bits(*a) ^ if *not { FULL } else { 0 };
                    let words = *registers.words(*slot);
                    groups(&words, mask, |members, group| {
                        let asked = members & mask;
                        let result = match mode {
                            VoteMode::Ballot => return registers.set_words(d.1, group, &[value & asked; 32]),
                            VoteMode::All => value & asked == asked,
                            VoteMode::Any => value & asked != 0,
                            VoteMode::Uni => value & asked == asked || value & asked == 0,
                        };
                        registers.set_bits(d.1, group, if result { FULL } else { 0 });
                    });
                }
                Op::Redux(what, s) => {
                    let (members, own) = members!(s[2]);
                    together!(members, own);
                    let registers = &mut warp.registers;
                    let (words, named) = (*registers.words(s[1]), *registers.words(s[2]));
                    groups(&named, mask, |members, group| {
                        let values = lanes(members & mask).map(|i| words[i]);
                        let result = match what {
                            Reduction::Add => values.fold(0, u32::wrapping_add),
                            Reduction::MinU => values.fold(u32::MAX, u32::min),
                            Reduction::MaxU => values.fold(0, u32::max),
                            Reduction::MinS => values.fold(i32::MAX, |a, b| a.min(b as i32)) as u32,
                            Reduction::MaxS => values.fold(i32::MIN, |a, b| a.max(b as i32)) as u32,
                            Reduction::And => values.fold(u32::MAX, |a, b| a & b),
                            Reduction::Or => values.fold(0, |a, b| a | b),
                            Reduction::Xor => values.fold(0, |a, b| a ^ b),
                        };
                        registers.set_words(s[0], group, &[result; 32]);
                    });
                }
                Op::ActiveMask(d) => registers.set_words(*d, mask, &[mask; 32]),
                Op::Barrier(a, b) => {
                    let lane = mask.trailing_zeros() as usize;
                    let state = State::Block(registers.words(*a)[lane], registers.words(*b)[lane]);
                    if mask != active {
                        warp.splits.push(WarpSplit { pc: pc + 1, mask: active & !mask, state: State::Ready });
                    }
                    let split = &mut warp.splits[current];
                    (split.pc, split.mask, split.state) = (pc, mask, state);
                    return Stop::Switch;
                }
                Op::WarpBarrier(slot) => {
                    let (members, own) = members!(*slot);
                    // Other lanes may be at another `bar.warp.sync` with the same members: it is the mask that counts.
                    let there =
                        warp.splits.iter().filter(|f| f.state == State::Lanes && is_warp_barrier(&steps[f.pc as usize].op)).fold(mask, |m, f| m | f.mask);
                    if members & there & !mask != 0 && members & warp.live() & !there == 0 && mask == active {
                        for f in &mut warp.splits {
                            if f.state == State::Lanes && f.mask & members != 0 && is_warp_barrier(&steps[f.pc as usize].op) {
                                (f.pc, f.state) = (f.pc + 1, State::Ready);
                            }
                        }
                        warp.splits[current].pc = pc + 1;
                        machine.warp_barrier(members, warp.live());
                        return Stop::Switch;
                    }
                    together!(members, own);
                    let live = warp.live();
                    groups(warp.registers.words(*slot), mask, |members, _| machine.warp_barrier(members, live));
                }
                Op::BarrierArrive(a, b) => {
                    let lane = mask.trailing_zeros() as usize;
                    machine.named_arrive(registers.words(*a)[lane], registers.words(*b)[lane], mask);
                }
                Op::Mbarrier(m) if !matches!(m.what, Phase::WaitParity | Phase::WaitState) => machine.mbarrier(registers, m, mask),
                Op::Mbarrier(m) => {
                    if warp.budget < 0 {
                        warp.splits[current].pc = pc;
                        return Stop::Endless;
                    }
                    let answer = machine.mbarrier_wait(registers, m, mask, warp.expired);
                    warp.expired &= !mask;
                    if answer.waiting != 0 {
                        let others = mask & !answer.waiting & !answer.over;
                        let rest = active & !answer.waiting & !others;
                        let parked = State::Phase(answer.at, m.what == Phase::WaitParity, answer.value);
                        warp.splits[current] = WarpSplit { pc, mask: answer.waiting, state: parked };
                        for (pc, mask) in [(pc, others), (pc + 1, rest)].into_iter().filter(|f| f.1 != 0) {
                            warp.splits.push(WarpSplit { pc, mask, state: State::Ready });
                        }
                        return Stop::Switch;
                    }
                }
                Op::Bulk(b) => machine.bulk(registers, b, mask),
                Op::BulkCommit => machine.bulk_commit(mask),
                Op::BulkWait(most) => machine.bulk_wait(mask, *most),
                Op::ProxyFence => machine.order.proxy(machine.warp),
                Op::Wgmma(w) => {
                    together!(FULL, true);
                    warp.scoreboard.issue(machine, &warp.registers, w, pc);
                }
                Op::WgmmaFence => warp.scoreboard.fence(),
                Op::WgmmaCommit => warp.scoreboard.commit(),
                Op::WgmmaWait(most) => {
                    together!(FULL, true);
                    if let Some(groups) = warp.scoreboard.wait(*most) {
                        warp.splits[current] = WarpSplit { pc, mask, state: State::Wgmma(groups) };
                        return Stop::Switch;
                    }
                }
                Op::StMatrix(store) => {
                    together!(FULL, true);
                    machine.stmatrix(&warp.registers, store, mask);
                }
                Op::ClusterArrive => machine.cluster_arrive(mask),
                Op::ClusterWait => {
                    if !machine.cluster_met() {
                        if mask != active {
                            warp.splits.push(WarpSplit { pc: pc + 1, mask: active & !mask, state: State::Ready });
                        }
                        warp.splits[current] = WarpSplit { pc, mask, state: State::Cluster };
                        return Stop::Switch;
                    }
                }
                Op::Elect(d, p, slot) => {
                    let (members, own) = members!(*slot);
                    together!(members, own);
                    let registers = &mut warp.registers;
                    let named = *registers.words(*slot);
                    groups(&named, mask, |members, group| {
                        let leader = (members & mask).trailing_zeros();
                        registers.set_words(*d, group, &[leader; 32]);
                        registers.set_bits(*p, group, 1u32.checked_shl(leader).unwrap_or(0));
                    });
                }
                Op::Branch(target) => {
                    if warp.budget < 0 {
                        warp.splits[current].pc = pc;
                        return Stop::Endless;
                    }
                    if mask == active {
                        pc = *target;
                        if alone {
                            continue;
                        }
                        warp.splits[current].pc = pc;
                        return Stop::Switch;
                    }
                    warp.splits[current].pc = pc + 1;
                    warp.splits[current].mask = active & !mask;
                    warp.splits.push(WarpSplit { pc: *target, mask, state: State::Ready });
                    return Stop::Switch;
                }
                Op::BranchIndex(index, targets) => {
                    if warp.budget < 0 {
                        warp.splits[current].pc = pc;
                        return Stop::Endless;
                    }
                    let words = *registers.words(*index);
                    warp.splits[current].mask = active & !mask;
                    warp.splits[current].pc = pc + 1;
                    for lane in lanes(mask) {
                        match targets.get(words[lane] as usize) {
                            Some(&pc) => warp.splits.push(WarpSplit { pc, mask: 1 << lane, state: State::Ready }),
                            None => {
                                machine.note(Kind::OutOfBounds, lane, Place::None, words[lane] as u64, 0, 0, false);
                                warp.exited.push((pc, 1 << lane));
                            }
                        }
                    }
                    if warp.splits[current].mask == 0 {
                        warp.splits.remove(current);
                    }
                    return Stop::Switch;
                }
                Op::Exit => {
                    machine.bulk_exit(mask);
                    warp.exit(current, pc, mask);
                    return Stop::Switch;
                }
                Op::Trap => {
                    machine.note(Kind::Trap, mask.trailing_zeros() as usize, Place::None, 0, 0, 0, false);
                    warp.exit(current, pc, mask);
                    return Stop::Switch;
                }
                Op::Nop => {}
            }
        }
        pc += 1;
    }
}

fn is_warp_barrier(op: &Op) -> bool {
    matches!(op, Op::WarpBarrier(_))
}

#[inline(always)]
fn f(bits: u32) -> f32 {
    f32::from_bits(bits)
}

/// `min` and `max`: a NaN loses against a number, two equal values (zeros) combine their signs as `equal` says.
#[inline(always)]
fn extreme(a: u32, b: u32, first: bool, second: bool, equal: u32) -> u32 {
    let either = if f(a).is_nan() {
        b
    } else if f(b).is_nan() {
        a
    } else {
        equal
    };
    let either = if f(a).is_nan() && f(b).is_nan() { 0x7FFF_FFFF } else { either };
    if first {
        a
    } else if second {
        b
    } else {
        either
    }
}

impl Registers {
    /// A comparison after a cast.
    ///
    /// # Safety
    /// As for `compare`.
    #[inline(always)]
    unsafe fn order<T: Value, U: PartialOrd>(&mut self, how: Compare, s: &[u16; 3], mask: u32, cast: impl Fn(T) -> U + Copy) {
        use Compare::*;
        // One loop per relation: each is a vector comparison.
        // SAFETY: the caller's promise.
        unsafe {
            match how {
                Eq => self.compare(s, mask, |a, b| cast(a) == cast(b)),
                Neu => self.compare(s, mask, |a, b| cast(a) != cast(b)),
                Lt => self.compare(s, mask, |a, b| cast(a) < cast(b)),
                Le => self.compare(s, mask, |a, b| cast(a) <= cast(b)),
                Gt => self.compare(s, mask, |a, b| cast(a) > cast(b)),
                Ge => self.compare(s, mask, |a, b| cast(a) >= cast(b)),
                how => self.compare(s, mask, |a, b| compares(how, cast(a), cast(b))),
            }
        }
    }
}
