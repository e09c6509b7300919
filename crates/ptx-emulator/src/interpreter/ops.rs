//! The decoded instruction: what the interpreter runs.
//!
//! Operands are slots: indices into a warp's 32-bit registers, 64-bit registers or predicates. Immediates and special
//! registers are slots as well, filled once, so that every operation exists in one form only.

use std::sync::Arc;

/// Which of the three files a slot belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum File {
    /// 32 lanes of 32 bits; 16-bit values are zero-extended.
    Word,
    /// 32 lanes of 64 bits.
    Long,
    /// One bit per lane.
    Bit,
}

/// A slot with its file.
pub type Slot = (File, u16);

/// A rare operation, one lane at a time: bits in, bits out.
pub type Lane = Arc<dyn Fn(u64, u64, u64) -> u64 + Send + Sync>;

/// How two values compare; `…Unordered` floating-point forms are true when one of them is a NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Equ,
    Neu,
    Ltu,
    Leu,
    Gtu,
    Geu,
    Num,
    Nan,
}

/// How a result is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    Nearest,
    Zero,
    Down,
    Up,
    /// `rna`: ties away from zero (tf32).
    Away,
}

/// Which memory an instruction names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Memory {
    Generic,
    Global,
    Const,
    Shared,
    Local,
    Param,
}

/// A load, a store, or the address of another memory operation.
#[derive(Clone, Debug)]
pub struct Address {
    pub memory: Memory,
    pub base: Slot,
    pub offset: i64,
    /// Bytes of one element.
    pub width: u8,
    /// Elements: 1, 2 or 4.
    pub count: u8,
    /// Bits to sign-extend a loaded element from; 0 for none.
    pub sign: u8,
    pub slots: [Slot; 4],
    /// Where in the parameters, if that is known.
    pub fixed: Option<u32>,
    /// The number of a load from shared memory by 32-bit addresses.
    pub number: Option<u16>,
}

impl Address {
    /// Bytes that one lane touches.
    pub fn bytes(&self) -> usize {
        self.width as usize * self.count as usize
    }
}

/// An integer atomic.
#[derive(Clone)]
pub struct Atomic {
    pub at: Address,
    /// Old value, operands → new value.
    pub update: Lane,
    pub a: Slot,
    pub b: Slot,
    /// Where the old value goes; `None` for `red`.
    pub old: Option<Slot>,
}

#[derive(Clone, Debug)]
pub struct CpAsync {
    pub to: Address,
    pub from: Address,
    pub bytes: u8,
    /// Bytes to read, the rest is zero.
    pub source_bytes: Option<u16>,
    /// A predicate that, when true, means: read nothing, fill with zeros.
    pub ignore: Option<u16>,
}

#[derive(Clone, Debug)]
pub struct LdMatrix {
    pub at: Address,
    pub count: u8,
    pub transposed: bool,
    pub slots: [u16; 4],
}

/// What the elements of an `mma` are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    Bf16,
    F16,
    Tf32,
}

#[derive(Clone, Debug)]
pub struct Mma {
    pub element: Element,
    /// m is 16, n is 8.
    pub k: u8,
    /// Accumulators and result in f16.
    pub half: bool,
    pub d: [u16; 4],
    pub a: [u16; 4],
    pub b: [u16; 2],
    pub c: [u16; 4],
}

/// What is done with an mbarrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Init,
    Inval,
    /// Arrives `value` times.
    Arrive,
    /// Expects `value` more bytes.
    Expect,
    /// Expects `value` more bytes, then arrives once.
    ArriveExpect,
    /// Asks whether the phase of this parity is over.
    WaitParity,
    /// Asks whether the phase in which that state was returned is over.
    WaitState,
}

/// An operation on an mbarrier.
#[derive(Clone, Debug)]
pub struct Mbarrier {
    pub what: Phase,
    pub at: Address,
    /// `.relaxed`: nothing that came before is made visible.
    pub relaxed: bool,
    /// A count, bytes or a parity, in a word; a state in a long.
    pub value: Option<Slot>,
    /// The state that an arrival returns, or the answer to a wait.
    pub to: Option<Slot>,
}

/// Which way a bulk copy goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Load,
    Store,
    /// Adds to what is there.
    Reduce,
}

/// `cp.async.bulk` and `cp.async.bulk.tensor`.
#[derive(Clone, Debug)]
pub struct Bulk {
    pub way: Way,
    pub shared: Address,
    /// The address in global memory, or that of the tensor map.
    pub global: Address,
    /// Of the element, innermost first; none for a copy without a tensor map.
    pub coordinates: Vec<u16>,
    /// How many, for a copy without a tensor map.
    pub bytes: Option<u16>,
    pub barrier: Option<Address>,
    /// The blocks of the cluster that get the data.
    pub multicast: Option<u16>,
}

/// Where the A of a `wgmma` is.
#[derive(Clone, Copy, Debug)]
pub enum Left {
    /// A descriptor in a long.
    Shared(u16),
    Registers([u16; 4]),
}

/// `wgmma.mma_async.sync.aligned.m64n…k16.f32.bf16.bf16`.
#[derive(Clone, Debug)]
pub struct Wgmma {
    pub n: usize,
    pub d: Vec<u16>,
    pub a: Left,
    /// A descriptor in a long.
    pub b: u16,
    /// Whether D takes part in the sum: a predicate.
    pub scale: u16,
    pub negate: [bool; 2],
    /// Whether A is M-major, B N-major.
    pub transposed: [bool; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShuffleMode {
    Up,
    Down,
    Bfly,
    Idx,
}

#[derive(Clone, Debug)]
pub struct Shuffle {
    pub mode: ShuffleMode,
    pub d: u16,
    pub p: Option<u16>,
    pub a: u16,
    pub b: u16,
    pub c: u16,
    pub members: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoteMode {
    All,
    Any,
    Uni,
    Ballot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    Add,
    MinU,
    MaxU,
    MinS,
    MaxS,
    And,
    Or,
    Xor,
}

/// Slots in the order of the PTX operands. `…32` works on words, `…64` on longs, `…F` on f32.
#[derive(Clone)]
pub enum Op {
    Mov32([u16; 2]),
    Not32([u16; 2]),
    Neg32([u16; 2]),
    Abs32([u16; 2]),
    NegF([u16; 2]),
    AbsF([u16; 2]),
    SqrtF([u16; 2]),
    RcpF([u16; 2]),
    RsqrtF([u16; 2]),
    Ex2F([u16; 2], bool),
    RcpFtz([u16; 2]),
    Lg2F([u16; 2]),
    RoundF([u16; 2], Round),
    S32FromF([u16; 2], Round),
    FFromS32([u16; 2]),
    FFromU32([u16; 2]),
    Low16([u16; 2]),
    High16([u16; 2]),
    Bf16FromF([u16; 2]),
    FFromBf16([u16; 2]),
    Add32([u16; 3]),
    Sub32([u16; 3]),
    Mul32([u16; 3]),
    MulHiU32([u16; 3]),
    And32([u16; 3]),
    Or32([u16; 3]),
    Xor32([u16; 3]),
    Shl32([u16; 3]),
    ShrU32([u16; 3]),
    ShrS32([u16; 3]),
    MinS32([u16; 3]),
    MaxS32([u16; 3]),
    MinU32([u16; 3]),
    MaxU32([u16; 3]),
    AddF([u16; 3]),
    SubF([u16; 3]),
    MulF([u16; 3]),
    DivF([u16; 3]),
    MinF([u16; 3]),
    MaxF([u16; 3]),
    Pack16([u16; 3]),
    Bf16x2FromF([u16; 3]),
    Mad32([u16; 4]),
    FmaF([u16; 4]),
    Lop3([u16; 4], u8),
    Select32([u16; 4]),
    Select64([u16; 4]),
    Mov64([u16; 2]),
    Add64([u16; 3]),
    Sub64([u16; 3]),
    Mul64([u16; 3]),
    And64([u16; 3]),
    Or64([u16; 3]),
    Xor64([u16; 3]),
    Shl64([u16; 3]),
    ShrU64([u16; 3]),
    ShrS64([u16; 3]),
    ZeroExtend([u16; 2]),
    SignExtend([u16; 2]),
    Low32([u16; 2]),
    High32([u16; 2]),
    Pack32([u16; 3]),
    MulWideU([u16; 3]),
    MulWideS([u16; 3]),
    MadWideU([u16; 4]),
    MadWideS([u16; 4]),
    SetU32(Compare, [u16; 3]),
    SetS32(Compare, [u16; 3]),
    SetF(Compare, [u16; 3]),
    SetU64(Compare, [u16; 3]),
    SetS64(Compare, [u16; 3]),
    MovBit([u16; 2]),
    NotBit([u16; 2]),
    AndBit([u16; 3]),
    OrBit([u16; 3]),
    XorBit([u16; 3]),
    /// Everything else that computes lane by lane: destination, three sources.
    Each(Box<(Slot, [Slot; 3], Lane)>),
    Load(Box<Address>),
    Store(Box<Address>),
    Atomic(Box<Atomic>),
    CpAsync(Box<CpAsync>),
    CpCommit,
    /// Waits until at most this many groups are in flight; `None`: until nothing is.
    CpWait(Option<u32>),
    LdMatrix(Box<LdMatrix>),
    Mma(Box<Mma>),
    Shuffle(Box<Shuffle>),
    /// Destination (a bit, or a word for a ballot), source, whether negated, members.
    Vote(VoteMode, Slot, u16, bool, u16),
    Redux(Reduction, [u16; 3]),
    ActiveMask(u16),
    /// Barrier number, count of threads (0: all).
    Barrier(u16, u16),
    /// The same without waiting; `bar.red` is not supported.
    BarrierArrive(u16, u16),
    WarpBarrier(u16),
    Mbarrier(Box<Mbarrier>),
    Bulk(Box<Bulk>),
    BulkCommit,
    /// Waits until at most this many groups of bulk copies are in flight; `.read`, with which the destination may still be, is
    /// taken for the same: nothing in a kernel can tell.
    BulkWait(u32),
    Wgmma(Box<Wgmma>),
    WgmmaFence,
    WgmmaCommit,
    WgmmaWait(u32),
    StMatrix(Box<LdMatrix>),
    /// `fence.proxy.async`: what was written by stores becomes visible to bulk copies and `wgmma`.
    ProxyFence,
    /// `barrier.cluster.arrive`: `.relaxed` follows a fence as a rule, so all of them release.
    ClusterArrive,
    ClusterWait,
    /// The leader's lane, whether this lane is it, the members.
    Elect(u16, u16, u16),
    Branch(u32),
    BranchIndex(u16, Arc<[u32]>),
    Exit,
    Trap,
    Nop,
}

/// What an instruction does with a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    Read,
    Write,
}

impl Op {
    /// Calls `f` for every slot, reads before writes.
    pub fn slots(&mut self, f: &mut dyn FnMut(Use, File, &mut u16)) {
        use File::{Bit, Long, Word};
        use Op::*;
        use Use::{Read, Write};
        fn all(f: &mut dyn FnMut(Use, File, &mut u16), s: &mut [u16], files: &[File]) {
            for i in 1..s.len() {
                f(Read, files[i], &mut s[i]);
            }
            f(Write, files[0], &mut s[0]);
        }
        match self {
            Mov32(s)
            | Not32(s)
            | Neg32(s)
            | Abs32(s)
            | NegF(s)
            | AbsF(s)
            | SqrtF(s)
            | RcpF(s)
            | RsqrtF(s)
            | Ex2F(s, _)
            | RcpFtz(s)
            | Lg2F(s)
            | RoundF(s, _)
            | S32FromF(s, _)
            | FFromS32(s)
            | FFromU32(s)
            | Low16(s)
            | High16(s)
            | Bf16FromF(s)
            | FFromBf16(s) => all(f, s, &[Word; 2]),
            Add32(s)
            | Sub32(s)
            | Mul32(s)
            | MulHiU32(s)
            | And32(s)
            | Or32(s)
            | Xor32(s)
            | Shl32(s)
            | ShrU32(s)
            | ShrS32(s)
            | MinS32(s)
            | MaxS32(s)
            | MinU32(s)
            | MaxU32(s)
            | AddF(s)
            | SubF(s)
            | MulF(s)
            | DivF(s)
            | MinF(s)
            | MaxF(s)
            | Pack16(s)
            | Bf16x2FromF(s)
            | Redux(_, s) => all(f, s, &[Word; 3]),
            Mad32(s) | FmaF(s) | Lop3(s, _) => all(f, s, &[Word; 4]),
            Select32(s) => all(f, s, &[Word, Word, Word, Bit]),
            Select64(s) => all(f, s, &[Long, Long, Long, Bit]),
            Mov64(s) => all(f, s, &[Long; 2]),
            Add64(s) | Sub64(s) | Mul64(s) | And64(s) | Or64(s) | Xor64(s) => all(f, s, &[Long; 3]),
            Shl64(s) | ShrU64(s) | ShrS64(s) => all(f, s, &[Long, Long, Word]),
            ZeroExtend(s) | SignExtend(s) => all(f, s, &[Long, Word]),
            Low32(s) | High32(s) => all(f, s, &[Word, Long]),
            Pack32(s) | MulWideU(s) | MulWideS(s) => all(f, s, &[Long, Word, Word]),
            MadWideU(s) | MadWideS(s) => all(f, s, &[Long, Word, Word, Long]),
            SetU32(_, s) | SetS32(_, s) | SetF(_, s) => all(f, s, &[Bit, Word, Word]),
            SetU64(_, s) | SetS64(_, s) => all(f, s, &[Bit, Long, Long]),
            MovBit(s) | NotBit(s) => all(f, s, &[Bit; 2]),
            AndBit(s) | OrBit(s) | XorBit(s) => all(f, s, &[Bit; 3]),
            Each(each) => {
                for (file, slot) in &mut each.1 {
                    f(Read, *file, slot);
                }
                f(Write, each.0.0, &mut each.0.1);
            }
            Load(a) => {
                f(Read, a.base.0, &mut a.base.1);
                for (file, slot) in &mut a.slots[..a.count as usize] {
                    f(Write, *file, slot);
                }
            }
            Store(a) => {
                f(Read, a.base.0, &mut a.base.1);
                for (file, slot) in &mut a.slots[..a.count as usize] {
                    f(Read, *file, slot);
                }
            }
            Atomic(a) => {
                f(Read, a.at.base.0, &mut a.at.base.1);
                f(Read, a.a.0, &mut a.a.1);
                f(Read, a.b.0, &mut a.b.1);
                if let Some((file, slot)) = &mut a.old {
                    f(Write, *file, slot);
                }
            }
            CpAsync(c) => {
                f(Read, c.to.base.0, &mut c.to.base.1);
                f(Read, c.from.base.0, &mut c.from.base.1);
                if let Some(slot) = &mut c.source_bytes {
                    f(Read, Word, slot);
                }
                if let Some(slot) = &mut c.ignore {
                    f(Read, Bit, slot);
                }
            }
            LdMatrix(l) => {
                f(Read, l.at.base.0, &mut l.at.base.1);
                for slot in &mut l.slots[..l.count as usize] {
                    f(Write, Word, slot);
                }
            }
            Mma(m) => {
                let (a, b, c) = m.registers();
                m.a[..a].iter_mut().chain(&mut m.b[..b]).chain(&mut m.c[..c]).for_each(|s| f(Read, Word, s));
                m.d[..c].iter_mut().for_each(|s| f(Write, Word, s));
            }
            Shuffle(s) => {
                for slot in [&mut s.a, &mut s.b, &mut s.c, &mut s.members] {
                    f(Read, Word, slot);
                }
                f(Write, Word, &mut s.d);
                if let Some(p) = &mut s.p {
                    f(Write, Bit, p);
                }
            }
            Vote(_, d, a, _, members) => {
                f(Read, Bit, a);
                f(Read, Word, members);
                f(Write, d.0, &mut d.1);
            }
            ActiveMask(d) => f(Write, Word, d),
            Barrier(a, b) => {
                f(Read, Word, a);
                f(Read, Word, b);
            }
            WarpBarrier(m) => f(Read, Word, m),
            BarrierArrive(a, b) => {
                f(Read, Word, a);
                f(Read, Word, b);
            }
            Mbarrier(m) => {
                f(Read, m.at.base.0, &mut m.at.base.1);
                if let Some((file, slot)) = &mut m.value {
                    f(Read, *file, slot);
                }
                if let Some((file, slot)) = &mut m.to {
                    f(Write, *file, slot);
                }
            }
            Bulk(b) => {
                for at in [&mut b.shared, &mut b.global].into_iter().chain(&mut b.barrier) {
                    f(Read, at.base.0, &mut at.base.1);
                }
                b.coordinates.iter_mut().chain(&mut b.bytes).chain(&mut b.multicast).for_each(|s| f(Read, Word, s));
            }
            Wgmma(w) => {
                match &mut w.a {
                    Left::Shared(a) => f(Read, Long, a),
                    Left::Registers(a) => a.iter_mut().for_each(|s| f(Read, Word, s)),
                }
                f(Read, Long, &mut w.b);
                f(Read, Bit, &mut w.scale);
                // Read and written, but one slot: `f` may change it once.
                w.d.iter().for_each(|s| f(Read, Word, &mut s.clone()));
                w.d.iter_mut().for_each(|s| f(Write, Word, s));
            }
            StMatrix(l) => {
                f(Read, l.at.base.0, &mut l.at.base.1);
                l.slots[..l.count as usize].iter_mut().for_each(|s| f(Read, Word, s));
            }
            Elect(d, p, m) => {
                f(Read, Word, m);
                f(Write, Word, d);
                f(Write, Bit, p);
            }
            BranchIndex(i, _) => f(Read, Word, i),
            CpCommit | CpWait(_) | BulkCommit | BulkWait(_) | WgmmaFence | WgmmaCommit | WgmmaWait(_) | ProxyFence | ClusterArrive | ClusterWait
            | Branch(_) | Exit | Trap | Nop => {}
        }
    }
}

impl Op {
    /// Whether it writes memory in one step with reading it: such operations do not race with each other.
    pub fn is_atomic(&self) -> bool {
        match self {
            Op::Atomic(_) => true,
            Op::Bulk(b) => b.way == Way::Reduce,
            _ => false,
        }
    }

    /// Whether it needs the clocks and the scheduler that asynchronous kernels run with.
    pub fn is_asynchronous(&self) -> bool {
        matches!(
            self,
            Op::BarrierArrive(..) | Op::Mbarrier(_) | Op::Bulk(_) | Op::BulkCommit | Op::BulkWait(_) | Op::Wgmma(_) | Op::ClusterArrive | Op::ClusterWait
        )
    }
}

impl Mma {
    /// How many 32-bit registers of A, B and C (and D) a lane holds.
    pub fn registers(&self) -> (usize, usize, usize) {
        // A is 16×k, B is k×8 over 32 lanes; a register holds two 16-bit elements or one tf32.
        let per = if self.element == Element::Tf32 { 1 } else { 2 };
        (16 * self.k as usize / 32 / per, 8 * self.k as usize / 32 / per, if self.half { 2 } else { 4 })
    }
}

/// One operation with its guard.
#[derive(Clone)]
pub struct Step {
    pub op: Op,
    /// The predicate slot (slot 0 is always true), and whether it is negated.
    pub guard: (u16, bool),
}
