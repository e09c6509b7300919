//! A kernel for another engine: its files, its part of `kernels.json`, the licences, golden vectors with a self-test, and SHA-256 of all.
//!
//! Files keep the paths that they have here, so that the names in golden vectors and manifest are found. [`verify`] says later what has been
//! changed since then, and which kernels are newer in this version of the crate.

mod readme;
mod self_test;
pub mod snippet;

use crate::contract;
use crate::contract::catalog::{Catalog, Entry, File};
use crate::device::ptx::{self, Compiled};
use crate::device::shader::Shader;
use crate::error::{Error, Result};
use crate::files::temporary::Temporary;
use crate::files::write_file_atomic;
use crate::golden::{self, sha256};
use crate::ops::{self, OPS};
use serde::Serialize;
use serde_json::Value;
use snippet::{Call, Host};
use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

/// The list of hashes, as `sha256sum --check` reads it.
pub const SUMS: &str = "SHA256SUMS";

/// How the folder begins in which a copy is made.
const WORKSHOP: &str = ".trimodal-vendor-";

/// The one header that kernels in `kernels/hopper/` include.
const HOPPER_HEADER: (&str, &str) = ("kernels/hopper/hopper.cuh", include_str!("../../kernels/hopper/hopper.cuh"));

const LICENCES: [(&str, &str); 2] = [("LICENSE-MIT", include_str!("../../LICENSE-MIT")), ("LICENSE-APACHE", include_str!("../../LICENSE-APACHE"))];

/// What is copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Language {
    /// `shaders/*.wgsl`
    Wgsl,
    /// `kernels/*.cu` and `kernels/hopper/*.cu` with their header, and the PTX that they are compiled to.
    Cuda,
    /// The PTX alone.
    Ptx,
}

impl Language {
    /// What `--lang` calls it.
    fn name(self) -> &'static str {
        match self {
            Language::Wgsl => "wgsl",
            Language::Cuda => "cuda",
            Language::Ptx => "ptx",
        }
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The operation, or `all`.
    pub op: &'a str,
    /// What is copied.
    pub language: Language,
    /// From where the file with the launch launches.
    pub host: Host,
    /// The entry that it launches: the first, if none.
    pub entry: Option<&'a str>,
}

/// A folder as it was written.
#[derive(Debug, Serialize)]
pub struct Copied {
    /// Its files, in the order of [`SUMS`], which has them all.
    pub files: Vec<Sum>,
    /// How many golden vectors are among them.
    pub golden: usize,
    /// The entry that is launched as an example.
    pub entry: String,
    /// The file that launches it.
    pub launch: String,
}

/// A file and its hash.
#[derive(Debug, Serialize)]
pub struct Sum {
    /// The path in the folder.
    pub file: String,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
}

/// The part of the manifest that an operation is: all of its [`files`](crate::ops::Op::files), for Hopper too.
///
/// # Errors
/// [`Error::Usage`] with the names of the operations, where it is not one of them (or `all`).
pub fn part(op: &str, language: Language) -> Result<Catalog> {
    if op != "all" && OPS.iter().all(|o| o.name != op) {
        return Err(ops::unknown(op, Some("or all")));
    }
    let of_op = |file: &File| ops::of_file(&file.op).is_some_and(|o| op == "all" || op == o.name);
    let wanted = if language == Language::Wgsl { "wgsl" } else { "cuda" };
    let whole = contract::shipped();
    Ok(Catalog { files: whole.files.iter().filter(|f| f.language == wanted && of_op(f)).cloned().collect(), schema: String::new(), ..whole.clone() })
}

/// The text of a file of this crate, by its path in the repository.
fn source(path: &str) -> Option<&'static str> {
    if path == HOPPER_HEADER.0 {
        return Some(HOPPER_HEADER.1);
    }
    let stem = path.rsplit('/').next()?.split('.').next()?;
    if path.starts_with("shaders/") {
        return Shader::find(stem).map(|s| s.source);
    }
    let compiled = |found: &&Compiled| {
        found.file == path || found.stem == stem && path.ends_with(".cu") && (found.architecture == "sm_90a") == path.starts_with("kernels/hopper/")
    };
    ptx::COMPILED.iter().find(compiled).map(|c| if path.ends_with(".cu") { c.source } else { c.text() })
}

/// The entry of this name, or the first, and its file.
///
/// # Errors
/// [`Error::Usage`] with the names of the entries.
pub fn chosen<'a>(part: &'a Catalog, entry: Option<&str>) -> Result<(&'a File, &'a Entry)> {
    let mut all = part.files.iter().flat_map(|file| file.entries.iter().map(move |entry| (file, entry)));
    let Some(name) = entry else { return Ok(all.next().expect("a file has entries")) };
    all.find(|(_, entry)| entry.name == name).ok_or_else(|| {
        let names: Vec<&str> = part.files.iter().flat_map(|f| f.entries.iter().map(|e| e.name.as_str())).collect();
        Error::Usage(format!("no entry {name:?}: expected one of {}", names.join(", ")))
    })
}

/// Copies an operation (or all of them) into `folder`. A folder that holds anything is refused, unless `force` says that an earlier copy
/// may be replaced. `progress` is told how many golden vectors of how many are done, and may stop it: the folder is then as it was.
///
/// # Errors
/// [`Error::Usage`] for an unknown operation and where `progress` said stop, [`Error::File`] for a folder that is in use, [`Error::Io`]
/// where the system refuses.
pub fn copy(request: &Request, folder: &Path, force: bool, progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>) -> Result<Copied> {
    let part = part(request.op, request.language)?;
    chosen(&part, request.entry)?;
    remove_leftovers(folder)?;
    let taken = "already holds vendored kernels: --verify says what was changed in them, --force replaces them";
    golden::expect_free_or_ours(folder, SUMS, force, taken)?;
    fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
    // Everything is written beside what is there, and moved when it is whole. In the folder itself: it may be a disk of its own.
    let copied = tempfile::Builder::new().prefix(WORKSHOP).tempdir_in(folder).map_err(Error::io(folder, "write in")).and_then(|workshop| {
        let _held = Temporary::hold(workshop.path());
        let copied = write(&part, request, workshop.path(), folder, progress)?;
        remove(folder)?;
        for path in copied.files.iter().map(|sum| sum.file.as_str()).chain([SUMS]) {
            let target = folder.join(path);
            let parent = target.parent().expect("a file of the folder");
            fs::create_dir_all(parent).map_err(Error::io(parent, "create"))?;
            fs::rename(workshop.path().join(path), &target).map_err(Error::io(&target, "write"))?;
        }
        Ok(copied)
    });
    if copied.is_err() {
        // A folder that is still empty was only made for this; any other stays.
        let _ = fs::remove_dir(folder);
    }
    copied
}

/// Writes all files of a copy, the list of hashes last, into the empty folder `new`; `folder` is what messages call it.
fn write(part: &Catalog, request: &Request, new: &Path, folder: &Path, progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>) -> Result<Copied> {
    let Request { op, language, host, entry } = *request;
    let (file, entry) = chosen(part, entry)?;
    let mut texts: Vec<(String, String)> = Vec::new();
    for file in &part.files {
        let mut paths: Vec<&str> = file.compiled.iter().map(|c| c.file.as_str()).collect();
        if language != Language::Ptx {
            paths.push(&file.file);
            paths.extend(file.includes.iter().map(|i| i.file.as_str()));
        }
        for path in paths {
            if texts.iter().all(|(known, _)| known != path) {
                texts.push((path.into(), source(path).unwrap_or_else(|| panic!("kernels.json names {path}, which the crate does not have")).into()));
            }
        }
    }
    texts.extend(LICENCES.map(|(name, text)| (name.into(), text.into())));
    texts.push(("NOTICE".into(), notice()));
    texts.push(("kernels.json".into(), serde_json::to_string_pretty(part).expect("strings and numbers") + "\n"));
    let of = if language == Language::Wgsl { crate::device::Language::Wgsl } else { crate::device::Language::Ptx };
    let plan = golden::plan(of, (op != "all").then_some(op))?;
    let vectors = new.join("golden");
    fs::create_dir(&vectors).map_err(Error::io(&vectors, "create"))?;
    let index = golden::fill(&plan, &vectors, folder, &mut |done| progress(done, plan.cases.len()))?;

    let cases = index.cases.iter().map(|case| case.file.as_str());
    let call = example(&vectors, cases, file, entry)?;
    let launch = snippet::name(host).to_string();
    texts.push((launch.clone(), snippet::program(file, entry, host, &call)));
    if host == Host::WebGpu {
        texts.push(("launch.html".into(), include_str!("launch.html").into()));
    }
    texts.extend(self_test::files(language, launch == "launch.rs"));
    let names: Vec<String> = texts.iter().map(|(path, _)| path.clone()).collect();
    texts.insert(0, ("README.md".into(), readme::text(request, part, (file, entry), &call, &names)));
    for (path, text) in &texts {
        let target = new.join(path);
        let parent = target.parent().expect("a file of the folder");
        fs::create_dir_all(parent).map_err(Error::io(parent, "create"))?;
        write_file_atomic(&target, text)?;
    }
    let mut paths: Vec<String> = texts.into_iter().map(|(path, _)| path).collect();
    paths.extend(["golden/README.txt".into(), format!("golden/{}", golden::INDEX)]);
    paths.extend(index.cases.iter().map(|case| format!("golden/{}", case.file)));
    let files = paths.into_iter().map(|file| Ok(Sum { sha256: hash(&new.join(&file))?, file })).collect::<Result<Vec<_>>>()?;
    let sums: String = files.iter().map(|sum| format!("{}  {}\n", sum.sha256, sum.file)).collect();
    write_file_atomic(&new.join(SUMS), sums)?;
    Ok(Copied { files, golden: index.cases.len(), entry: entry.name.clone(), launch })
}

/// A call of this entry to show: of all launches that golden vectors make of it one of medium size. An entry that only measures is in none:
/// its call has no numbers.
fn example<'a>(vectors: &Path, cases: impl Iterator<Item = &'a str>, file: &File, entry: &Entry) -> Result<Call> {
    let path = file.compiled.as_ref().map_or(&file.file, |compiled| &compiled.file);
    let mut calls: Vec<Call> = Vec::new();
    for case in cases {
        let vector = fs::read(vectors.join(case)).map_err(Error::io(vectors, "read"))?;
        calls.extend(
            launches(&vector)
                .iter()
                .flatten()
                .filter(|(launch, _)| launch["file"] == **path && launch["entry"] == *entry.name)
                .filter_map(|(launch, buffers)| call(launch, buffers, case)),
        );
    }
    calls.sort_by_key(|call| call.operands.iter().flatten().sum::<u64>()); // stable: the list's order among equals
    let middle = calls.len() / 2;
    calls.into_iter().nth(middle).ok_or_else(|| Error::Usage(format!("no golden vector launches {} of {}", entry.name, file.file)))
}

/// The launches that are written down in a golden vector, each with the vector's buffers.
fn launches(vector: &[u8]) -> Option<Vec<(Value, Value)>> {
    let length = u64::from_le_bytes(vector.get(..8)?.try_into().ok()?) as usize;
    let header: Value = serde_json::from_slice(vector.get(8..8 + length)?).ok()?;
    let about: Value = serde_json::from_str(header["__metadata__"]["trimodal"].as_str()?).ok()?;
    Some(about["launches"].as_array()?.iter().map(|launch| (launch.clone(), about["buffers"].clone())).collect())
}

fn call(launch: &Value, buffers: &Value, case: &str) -> Option<Call> {
    let hex = launch["dims_hex"].as_str()?;
    let maps = launch["maps"].as_array().into_iter().flatten().map(|map| &map["buffer"]);
    let operands = maps.chain(launch["buffers"].as_array()?).map(|number| buffers[number.as_u64()? as usize]["bytes"].as_u64()).collect();
    let constants = launch["constants"].as_object()?.iter().map(|(name, value)| Some((name.clone(), value.as_u64()? as u32))).collect::<Option<Vec<_>>>()?;
    Some(Call {
        from: format!("golden/{case}"),
        dims: (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()).collect::<Option<Vec<u8>>>()?,
        constants,
        operands,
        groups: launch["groups"].as_u64()?,
        block: launch["block"].as_u64()?,
        shared: launch["shared"].as_u64()?,
    })
}

/// Removes what a copy that was killed has left unfinished.
fn remove_leftovers(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten().filter(|e| e.file_name().to_string_lossy().starts_with(WORKSHOP)) {
        fs::remove_dir_all(entry.path()).map_err(Error::io(&entry.path(), "remove"))?;
    }
    Ok(())
}

/// Removes what an earlier copy wrote, and nothing else. Its list stays until the new one replaces it: whatever happens in between, the
/// folder is recognised as a copy.
fn remove(folder: &Path) -> Result<()> {
    let Ok(sums) = sums(folder) else { return Ok(()) };
    for path in sums.iter().map(|sum| folder.join(&sum.file)).filter(|path| path.exists()) {
        fs::remove_file(&path).map_err(Error::io(&path, "remove"))?;
        // Folders that are empty now.
        path.ancestors().skip(1).take_while(|parent| *parent != folder && fs::remove_dir(parent).is_ok()).for_each(drop);
    }
    Ok(())
}

fn notice() -> String {
    format!(
        "The kernels in this folder are from trimodal {}, copyright its authors, under the MIT licence (LICENSE-MIT) or the Apache licence 2.0\n\
         (LICENSE-APACHE), at your choice. Keep this notice and the licence that you choose with copies of them.\n",
        env!("CARGO_PKG_VERSION")
    )
}

// ── later ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// A file of a copy, as it is now.
#[derive(Debug, Serialize)]
pub struct Verified {
    /// The path in the folder.
    pub file: String,
    /// Its state.
    pub state: State,
    /// Of a kernel: whether this version of the crate has another text, and the versions of both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub here: Option<String>,
}

/// The state of a copied file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is as it was copied.
    Unchanged,
    /// It has changed.
    Changed,
    /// It is missing.
    Missing,
    /// It was not copied: somebody has put it there.
    Added,
}

/// Compares a folder with the hashes that were written beside it, file by file, and its kernels with this crate's.
///
/// # Errors
/// [`Error::File`] for a folder that is not a copy, or whose list of hashes is damaged.
pub fn verify(folder: &Path) -> Result<Vec<Verified>> {
    let copied: Option<Catalog> = fs::read_to_string(folder.join("kernels.json")).ok().and_then(|text| serde_json::from_str(&text).ok());
    let one = |sum: Sum| {
        let path = folder.join(&sum.file);
        let found = if path.exists() { Some(hash(&path)?) } else { None };
        let state = match &found {
            None => State::Missing,
            Some(found) if *found == sum.sha256 => State::Unchanged,
            Some(_) => State::Changed,
        };
        // Whoever changes a file can change the list, too: kernels are also compared with those that this program carries.
        let ours = source(&sum.file).map(sha256);
        let version = |catalog: &Catalog| catalog.file(&sum.file).map(|f| f.version.clone());
        let here = ours.filter(|ours| *ours != sum.sha256).map(|_| {
            let [theirs, ours] = [copied.as_ref().and_then(version), version(contract::shipped())].map(|v| v.unwrap_or_else(|| "?".into()));
            format!("this trimodal has another text: version {ours}, the copy says {theirs}")
        });
        Ok(Verified { file: sum.file, state, here })
    };
    let sums = sums(folder)?;
    let known: BTreeSet<String> = sums.iter().map(|sum| sum.file.clone()).collect();
    let mut all = sums.into_iter().map(one).collect::<Result<Vec<_>>>()?;
    let mut found = BTreeSet::new();
    list(folder, "", &mut found)?;
    all.extend(found.into_iter().filter(|file| file != SUMS && !known.contains(file)).map(|file| Verified { file, state: State::Added, here: None }));
    Ok(all)
}

/// The files of a folder, by their paths from its root, with `/` on every system; without what the self-test builds.
fn list(folder: &Path, below: &str, found: &mut BTreeSet<String>) -> Result<()> {
    let here = folder.join(below);
    for entry in fs::read_dir(&here).map_err(Error::io(&here, "list"))? {
        let entry = entry.map_err(Error::io(&here, "list"))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        let built = below.starts_with("self_test") && matches!(name.as_str(), "target" | "Cargo.lock" | "__pycache__");
        let is_folder = entry.file_type().map_err(Error::io(&here, "list"))?.is_dir();
        match is_folder {
            _ if built => {}
            true => list(folder, &path, found)?,
            false => drop(found.insert(path)),
        }
    }
    Ok(())
}

/// The list of hashes of a copy. Its paths stay inside the folder.
fn sums(folder: &Path) -> Result<Vec<Sum>> {
    let path = folder.join(SUMS);
    let text = fs::read_to_string(&path).map_err(|_| Error::file(folder, format!("not a folder that `trimodal vendor` has written: it has no {SUMS}")))?;
    let inside = |file: &str| Path::new(file).components().all(|c| matches!(c, std::path::Component::Normal(_)));
    let line = |(number, line): (usize, &str)| {
        let found = line.split_once("  ").filter(|(hash, file)| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()) && inside(file));
        let (sha256, file) = found.ok_or_else(|| Error::File {
            path: path.clone(),
            at: Some(format!("line {}", number + 1)),
            what: format!("expected 64 hexadecimal digits, two spaces and a path in this folder, found {line:?}; copy the kernels again"),
        })?;
        Ok(Sum { file: file.into(), sha256: sha256.to_ascii_lowercase() })
    };
    text.lines().enumerate().map(line).collect()
}

fn hash(path: &Path) -> Result<String> {
    Ok(sha256(fs::read(path).map_err(Error::io(path, "read"))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_manifest_is_carried() {
        for file in &contract::shipped().files {
            let compiled = file.compiled.iter().map(|c| (&c.file, &c.sha256));
            let includes = file.includes.iter().map(|i| (&i.file, &i.sha256));
            for (path, hash) in [(&file.file, &file.sha256)].into_iter().chain(compiled).chain(includes) {
                assert_eq!(source(path).map(sha256).as_ref(), Some(hash), "{path}");
            }
        }
    }

    #[test]
    fn an_operation_is_all_its_files() {
        let files = |op, language| part(op, language).unwrap().files.into_iter().map(|f| f.file).collect::<Vec<_>>();
        assert_eq!(files("attention", Language::Wgsl), ["shaders/attention.wgsl", "shaders/attention_backward.wgsl"]);
        assert_eq!(files("matmul", Language::Ptx), ["kernels/matmul.cu", "kernels/hopper/matmul.cu"]);
        assert_eq!(files("all", Language::Wgsl).len(), OPS.iter().map(|op| op.files.len()).sum::<usize>());
        assert!(part("softmax", Language::Wgsl).unwrap_err().to_string().contains("expected one of embedding"));
    }
}
