//! Golden vectors: calls of the operations as files, so that those who copied a kernel can test the copy in any engine and language.
//!
//! A golden case is one [`Case`](crate::ops::case::Case), written down as the launches that it makes on named buffers, with what is
//! in the buffers before the first launch, what the f64 oracle expects there after the last, and how far from it a result may
//! be. A loop of twenty lines replays it (`examples/vendor_wgpu.rs`, `examples/vendor_cudarc.rs`, `examples/vendor_python/`).
//! `README.txt`, in every folder of golden vectors, says what is in the files.
//!
//! No device is needed to write them: the launches are recorded ([`crate::device::dry`]), not run. Which cases are taken: [`plan`].
//!
//! Allowances are those of [`crate::check`], as `absolute + relative · |expected|`. Where `check` counts in units in the last place,
//! `n` ulp of an f32 become `n · 2⁻²³ · |expected| + n · 2⁻¹⁴⁹`, of a bf16 `n · 2⁻⁷ · |expected|`: at most twice as much, because
//! a number is less than twice the power of two that its ulp belongs to. All other allowances are the same.
//!
//! The same build on the same machine writes the same bytes. Another machine may differ in the last bits of an expectation: f64 sums
//! in vector registers of another width.

mod case;
mod choice;

pub use choice::{EXCEPTIONS, Plan, plan};

use crate::device::Language;
use crate::error::{Error, Result};
use crate::files::temporary::Temporary;
use crate::files::write_file_atomic;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

/// The version of the format: it changes when readers of these files have to change.
pub const FORMAT: u32 = 1;
/// The index of a folder.
pub const INDEX: &str = "golden.json";
/// What the folder is, for people.
const README: &str = include_str!("README.txt");

/// What is in a folder: `golden.json`.
#[derive(Serialize, Debug)]
pub struct Index {
    /// [`FORMAT`].
    pub format: u32,
    /// The version of the crate that wrote it.
    pub trimodal: &'static str,
    /// `wgsl` or `ptx`.
    pub language: &'static str,
    /// The cases, in the order of the operations.
    pub cases: Vec<Listed>,
}

/// A case of an [`Index`].
#[derive(Serialize, Debug)]
pub struct Listed {
    /// The file, in the folder.
    pub file: String,
    /// The operation.
    pub op: &'static str,
    /// Its entry and rung, as `trimodal check` names them: `forward:naive`.
    pub case: &'static str,
    /// The sizes, for people.
    pub label: String,
    /// The kernels that it launches: `rms_norm.forward`, of PTX the compiled ones (`rms_norm.forward_bf16`), those of `kernels/hopper/`
    /// as `hopper/matmul.wgmma_nt_bf16`.
    pub entries: Vec<String>,
    /// PTX: `sm_90a` where it launches a kernel that runs on GPUs of compute capability 9.0 and on no others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needs: Option<&'static str>,
    /// The file's size.
    pub bytes: u64,
}

/// The name of a language in files and on the command line.
pub fn language_name(language: Language) -> &'static str {
    match language {
        Language::Wgsl => "wgsl",
        Language::Ptx => "ptx",
    }
}

/// Refuses a folder that exists and is not empty, unless it may be replaced: with `force`, if it holds golden vectors and so is ours.
///
/// # Errors
/// [`Error::File`] that says why the folder is left as it is.
pub fn expect_free(folder: &Path, force: bool) -> Result<()> {
    expect_free_or_ours(folder, INDEX, force, "already holds golden vectors: --force replaces the whole folder")
}

/// The same for a folder that is ours where it holds a file called `marker`; `taken` is the message for one that is, without `force`.
pub(crate) fn expect_free_or_ours(folder: &Path, marker: &str, force: bool, taken: &str) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    let empty = fs::read_dir(folder).map_err(Error::io(folder, "read"))?.next().is_none();
    match (empty, folder.join(marker).exists(), force) {
        (true, ..) | (false, true, true) => Ok(()),
        (false, true, false) => Err(Error::file(folder, taken)),
        (false, false, _) => Err(Error::file(folder, format!("is not empty and has no {marker}: it was left as it is; give a new folder"))),
    }
}

/// SHA-256 in hexadecimal.
pub(crate) fn sha256(bytes: impl AsRef<[u8]>) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes the golden vectors of a plan into `folder`, which appears (or, with `force`, is replaced) when all of it is written.
/// `progress` is told how many cases are done, and may stop it.
///
/// # Errors
/// Those of [`expect_free`]; [`Error::Usage`] where `progress` said stop; [`Error::Io`] where the system refuses.
pub fn write(plan: &Plan, folder: &Path, force: bool, progress: &mut dyn FnMut(usize) -> ControlFlow<()>) -> Result<Index> {
    expect_free(folder, force)?;
    let parent = folder.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(Error::io(parent, "create"))?;
    let name = folder.file_name().ok_or_else(|| Error::file(folder, "this is not the name of a folder"))?.to_string_lossy().into_owned();
    // Dropped, and so removed, on every error.
    let workshop = tempfile::Builder::new().prefix(&format!(".{name}-")).tempdir_in(parent).map_err(Error::io(parent, "write in"))?;
    let _held = Temporary::hold(workshop.path());
    let new = workshop.path().join("new");
    fs::create_dir(&new).map_err(Error::io(&new, "create"))?;

    let index = fill(plan, &new, folder, progress)?;
    if folder.exists() {
        let old = workshop.path().join("old");
        fs::rename(folder, &old).map_err(Error::io(folder, "replace"))?;
    }
    fs::rename(&new, folder).map_err(Error::io(folder, "create"))?;
    Ok(index)
}

/// Writes them into the folder `new`, which exists and is empty; `folder` is what messages call it.
pub(crate) fn fill(plan: &Plan, new: &Path, folder: &Path, progress: &mut dyn FnMut(usize) -> ControlFlow<()>) -> Result<Index> {
    let mut index = Index { format: FORMAT, trimodal: env!("CARGO_PKG_VERSION"), language: language_name(plan.language), cases: Vec::new() };
    let mut hashes = case::Hashes::new();
    for (done, planned) in plan.cases.iter().enumerate() {
        let path = new.join(&planned.file);
        let of_op = path.parent().expect("a case lies in its operation's folder");
        fs::create_dir_all(of_op).map_err(Error::io(of_op, "create"))?;
        case::write(plan.language, planned, &path, &mut hashes)?;
        index.cases.push(Listed {
            file: planned.file.clone(),
            op: planned.op,
            case: planned.case.entry,
            label: planned.label(),
            entries: planned.entries.clone(),
            needs: planned.needs,
            bytes: fs::metadata(&path).map_err(Error::io(&path, "read"))?.len(),
        });
        if progress(done + 1).is_break() {
            return Err(Error::Usage(format!("stopped; {} is unchanged", folder.display())));
        }
    }
    write_file_atomic(&new.join("README.txt"), README)?;
    write_file_atomic(&new.join(INDEX), serde_json::to_string_pretty(&index).expect("strings and numbers") + "\n")?;
    Ok(index)
}
