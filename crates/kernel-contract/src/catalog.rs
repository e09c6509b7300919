//! `kernels.json`: the contract of every entry of every file, for machines. `tests/manifest.rs` writes it from the headers and from
//! what naga and the PTX say, and fails where it has gone stale; `docs/kernels.schema.json` describes it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the format: it changes when a reader of the old one would be misled.
pub const FORMAT: u32 = 1;

/// All of `kernels.json`, or the part of it that was vendored.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Catalog {
    /// Where the schema is: `docs/kernels.schema.json`.
    #[serde(rename = "$schema", default, skip_serializing_if = "String::is_empty")]
    pub schema: String,
    /// [`FORMAT`].
    pub format: u32,
    /// The version of the crate.
    pub trimodal: String,
    /// A record for every `.wgsl` and every `.cu` with its PTX.
    pub files: Vec<File>,
}

/// A file of kernels.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct File {
    /// Its path in the repository.
    pub file: String,
    /// The stem: the operation.
    pub op: String,
    /// `wgsl` or `cuda`.
    pub language: String,
    /// The version of its ABI: see `CHANGELOG.md`.
    pub version: String,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
    /// What it is compiled to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compiled: Option<Compiled>,
    /// Files that it includes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub includes: Vec<Included>,
    /// What it computes.
    pub formula: String,
    /// The gradient's derivation.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub backward: String,
    /// What it requires of sizes, and its traffic.
    pub limits: String,
    /// The part of this that can be checked, as comparisons of dims.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<String>,
    /// What the elements of every buffer must stay below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elements_below: Option<u64>,
    /// How it rounds.
    pub precision: Precision,
    /// What the device must have.
    pub requires: Requires,
    /// The letters of the header, in fields of `dims`.
    pub names: BTreeMap<String, String>,
    /// The scalars.
    pub dims: Dims,
    /// `const` lines that may be overridden.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constants: Vec<Constant>,
    /// Which of their values go together.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub constants_rule: String,
    /// The entries.
    pub entries: Vec<Entry>,
}

/// The PTX of a CUDA file.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Compiled {
    /// Its path in the repository.
    pub file: String,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
    /// `.target`: `sm_80`.
    pub target: String,
    /// `.version`: the PTX ISA that a driver must know.
    pub isa: String,
}

/// A file that another includes.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Included {
    /// Its path in the repository.
    pub file: String,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
}

/// How results are rounded.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Precision {
    /// The type of sums.
    pub accumulation: String,
    /// Whether every run on one device gives the same bits.
    pub deterministic: bool,
    /// More, in words.
    pub text: String,
}

/// What a device must have.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(untagged)]
pub enum Requires {
    /// For a shader: WebGPU with its default limits, and these features.
    Wgsl {
        /// `WebGPU`.
        api: String,
        /// Optional features: none of our shaders needs one.
        features: Vec<String>,
        /// The most storage buffers that an entry binds.
        storage_buffers: u32,
    },
    /// For PTX.
    Cuda {
        /// `8.0 and later`, `9.0`.
        compute_capability: String,
        /// The oldest driver that knows the ISA, by its CUDA version.
        driver: String,
    },
}

/// The scalars of a file, as they are in memory: 4 bytes each, little-endian.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Dims {
    /// `uniform` (the last binding) or `by value` (the last argument).
    pub passed: String,
    /// Their size, a multiple of 16.
    pub bytes: u32,
    /// The fields, in order.
    pub fields: Vec<Field>,
}

/// A scalar.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// `u32` or `f32`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its offset, in bytes.
    pub offset: u32,
    /// What it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// Where its value comes from.
    #[serde(default)]
    pub from: Source,
    /// The value: `x[0]`, the size of an operand's axis; an expression of other fields, constants and `element_bytes`. Of an option: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Where it is another, in words, and which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<Elsewhere>,
    /// What it may be, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub range: String,
}

/// Where the value of a field comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// It is a size of an operand.
    Size,
    /// It follows from other fields.
    Formula,
    /// It is free, and decides how fast the kernel is; `value` is what the crate takes.
    Choice,
    /// It is what the caller wants.
    #[default]
    Option,
    /// It is 0, and fills the struct up.
    Padding,
}

/// Another value of a field.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Elsewhere {
    /// Where it holds, in words.
    pub place: String,
    /// The value.
    pub value: String,
}

/// A constant that may be overridden.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Constant {
    /// Its name.
    pub name: String,
    /// What the file says.
    pub default: u32,
    /// What it may be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<u32>,
    /// Or the least and the most that it may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<[u32; 2]>,
    /// The field of `dims` that must have the same value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<String>,
    /// What it is a multiple of, an expression of constants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multiple_of: Option<String>,
}

/// An entry point: of CUDA, each compiled variant is one.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// What it computes.
    pub what: String,
    /// What a block does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// What it requires of sizes besides the file's checks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<String>,
    /// Threads of a block (workgroup), an expression of constants.
    pub block: String,
    /// Blocks (workgroups), an expression of dims, constants and `multiprocessors`.
    pub grid: String,
    /// What else it says about the grid.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub grid_note: String,
    /// Bytes of static shared (workgroup) memory, an expression of constants.
    pub shared: String,
    /// Bytes of dynamic shared memory to ask for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dynamic_shared: u32,
    /// Blocks of a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<u32>,
    /// Registers per thread, as ptxas says for the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registers: Option<u32>,
    /// The buffers, in the order of their bindings or arguments; `dims` comes last.
    pub buffers: Vec<Buffer>,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// A buffer of an entry.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Buffer {
    /// Its name.
    pub name: String,
    /// Its sizes, expressions of dims.
    pub shape: Vec<String>,
    /// `f32`, `bf16`, `i32`, `u32`, `u8`.
    pub dtype: String,
    /// `read`, `overwrite`, `accumulate` or `update`.
    pub access: String,
    /// Where it begins in the bound buffer, in elements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Other shapes and dtypes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<Alternative>,
    /// Where this does not hold, nothing is bound (WGSL: 16 zero bytes; CUDA: a null pointer).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_if: Option<String>,
    /// Where this holds, an overwritten buffer is added to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accumulate_if: Option<String>,
    /// The box of the tensor map that is passed for it (Hopper).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tensor_map: Option<String>,
    /// Whether elements are left as they are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// More, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

impl Buffer {
    /// Its shape in a launch in which names have these values.
    pub fn shape_in(&self, value: &impl Fn(&str) -> Option<u64>) -> &[String] {
        self.holding(value).find_map(|other| other.shape.as_deref()).unwrap_or(&self.shape)
    }

    /// Its dtype in such a launch.
    pub fn dtype_in(&self, value: &impl Fn(&str) -> Option<u64>) -> &str {
        self.holding(value).find_map(|other| other.dtype.as_deref()).unwrap_or(&self.dtype)
    }

    fn holding(&self, value: &impl Fn(&str) -> Option<u64>) -> impl Iterator<Item = &Alternative> {
        self.alternatives.iter().filter(|other| value(&other.name).is_some_and(|v| other.values.contains(&(v as u32))))
    }
}

/// Another shape or dtype of a buffer.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Alternative {
    /// The constant or field of dims that decides.
    pub name: String,
    /// Its values with which this holds.
    pub values: Vec<u32>,
    /// The shape then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Vec<String>>,
    /// The dtype then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<String>,
}

impl Catalog {
    /// The record of a file: `shaders/rope.wgsl`, `kernels/rope.cu` or `kernels/ptx/sm_80/rope.ptx`.
    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|f| f.file == path || f.compiled.as_ref().is_some_and(|c| c.file == path))
    }
}

impl File {
    /// An entry by its name.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.name == name)
    }

    /// What the names in this file's expressions stand for in a launch: fields of `dims` from its bytes, constants as they are
    /// overridden, else as the file has them.
    pub fn value(&self, name: &str, dims: &[u8], constants: &[(&str, u32)]) -> Option<u64> {
        if let Some(field) = self.dims.fields.iter().find(|f| f.name == name) {
            let bytes = dims.get(field.offset as usize..field.offset as usize + 4)?;
            return Some(u32::from_le_bytes(bytes.try_into().expect("four bytes")) as u64);
        }
        let overridden = constants.iter().find(|c| c.0 == name).map(|c| c.1);
        overridden.or_else(|| self.constants.iter().find(|c| c.name == name).map(|c| c.default)).map(u64::from)
    }
}
