//! PTX text → [`Module`]: entries, their parameters, memory and instructions, names resolved, nothing decoded.
//!
//! Depends on nothing but `std`: a build script that only checks what is committed takes it without the interpreter.
//! Follows "Parallel Thread Execution ISA 8.4"; what it does not know is an error with file, line and text. It never
//! panics and holds memory in proportion to the text, whatever the text is.

use std::collections::HashMap;

use crate::lex::{self, Token};

/// Why a PTX file was refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    /// The file as the caller named it.
    pub file: String,
    /// The line, counted from 1.
    pub line: u32,
    /// What was expected and what was found.
    pub what: String,
    /// The text of the line.
    pub text: String,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{}:{}: {}: `{}`", self.file, self.line, self.what, self.text)
    }
}

impl std::error::Error for Error {}

/// A PTX file.
#[derive(Clone, Debug, Default)]
pub struct Module {
    /// The file as the caller named it.
    pub file: String,
    /// `.version`, for example `8.4`.
    pub version: String,
    /// `.target`, for example `sm_80`.
    pub target: String,
    /// `.file` directives: the sources that `.loc` numbers name.
    pub files: HashMap<u32, String>,
    /// Variables at module level (`.global`, `.const`, `.shared`).
    pub variables: Vec<Variable>,
    /// The kernels, in the order of the file.
    pub entries: Vec<Entry>,
    /// The text itself, for messages.
    pub text: String,
}

/// Where a variable lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Space {
    /// `.global`
    Global,
    /// `.const`
    Const,
    /// `.shared`
    Shared,
    /// `.local`
    Local,
    /// `.param`
    Param,
}

/// A declared variable: an array of bytes with a name.
#[derive(Clone, Debug)]
pub struct Variable {
    /// Its name in the PTX.
    pub name: String,
    /// Where it lives.
    pub space: Space,
    /// Its size in bytes.
    pub size: usize,
    /// Its alignment in bytes.
    pub align: usize,
    /// What it starts with; empty without an initialiser (then zero for `.global` and `.const`).
    pub data: Vec<u8>,
    /// `.extern .shared name[]`: it comes after all others and is as large as the launch says.
    pub dynamic: bool,
    /// Its line.
    pub line: u32,
}

/// What a kernel parameter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamKind {
    /// `.u64` or `.b64`: what `T*` compiles to (and what a 64-bit number compiles to as well).
    Pointer,
    /// Everything else: a number, or a struct by value.
    Bytes,
}

/// One parameter of a kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// Its name in the PTX.
    pub name: String,
    /// Pointer or bytes.
    pub kind: ParamKind,
    /// Size in bytes.
    pub size: usize,
    /// Alignment in bytes.
    pub align: usize,
    /// Where it starts in the block of parameters.
    pub offset: usize,
}

/// A declared register.
#[derive(Clone, Debug, PartialEq)]
pub struct Register {
    /// Its name, for example `%f12`.
    pub name: String,
    /// Its width in bits: 1 (predicate), 16, 32 or 64.
    pub bits: u32,
}

/// A `.loc`: where an instruction comes from.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Loc {
    /// File number, line and column of the innermost inlined function.
    pub at: (u32, u32, u32),
    /// The outermost place into which it was inlined.
    pub inlined: Option<(u32, u32, u32)>,
}

/// A kernel.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// The line of `.entry`.
    pub line: u32,
    /// Its parameters, in order.
    pub params: Vec<Param>,
    /// `.maxntid` or `.reqntid`.
    pub max_threads: Option<[u32; 3]>,
    /// Whether that was `.reqntid`.
    pub exact_threads: bool,
    /// `.minnctapersm`.
    pub min_blocks: Option<u32>,
    /// `.reqnctapercluster`: blocks of a cluster.
    pub cluster: Option<[u32; 3]>,
    /// Variables of the function (`.shared`, `.local`).
    pub variables: Vec<Variable>,
    /// Registers that the instructions name.
    pub registers: Vec<Register>,
    /// The instructions.
    pub instructions: Vec<Instruction>,
    /// Label → index of the instruction that follows it.
    pub labels: HashMap<String, usize>,
    /// `.branchtargets` lists by label.
    pub targets: HashMap<String, Vec<String>>,
    /// The `.loc`s that instructions refer to.
    pub locs: Vec<Loc>,
}

impl Entry {
    /// Bytes of shared memory per block that the variables of this entry and `module` take when laid out in order. Memory
    /// whose size the launch gives comes on top.
    pub fn shared_bytes(&self, module: &Module) -> usize {
        layout(module.variables.iter().chain(&self.variables).filter(|v| v.space == Space::Shared))
    }
}

/// The size of variables laid out one after the other, each aligned.
pub fn layout<'a>(variables: impl Iterator<Item = &'a Variable>) -> usize {
    variables.fold(0usize, |end, v| end.next_multiple_of(v.align.max(1)).saturating_add(v.size))
}

/// One instruction with names resolved to registers.
#[derive(Clone, Debug)]
pub struct Instruction {
    /// Its line.
    pub line: u32,
    /// Index into [`Entry::locs`], if a `.loc` came before it.
    pub loc: Option<u32>,
    /// `@%p` or `@!%p`: (negated, register).
    pub guard: Option<(bool, u32)>,
    /// For example `ld.global.nc.v4.f32`.
    pub opcode: String,
    /// What follows the opcode.
    pub operands: Vec<Operand>,
}

/// An operand.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// A declared register, by index into [`Entry::registers`].
    Register(u32),
    /// `!%p`
    Not(u32),
    /// An integer.
    Integer(i128),
    /// `0f…`
    F32(u32),
    /// `0d…` or a decimal fraction.
    F64(u64),
    /// A label, a variable, a special register.
    Symbol(String),
    /// `[base + offset]`
    Address(Box<Operand>, i64),
    /// `[map, {x, y}]`: an element of a tensor
    Tensor(Box<Operand>, Vec<Operand>),
    /// `{a, b, …}`
    Vector(Vec<Operand>),
    /// `p|q`
    Pair(u32, Option<u32>),
    /// `_|q`
    Second(u32),
    /// `_`
    Sink,
}

/// No variable of a kernel is larger; a wrong number must not take the machine's memory.
const LARGEST_VARIABLE: usize = 1 << 26;

/// Nor are blocks of inline assembly nested more deeply.
const DEEPEST: usize = 64;

/// Reads a PTX file; `file` is only for messages.
pub fn parse(file: &str, text: &str) -> Result<Module, Error> {
    let error = |(line, what): (u32, String)| Error { file: file.into(), line, what, text: line_of(text, line).into() };
    let tokens = lex::tokens(text).map_err(error)?;
    let mut parser = Parser { tokens: &tokens, at: 0, variables: 0, labels: Vec::new() };
    let module = Module { file: file.into(), text: text.into(), ..Module::default() };
    parser.module(module).map_err(|what| error((parser.line(), what)))
}

/// The text of one line, trimmed and cut to what a message can hold.
pub fn line_of(text: &str, line: u32) -> &str {
    let line = text.lines().nth(line.saturating_sub(1) as usize).unwrap_or("").trim();
    line.char_indices().nth(160).map_or(line, |(end, _)| &line[..end])
}

struct Parser<'a> {
    tokens: &'a [(Token<'a>, u32)],
    at: usize,
    /// Bytes of initialised and uninitialised variables so far.
    variables: usize,
    /// By scope: its labels, and what tells them from labels of that name in other scopes.
    labels: Vec<HashMap<&'a str, String>>,
}

/// A failure: what was expected and found. Its line is where the parser is.
type Parsed<T> = Result<T, String>;

/// `%r<249>` or a single name: which registers a name may stand for.
struct Family {
    bits: u32,
    /// `None` for a single register, else how many.
    count: Option<u64>,
    /// Number → register, filled as they are used.
    known: HashMap<u64, u32>,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Token<'a> {
        self.tokens[self.at.min(self.tokens.len() - 1)].0
    }

    fn line(&self) -> u32 {
        self.tokens[self.at.min(self.tokens.len() - 1)].1
    }

    fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    fn wrong<T>(&self, expected: &str) -> Parsed<T> {
        Err(format!("expected {expected}, found {}", self.peek()))
    }

    fn has(&mut self, sign: u8) -> bool {
        let is = self.peek() == Token::Sign(sign);
        if is {
            self.next();
        }
        is
    }

    fn sign(&mut self, sign: u8) -> Parsed<()> {
        if self.has(sign) { Ok(()) } else { self.wrong(&format!("`{}`", sign as char)) }
    }

    fn has_word(&mut self, word: &str) -> bool {
        let is = self.peek() == Token::Word(word);
        if is {
            self.next();
        }
        is
    }

    fn word(&mut self, what: &str) -> Parsed<&'a str> {
        let Token::Word(word) = self.peek() else { return self.wrong(what) };
        self.next();
        Ok(word)
    }

    fn unsigned(&mut self) -> Parsed<u64> {
        let Token::Number(text) = self.peek() else { return self.wrong("a number") };
        let Some(Operand::Integer(n)) = number(text) else { return self.wrong("an integer") };
        let Ok(n) = u64::try_from(n) else { return self.wrong("an integer of 64 bits") };
        self.next();
        Ok(n)
    }

    fn small(&mut self) -> Parsed<u32> {
        match u32::try_from(self.unsigned()?) {
            Ok(n) => Ok(n),
            Err(_) => {
                self.at -= 1;
                self.wrong("a number below 2^32")
            }
        }
    }

    /// Numbers with commas between them.
    fn list(&mut self) -> Parsed<Vec<u32>> {
        let mut numbers = vec![self.small()?];
        while self.has(b',') {
            numbers.push(self.small()?);
        }
        Ok(numbers)
    }

    /// Skips `{ … }` with what it holds.
    fn skip_braces(&mut self) -> Parsed<()> {
        self.sign(b'{')?;
        let mut depth = 1;
        while depth > 0 {
            match self.peek() {
                Token::Sign(b'{') => depth += 1,
                Token::Sign(b'}') => depth -= 1,
                Token::End => return self.wrong("`}`"),
                _ => {}
            }
            self.next();
        }
        Ok(())
    }

    fn module(&mut self, mut module: Module) -> Parsed<Module> {
        loop {
            let Token::Word(word) = self.peek() else {
                if self.peek() == Token::End {
                    break;
                }
                return self.wrong("a directive");
            };
            match word {
                ".version" => {
                    self.next();
                    let Token::Number(n) = self.next() else { return self.wrong("a version such as 8.4") };
                    module.version = n.into();
                }
                ".target" => {
                    self.next();
                    module.target = self.word("a target such as sm_80")?.into();
                    while self.has(b',') {
                        self.word("a target option")?;
                    }
                }
                ".address_size" => {
                    self.next();
                    if self.peek() != Token::Number("64") {
                        return self.wrong("64 (only 64-bit addressing is supported)");
                    }
                    self.next();
                }
                ".file" => self.file(&mut module)?,
                ".section" => {
                    self.next();
                    self.word("a section's name")?;
                    self.skip_braces()?;
                }
                ".loc" => drop(self.loc(&[])?),
                ".pragma" => self.pragma()?,
                ".visible" | ".weak" | ".common" => drop(self.next()),
                ".extern" => {
                    self.next();
                    match self.peek() {
                        Token::Word(".func") => self.function()?,
                        Token::Word(".shared") => self.variable(&mut module.variables, true)?,
                        _ => return self.wrong("`.func` or `.shared` (other memory of unknown size is not supported)"),
                    }
                }
                ".func" => self.function()?,
                ".entry" => {
                    if let Some(entry) = self.entry()? {
                        if module.entries.iter().any(|e| e.name == entry.name) {
                            return Err(format!("expected entries of different names, found `{}` twice", entry.name));
                        }
                        module.entries.push(entry);
                    }
                }
                ".global" | ".const" | ".shared" => self.variable(&mut module.variables, false)?,
                _ => return self.wrong("a directive"),
            }
        }
        if module.version.is_empty() || module.target.is_empty() {
            return self.wrong("`.version` and `.target` before it");
        }
        Ok(module)
    }

    /// `.file 1 "kernels/x.cu"[, timestamp, size]`
    fn file(&mut self, module: &mut Module) -> Parsed<()> {
        self.next();
        let index = self.small()?;
        let Token::Text(name) = self.peek() else { return self.wrong("a file's name") };
        self.next();
        while self.has(b',') {
            self.unsigned()?;
        }
        module.files.insert(index, name.into());
        Ok(())
    }

    fn pragma(&mut self) -> Parsed<()> {
        self.next();
        let Token::Text(_) = self.peek() else { return self.wrong("a pragma's text") };
        self.next();
        self.sign(b';')
    }

    /// `.loc 1 12 5, function_name $L__info_string0, inlined_at 1 16 3`. The place it is inlined at was itself named by
    /// an earlier `.loc`, which leads one call further out.
    fn loc(&mut self, before: &[Loc]) -> Parsed<Loc> {
        self.next();
        let mut loc = Loc { at: (self.small()?, self.small()?, self.small()?), inlined: None };
        while self.has(b',') {
            match self.word("`function_name` or `inlined_at`")? {
                "function_name" => {
                    self.word("a label")?;
                    if self.has(b'+') {
                        self.unsigned()?;
                    }
                }
                "inlined_at" => {
                    let place = (self.small()?, self.small()?, self.small()?);
                    // The last few are where it can be; a search through all would be quadratic.
                    let outer = before.iter().rev().take(64).find(|l| l.at == place).and_then(|l| l.inlined);
                    loc.inlined = Some(outer.unwrap_or(place));
                }
                _ => {
                    self.at -= 1;
                    return self.wrong("`function_name` or `inlined_at`");
                }
            }
        }
        Ok(loc)
    }

    /// A device function is skipped: a kernel that calls one is refused at the `call`.
    fn function(&mut self) -> Parsed<()> {
        while !matches!(self.peek(), Token::Sign(b'{' | b';') | Token::End) {
            self.next();
        }
        if self.has(b';') { Ok(()) } else { self.skip_braces() }
    }

    /// `.shared .align 16 .b8 tile[4096];`, `.global .align 4 .u32 table[4] = {1, 2, 3, 4};`
    /// and, where its size is the launch's, `.extern .shared .align 1024 .b8 stages[];`
    fn variable(&mut self, variables: &mut Vec<Variable>, dynamic: bool) -> Parsed<()> {
        let space = match self.word("a state space")? {
            ".global" => Space::Global,
            ".const" => Space::Const,
            ".shared" => Space::Shared,
            ".local" => Space::Local,
            _ => return Err("expected `.global`, `.const`, `.shared` or `.local`".into()),
        };
        let align = self.alignment()?;
        let lanes = if self.has_word(".v2") {
            2
        } else if self.has_word(".v4") {
            4
        } else {
            1
        };
        let (element, _) = self.scalar_type()?;
        loop {
            let line = self.line();
            let name = self.word("a variable's name")?.to_string();
            if dynamic {
                self.sign(b'[')?;
                self.sign(b']')?;
            }
            let dimensions = if dynamic { Some(0) } else { self.dimensions()? };
            let size = dimensions.unwrap_or(1).checked_mul(element * lanes).filter(|&n| n <= LARGEST_VARIABLE);
            let Some(size) = size else { return Err(format!("expected a variable of at most {LARGEST_VARIABLE} bytes, found `{name}` larger")) };
            self.variables += size;
            if self.variables > 4 * LARGEST_VARIABLE {
                return Err(format!("expected variables of at most {} bytes in all, found more", 4 * LARGEST_VARIABLE));
            }
            let data = if self.has(b'=') { self.initialiser(element, size)? } else { Vec::new() };
            variables.push(Variable { name, space, size, align: align.unwrap_or(element * lanes), data, dynamic, line });
            if !self.has(b',') {
                break;
            }
        }
        self.sign(b';')
    }

    fn alignment(&mut self) -> Parsed<Option<usize>> {
        if !self.has_word(".align") {
            return Ok(None);
        }
        let align = self.unsigned()? as usize;
        if align.is_power_of_two() && align <= 1 << 20 { Ok(Some(align)) } else { Err(format!("expected an alignment that is a power of two, found {align}")) }
    }

    /// `[4][8]`: the product; `None` without brackets.
    fn dimensions(&mut self) -> Parsed<Option<usize>> {
        let mut product = None;
        while self.has(b'[') {
            let n = self.unsigned()? as usize;
            product = Some(product.unwrap_or(1usize).saturating_mul(n));
            self.sign(b']')?;
        }
        Ok(product)
    }

    fn initialiser(&mut self, element: usize, size: usize) -> Parsed<Vec<u8>> {
        let mut data = Vec::new();
        let mut depth = 0u32;
        loop {
            while self.has(b'{') {
                depth += 1;
            }
            let negative = self.has(b'-');
            let Token::Number(text) = self.peek() else { return self.wrong("a number") };
            let bits = match number(text) {
                Some(Operand::Integer(n)) => (if negative { -n } else { n }) as u64,
                Some(Operand::F32(bits)) if element == 4 => bits as u64,
                Some(Operand::F64(bits)) if element == 8 => bits,
                _ => return self.wrong(&format!("a number of {element} bytes")),
            };
            self.next();
            if data.len() + element > size {
                return Err(format!("expected at most {size} bytes of data, found more"));
            }
            data.extend_from_slice(&bits.to_le_bytes()[..element]);
            while depth > 0 && self.has(b'}') {
                depth -= 1;
            }
            if depth == 0 {
                return Ok(data);
            }
            self.sign(b',')?;
        }
    }

    /// `.f32` → (4 bytes, 32-bit register); `.pred` → (0, 1).
    fn scalar_type(&mut self) -> Parsed<(usize, u32)> {
        let Token::Word(word) = self.peek() else { return self.wrong("a type") };
        let found = match word {
            ".b8" | ".u8" | ".s8" => (1, 16),
            ".b16" | ".u16" | ".s16" | ".f16" | ".bf16" => (2, 16),
            ".b32" | ".u32" | ".s32" | ".f32" | ".f16x2" | ".bf16x2" => (4, 32),
            ".b64" | ".u64" | ".s64" | ".f64" => (8, 64),
            ".pred" => (0, 1),
            _ => return self.wrong("a type"),
        };
        self.next();
        Ok(found)
    }

    /// An entry; `None` for a declaration without a body.
    fn entry(&mut self) -> Parsed<Option<Entry>> {
        let mut entry = Entry { line: self.line(), ..Entry::default() };
        self.next();
        entry.name = self.word("a kernel's name")?.into();
        if self.has(b'(') && !self.has(b')') {
            loop {
                self.param(&mut entry.params)?;
                if !self.has(b',') {
                    break;
                }
            }
            self.sign(b')')?;
        }
        loop {
            match self.peek() {
                Token::Word(word @ (".maxntid" | ".reqntid")) => {
                    self.next();
                    let mut n = self.list()?;
                    n.resize(3.max(n.len()), 1);
                    let [x, y, z] = n[..] else { return self.wrong("at most three numbers before") };
                    entry.max_threads = Some([x, y, z]);
                    entry.exact_threads |= word == ".reqntid";
                }
                Token::Word(".minnctapersm") => {
                    self.next();
                    entry.min_blocks = Some(self.small()?);
                }
                Token::Word(".maxnreg" | ".maxnctapersm" | ".maxclusterrank") => {
                    self.next();
                    self.small()?;
                }
                Token::Word(".explicitcluster") => drop(self.next()),
                Token::Word(".reqnctapercluster") => {
                    self.next();
                    let mut n = self.list()?;
                    n.resize(3.max(n.len()), 1);
                    let [x, y, z] = n[..] else { return self.wrong("at most three numbers before") };
                    entry.cluster = Some([x, y, z]);
                }
                Token::Word(".pragma") => self.pragma()?,
                Token::Sign(b';') => {
                    self.next();
                    return Ok(None);
                }
                Token::Sign(b'{') => break,
                _ => return self.wrong("`{`"),
            }
        }
        self.body(&mut entry)?;
        for label in entry.targets.values().flatten() {
            if !entry.labels.contains_key(label) {
                return Err(format!("expected labels in `.branchtargets`, found `{label}`, which is none"));
            }
        }
        Ok(Some(entry))
    }

    /// `.param .u64 x`, `.param .align 4 .b8 d[8]`, `.param .u64 .ptr .global .align 16 x`
    fn param(&mut self, params: &mut Vec<Param>) -> Parsed<()> {
        if !self.has_word(".param") {
            return self.wrong("`.param`");
        }
        let align = self.alignment()?;
        let (element, bits) = self.scalar_type()?;
        if self.has_word(".ptr") {
            while let Token::Word(".global" | ".shared" | ".local" | ".const") = self.peek() {
                self.next();
            }
            self.alignment()?;
        }
        let name = self.word("a parameter's name")?.to_string();
        let count = self.dimensions()?;
        let Some(size) = count.unwrap_or(1).checked_mul(element).filter(|&n| n <= 1 << 15) else {
            return Err(format!("expected parameters of at most 32764 bytes, found `{name}` larger"));
        };
        let kind = if bits == 64 && count.is_none() { ParamKind::Pointer } else { ParamKind::Bytes };
        let align = align.unwrap_or(element).max(1);
        let offset = params.last().map_or(0, |p| p.offset + p.size).next_multiple_of(align);
        if offset + size > 1 << 16 {
            return Err("expected parameters of at most 32764 bytes in all, found more".into());
        }
        params.push(Param { name, kind, size, align, offset });
        Ok(())
    }

    fn body(&mut self, entry: &mut Entry) -> Parsed<()> {
        let mut scopes: Vec<HashMap<&'a str, Family>> = Vec::new();
        let mut loc = None;
        let mut label: Option<String> = None;
        self.labels.clear();
        loop {
            match self.peek() {
                Token::Sign(b'{') => {
                    if scopes.len() == DEEPEST {
                        return Err(format!("expected scopes nested at most {DEEPEST} deep, found more"));
                    }
                    self.next();
                    scopes.push(HashMap::new());
                    self.scope();
                }
                Token::Sign(b'}') => {
                    self.next();
                    scopes.pop();
                    self.labels.pop();
                    if scopes.is_empty() {
                        return Ok(());
                    }
                }
                Token::Sign(b';') => drop(self.next()),
                Token::Word(".loc") => {
                    let found = self.loc(&entry.locs)?;
                    if entry.locs.last() != Some(&found) {
                        entry.locs.push(found);
                    }
                    loc = Some(entry.locs.len() as u32 - 1);
                }
                Token::Word(".reg") => {
                    self.next();
                    self.registers(scopes.last_mut().expect("a body starts with a brace"))?;
                }
                Token::Word(".shared" | ".local") => self.variable(&mut entry.variables, false)?,
                Token::Word(".pragma") => self.pragma()?,
                Token::Word(".branchtargets") => {
                    let Some(name) = label.clone() else { return self.wrong("a label before `.branchtargets`") };
                    self.next();
                    let mut list = Vec::new();
                    loop {
                        let target = self.word("a label")?;
                        list.push(self.label(target));
                        if !self.has(b',') {
                            break;
                        }
                    }
                    self.sign(b';')?;
                    entry.targets.insert(name, list);
                }
                Token::Word(word) if matches!(self.tokens.get(self.at + 1), Some((Token::Sign(b':'), _))) => {
                    let name = self.label(word);
                    if entry.labels.insert(name.clone(), entry.instructions.len()).is_some() {
                        return Err(format!("expected labels of different names, found `{word}` twice"));
                    }
                    self.next();
                    self.next();
                    label = Some(name);
                }
                Token::Word(_) | Token::Sign(b'@') => {
                    let mut instruction = self.instruction(&mut scopes, &mut entry.registers)?;
                    instruction.loc = loc;
                    entry.instructions.push(instruction);
                }
                _ => return self.wrong("an instruction"),
            }
        }
    }

    /// Looks ahead for the labels of the scope that starts here: each inlined copy of an `asm` statement has its own.
    fn scope(&mut self) {
        let (mut labels, mut depth) = (HashMap::new(), 1);
        for (i, pair) in self.tokens.windows(2).enumerate().skip(self.at) {
            match (pair[0].0, pair[1].0) {
                (Token::Sign(b'{'), _) => depth += 1,
                (Token::Sign(b'}'), _) => depth -= 1,
                (Token::Word(word), Token::Sign(b':')) if depth == 1 => {
                    let name = if self.labels.is_empty() { word.to_string() } else { format!("{word}@{i}") };
                    labels.entry(word).or_insert(name);
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
        self.labels.push(labels);
    }

    /// The label that a name means here; the name itself if there is none.
    fn label(&self, name: &str) -> String {
        self.labels.iter().rev().find_map(|l| l.get(name)).cloned().unwrap_or_else(|| name.into())
    }

    /// `.reg .b32 %r<249>;`, `.reg .pred p, q;`
    fn registers(&mut self, scope: &mut HashMap<&'a str, Family>) -> Parsed<()> {
        let (_, bits) = self.scalar_type()?;
        loop {
            let name = self.word("a register's name")?;
            let count = if self.has(b'<') {
                let n = self.unsigned()?;
                self.sign(b'>')?;
                Some(n)
            } else {
                None
            };
            scope.insert(name, Family { bits, count, known: HashMap::new() });
            if !self.has(b',') {
                break;
            }
        }
        self.sign(b';')
    }

    fn instruction(&mut self, scopes: &mut [HashMap<&'a str, Family>], registers: &mut Vec<Register>) -> Parsed<Instruction> {
        let line = self.line();
        let guard = if self.has(b'@') {
            let not = self.has(b'!');
            let name = self.word("a predicate")?;
            let Some(register) = find(name, scopes, registers) else {
                self.at -= 1;
                return self.wrong("a declared predicate");
            };
            Some((not, register))
        } else {
            None
        };
        let opcode = self.word("an instruction")?.to_string();
        let mut operands = Vec::new();
        if !self.has(b';') {
            loop {
                operands.push(self.operand(scopes, registers)?);
                if self.has(b';') {
                    break;
                }
                if !self.has(b',') {
                    return self.wrong("`,` or `;`");
                }
            }
        }
        Ok(Instruction { line, loc: None, guard, opcode, operands })
    }

    fn operand(&mut self, scopes: &mut [HashMap<&'a str, Family>], registers: &mut Vec<Register>) -> Parsed<Operand> {
        if self.has(b'{') {
            let mut parts = Vec::new();
            loop {
                parts.push(self.simple(scopes, registers)?);
                if self.has(b'}') {
                    return Ok(Operand::Vector(parts));
                }
                self.sign(b',')?;
            }
        }
        if self.has(b'[') {
            let base = self.simple(scopes, registers)?;
            if self.has(b',') {
                self.sign(b'{')?;
                let mut parts = Vec::new();
                loop {
                    parts.push(self.simple(scopes, registers)?);
                    if self.has(b'}') {
                        break;
                    }
                    self.sign(b',')?;
                }
                self.sign(b']')?;
                return Ok(Operand::Tensor(Box::new(base), parts));
            }
            let offset = match self.peek() {
                Token::Sign(sign @ (b'+' | b'-')) => {
                    self.next();
                    let negative = self.has(b'-') != (sign == b'-');
                    let n = self.unsigned()? as i64;
                    if negative { n.wrapping_neg() } else { n }
                }
                _ => 0,
            };
            self.sign(b']')?;
            return Ok(Operand::Address(Box::new(base), offset));
        }
        self.simple(scopes, registers)
    }

    fn simple(&mut self, scopes: &mut [HashMap<&'a str, Family>], registers: &mut Vec<Register>) -> Parsed<Operand> {
        match self.peek() {
            Token::Word("_") => {
                self.next();
                if !self.has(b'|') {
                    return Ok(Operand::Sink);
                }
                let second = self.word("a predicate")?;
                find(second, scopes, registers).map(Operand::Second).ok_or_else(|| format!("expected a declared predicate, found `{second}`"))
            }
            Token::Word(word) => {
                self.next();
                let Some(register) = find(word, scopes, registers) else { return Ok(Operand::Symbol(self.label(word))) };
                if !self.has(b'|') {
                    return Ok(Operand::Register(register));
                }
                if self.has_word("_") {
                    return Ok(Operand::Pair(register, None));
                }
                let second = self.word("a predicate")?;
                match find(second, scopes, registers) {
                    Some(second) => Ok(Operand::Pair(register, Some(second))),
                    None => Err(format!("expected a declared register, found `{second}`")),
                }
            }
            Token::Sign(b'!') => {
                self.next();
                let word = self.word("a predicate")?;
                find(word, scopes, registers).map(Operand::Not).ok_or_else(|| format!("expected a declared predicate, found `{word}`"))
            }
            Token::Sign(b'-') => {
                self.next();
                let Token::Number(text) = self.peek() else { return self.wrong("a number") };
                let found = match number(text) {
                    Some(Operand::Integer(n)) => Operand::Integer(-n),
                    Some(Operand::F32(bits)) => Operand::F32(bits ^ 1 << 31),
                    Some(Operand::F64(bits)) => Operand::F64(bits ^ 1 << 63),
                    _ => return self.wrong("a number"),
                };
                self.next();
                Ok(found)
            }
            Token::Number(text) => match number(text) {
                Some(found) => {
                    self.next();
                    Ok(found)
                }
                None => self.wrong("a number of at most 64 bits"),
            },
            _ => self.wrong("an operand"),
        }
    }
}

/// The register that `name` stands for in the innermost scope that declares it.
fn find(name: &str, scopes: &mut [HashMap<&str, Family>], registers: &mut Vec<Register>) -> Option<u32> {
    let digits = name.len() - name.bytes().rev().take_while(u8::is_ascii_digit).count();
    let (prefix, digits) = name.split_at(digits);
    for scope in scopes.iter_mut().rev() {
        let (family, index) = match scope.get(name) {
            Some(family) if family.count.is_none() => (name, 0),
            _ => match digits.parse::<u64>() {
                Ok(index) if (digits == "0" || !digits.starts_with('0')) && scope.get(prefix).is_some_and(|f| f.count.is_some_and(|n| index < n)) => {
                    (prefix, index)
                }
                _ => continue,
            },
        };
        let family = scope.get_mut(family)?;
        let bits = family.bits;
        return Some(*family.known.entry(index).or_insert_with(|| {
            registers.push(Register { name: name.into(), bits });
            registers.len() as u32 - 1
        }));
    }
    None
}

/// A PTX constant: decimal, `0x`, `0b`, octal, `0f` and `0d` bit patterns, decimal fractions.
fn number(text: &str) -> Option<Operand> {
    let lower = text.to_ascii_lowercase();
    if let Some(bits) = lower.strip_prefix("0f").filter(|b| b.len() == 8) {
        return u32::from_str_radix(bits, 16).ok().map(Operand::F32);
    }
    if let Some(bits) = lower.strip_prefix("0d").filter(|b| b.len() == 16) {
        return u64::from_str_radix(bits, 16).ok().map(Operand::F64);
    }
    if lower.contains('.') {
        return lower.parse::<f64>().ok().map(|v| Operand::F64(v.to_bits()));
    }
    let digits = lower.strip_suffix('u').unwrap_or(&lower);
    let (digits, radix) = match digits.get(..2) {
        Some("0x") => (&digits[2..], 16),
        Some("0b") => (&digits[2..], 2),
        _ if digits.len() > 1 && digits.starts_with('0') => (&digits[1..], 8),
        _ => (digits, 10),
    };
    if digits.starts_with('+') {
        return None;
    }
    u64::from_str_radix(digits, radix).ok().map(|n| Operand::Integer(n.into()))
}
