//! The `wgmma`s of a warp: which are on their way, which registers they use meanwhile, and what they compute in the end.

use super::super::finding::Kind;
use super::super::kernel::Kernel;
use super::super::lanes::{FULL, Registers};
use super::super::machine::Machine;
use super::super::ops::{Left, Op, Step, Use, Wgmma};
use super::super::wgmma::{Matrix, product};
use std::collections::{HashMap, VecDeque};

/// Something that a `wgmma` uses a register for, or that another instruction does.
const RESULT: u8 = 1;
const SOURCE: u8 = 2;
const TOUCHED: u8 = 4;

/// A on its way.
enum Source {
    Shared(Matrix),
    Registers(Box<[[u32; 32]; 4]>),
}

enum Pending {
    Product {
        pc: u32,
        a: Source,
        b: Matrix,
        scale: bool,
    },
    /// `mov` of an accumulator on its way: a new name for it.
    Copy([u16; 2]),
}

/// The state of a warp.
pub struct Scoreboard {
    /// The kernel's registers that `wgmma`s use, and by register what for.
    slots: Vec<u16>,
    marks: Vec<u8>,
    fenced: bool,
    /// With the number of their group, and whether they have been computed.
    pending: VecDeque<(u32, bool, Pending)>,
    /// Groups that were committed, and that were waited for.
    pub committed: u32,
    retired: u32,
}

/// B as f32, for all that use it.
pub type Decoded = HashMap<(Matrix, usize, bool), Vec<f32>>;

impl Scoreboard {
    pub fn new(kernel: &Kernel) -> Scoreboard {
        let slots = kernel.wgmma_slots.clone();
        Scoreboard { marks: vec![0; slots.len()], slots, fenced: false, pending: VecDeque::new(), committed: 0, retired: 0 }
    }

    /// A block starts.
    pub fn start(&mut self) {
        self.marks.fill(0);
        self.fenced = false;
        self.pending.clear();
        (self.committed, self.retired) = (0, 0);
    }

    fn at(&self, slot: u16) -> Option<usize> {
        self.slots.binary_search(&slot).ok()
    }

    /// Another instruction is about to touch registers of `wgmma`s. True if there is nothing left to run.
    #[inline(never)]
    pub fn touches(&mut self, machine: &mut Machine, step: &Step, list: &[(Use, u16, bool)], mask: u32) -> bool {
        if let Op::Mov32([d, s]) = step.op
            && let (Some(to), Some(from)) = (self.at(d), self.at(s))
            && mask == FULL
        {
            let busy = self.marks[to] & RESULT != 0;
            self.marks[to] = (self.marks[to] & !TOUCHED) | (self.marks[from] & TOUCHED);
            if self.marks[from] & RESULT != 0 || busy {
                self.marks[to] |= RESULT;
                self.pending.push_back((self.committed, false, Pending::Copy([d, s])));
                return true;
            }
            return false;
        }
        for &(how, slot, counts) in list {
            let Some(at) = self.at(slot) else { continue };
            let mark = self.marks[at];
            if mark & RESULT != 0 {
                let text = if how == Use::Read { "reads an accumulator" } else { "overwrites an accumulator" };
                self.say(machine, format!("warp {} {text} of a wgmma that it has not waited for: wgmma.wait_group comes first", machine.warp), RESULT, slot);
            } else if mark & SOURCE != 0 && how == Use::Write {
                let text = format!("warp {} overwrites a register of A while a wgmma that it has not waited for may read it", machine.warp);
                self.say(machine, text, SOURCE, slot);
            }
            if counts {
                self.marks[at] |= TOUCHED;
            }
        }
        false
    }

    /// Notes a finding about a register, with the last `wgmma` that uses it so.
    #[cold]
    fn say(&self, machine: &mut Machine, text: String, what: u8, slot: u16) {
        let steps = &machine.launch.kernel.steps;
        let uses = |pc: u32| match &steps[pc as usize].op {
            Op::Wgmma(w) if what == RESULT => w.d.contains(&slot),
            Op::Wgmma(w) => matches!(&w.a, Left::Registers(a) if a.contains(&slot)),
            _ => false,
        };
        let by = self.pending.iter().rev().find_map(|p| if let Pending::Product { pc, .. } = p.2 { Some(pc).filter(|&pc| uses(pc)) } else { None });
        let mut list = vec![(machine.pc, text)];
        list.extend(by.map(|pc| (pc, "the wgmma is".to_string())));
        machine.note_text(Kind::Wgmma, 0, list);
    }

    /// `wgmma.fence`
    pub fn fence(&mut self) {
        self.fenced = true;
        self.marks.iter_mut().for_each(|m| *m &= !TOUCHED);
    }

    /// `wgmma.commit_group`
    pub fn commit(&mut self) {
        self.committed += 1;
    }

    /// `wgmma.mma_async`: it starts, and will be computed when a warp waits for it.
    pub fn issue(&mut self, machine: &mut Machine, registers: &Registers, w: &Wgmma, pc: u32) {
        let (mut unfenced, mut busy) = (None, None);
        let a: &[u16] = if let Left::Registers(a) = &w.a { a } else { &[] };
        for (slots, clash, mark) in [(&w.d[..], SOURCE, RESULT), (a, RESULT, SOURCE)] {
            for &slot in slots {
                let Some(at) = self.at(slot) else { continue };
                if self.marks[at] & TOUCHED != 0 {
                    unfenced = Some(slot);
                }
                if self.marks[at] & clash != 0 {
                    busy = Some((slot, clash));
                }
                self.marks[at] |= mark;
            }
        }
        if !self.fenced {
            self.say(machine, format!("warp {} starts a wgmma without any wgmma.fence before it", machine.warp), 0, 0);
        } else if unfenced.is_some() {
            let text = format!("warp {} starts a wgmma on registers that were touched after the last wgmma.fence", machine.warp);
            self.say(machine, text, 0, 0);
        }
        if let Some((slot, clash)) = busy {
            let text = format!("warp {} starts a wgmma that uses a register in another way than one that it has not waited for", machine.warp);
            self.say(machine, text, clash, slot);
        }
        let scale = registers.bits(w.scale) & 1 == 1;
        let b = Matrix::new(registers.longs(w.b)[0], w.transposed[1]);
        machine.wgmma_reads(b, 0, w.n as u32, self.committed);
        let a = match &w.a {
            Left::Shared(a) => {
                let a = Matrix::new(registers.longs(*a)[0], w.transposed[0]);
                let first = machine.warp % 4 * 16;
                machine.wgmma_reads(a, first, first + 16, self.committed);
                Source::Shared(a)
            }
            Left::Registers(a) => Source::Registers(Box::new(a.map(|s| *registers.words(s)))),
        };
        self.pending.push_back((self.committed, false, Pending::Product { pc, a, b, scale }));
    }

    /// `wgmma.wait_group`: the groups that must be over, if some are not.
    pub fn wait(&self, most: u32) -> Option<u32> {
        let groups = self.committed.saturating_sub(most);
        (groups > self.retired).then_some(groups)
    }

    /// Computes what belongs to the first `groups` groups: the quarter of the warp that is `quarter` in its group.
    pub fn compute(&mut self, registers: &mut Registers, kernel: &Kernel, shared: &[u32], quarter: u32, groups: u32, decoded: &mut Decoded) {
        // The accumulators of the last product stay here as a matrix of 16 rows: a chain of products has the same.
        let mut open: Option<&Wgmma> = None;
        let (mut c, mut a16) = (Vec::new(), [0f32; 256]);
        for (_, done, pending) in self.pending.iter_mut().take_while(|p| p.0 < groups).filter(|p| !p.1) {
            *done = true;
            match pending {
                Pending::Copy([d, s]) => {
                    if let Some(w) = open.take() {
                        scatter(registers, w, &c);
                    }
                    let value = *registers.words(*s);
                    registers.set_words(*d, FULL, &value);
                }
                Pending::Product { pc, a, b, scale } => {
                    let Op::Wgmma(w) = &kernel.steps[*pc as usize].op else { continue };
                    if open.is_none_or(|o| o.d != w.d) {
                        if let Some(w) = open.take() {
                            scatter(registers, w, &c);
                        }
                        c.resize(16 * w.n, 0.0);
                        gather(registers, w, &mut c);
                    }
                    open = Some(w);
                    if !*scale {
                        c.fill(0.0);
                    }
                    let b = decoded.entry((*b, w.n, w.negate[1])).or_insert_with(|| {
                        let mut into = vec![0.0; 16 * w.n];
                        b.decode(shared, 0, w.n, w.negate[1], &mut into);
                        into
                    });
                    match a {
                        Source::Shared(a) => a.decode(shared, 16 * quarter, 16, w.negate[0], &mut a16),
                        Source::Registers(a) => fragment(a, w.negate[0], &mut a16),
                    }
                    product(&a16, b, &mut c, w.n);
                }
            }
        }
        if let Some(w) = open {
            scatter(registers, w, &c);
        }
    }

    /// The first `groups` groups have been waited for.
    pub fn retire(&mut self, groups: u32, kernel: &Kernel) {
        self.retired = self.retired.max(groups);
        while self.pending.front().is_some_and(|p| p.0 < groups) {
            self.pending.pop_front();
        }
        self.marks.iter_mut().for_each(|m| *m &= TOUCHED);
        for i in 0..self.pending.len() {
            let (list, a): (&[u16], &[u16]) = match &self.pending[i].2 {
                Pending::Copy([d, _]) => (&[*d], &[]),
                Pending::Product { pc, .. } => match &kernel.steps[*pc as usize].op {
                    Op::Wgmma(w) => (&w.d, if let Left::Registers(a) = &w.a { a } else { &[] }),
                    _ => continue,
                },
            };
            for (slots, mark) in [(list, RESULT), (a, SOURCE)] {
                for slot in slots {
                    if let Ok(at) = self.slots.binary_search(slot) {
                        self.marks[at] |= mark;
                    }
                }
            }
        }
    }
}

/// Row and column of an accumulator in a warp's 16 rows.
fn place(register: usize, lane: usize) -> (usize, usize) {
    (lane / 4 + 8 * (register / 2 % 2), 8 * (register / 4) + 2 * (lane % 4) + register % 2)
}

fn gather(registers: &Registers, w: &Wgmma, c: &mut [f32]) {
    for (i, &slot) in w.d.iter().enumerate() {
        for (lane, &word) in registers.words(slot).iter().enumerate() {
            let (row, column) = place(i, lane);
            c[row * w.n + column] = f32::from_bits(word);
        }
    }
}

fn scatter(registers: &mut Registers, w: &Wgmma, c: &[f32]) {
    for (i, &slot) in w.d.iter().enumerate() {
        let value = std::array::from_fn(|lane| {
            let (row, column) = place(i, lane);
            c[row * w.n + column].to_bits()
        });
        registers.set_words(slot, FULL, &value);
    }
}

/// A in registers, as 16 k of 16 rows.
fn fragment(a: &[[u32; 32]; 4], negate: bool, into: &mut [f32; 256]) {
    let sign = if negate { 1 << 31 } else { 0 };
    for (register, words) in a.iter().enumerate() {
        for (lane, word) in words.iter().enumerate() {
            let (row, k) = (lane / 4 + 8 * (register % 2), 2 * (lane % 4) + 8 * (register / 2));
            into[k * 16 + row] = f32::from_bits(word << 16 ^ sign);
            into[(k + 1) * 16 + row] = f32::from_bits(word & 0xFFFF_0000 ^ sign);
        }
    }
}
