//! `trimodal vendor`: copies one kernel, with its contract, golden vectors and a self-test.

use super::progress::{advance, progress};
use super::signals::stop_flag;
use super::terminal::{Paint, document, line, painted, print};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;
use trimodal::contract::catalog::{Catalog, Entry, File};
use trimodal::files::shown::{quoted, shown};
use trimodal::vendor::snippet::{self, Host};
use trimodal::vendor::{self, Language, State};
use trimodal::{Error, Result};

const EXAMPLES: &str = "\
Examples:
  trimodal vendor rms_norm --to third_party/rms_norm               the shader, and its launch in Rust with wgpu
  trimodal vendor rms_norm --host webgpu --to public/rms_norm      the same for a browser
  trimodal vendor matmul --lang ptx --entry mma_nt_bf16 --to k     PTX, and the launch of one entry with cudarc
  trimodal vendor attention --lang cuda --to kernels               CUDA C++ (with the header of its Hopper kernels) and PTX
  trimodal vendor all --to kernels                                 every shader
  trimodal vendor --verify third_party/rms_norm                    what has been changed since

The folder then holds: the files, under the paths that they have here, their part of kernels.json (buffers, scalars, grids, \
limits), both licences and a notice, SHA256SUMS (`sha256sum --check` reads it), golden vectors in golden/, and self_test/, which replays \
them in plain wgpu and in a browser, or in plain cudarc and plain Python. What is printed launches one entry, with its Dims and a check of the contract for debug \
builds. CHANGELOG.md says what a version of a kernel promises.";

/// Copy a kernel into another engine: files, contract, licence, golden vectors, and the launch in a few lines
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Vendor {
    /// The operation, or all
    #[arg(value_name = "OP", required_unless_present = "verify")]
    op: Option<String>,
    /// The language to copy [default: the one that the host takes, else wgsl]
    #[arg(long, value_name = "L", value_enum)]
    lang: Option<Lang>,
    /// The folder to write; created if it does not exist
    #[arg(long, value_name = "DIR", required_unless_present = "verify")]
    to: Option<PathBuf>,
    /// The host whose launch to print [default: wgpu for wgsl, cudarc for ptx, cuda for cuda]
    #[arg(long, value_name = "H", value_enum)]
    host: Option<HostName>,
    /// The entry whose launch to print [default: the first]
    #[arg(long, value_name = "NAME")]
    entry: Option<String>,
    /// Replace a copy that is already there
    #[arg(long)]
    force: bool,
    /// Compare the copy in this folder with its hashes; exit code 1 if a file is changed or missing
    #[arg(long, value_name = "DIR", conflicts_with_all = ["op", "to", "lang", "host", "entry", "force"])]
    verify: Option<PathBuf>,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Lang {
    /// shaders/*.wgsl
    Wgsl,
    /// kernels/*.cu, with the PTX that they are compiled to
    Cuda,
    /// kernels/ptx/*/*.ptx alone
    Ptx,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum HostName {
    /// Rust with wgpu (wgsl)
    Wgpu,
    /// JavaScript with WebGPU (wgsl)
    Webgpu,
    /// Rust with cudarc (ptx)
    Cudarc,
    /// Python with cuda-python (ptx)
    CudaPython,
    /// C++ with the CUDA runtime (cuda)
    Cuda,
}

impl HostName {
    fn host(self) -> Host {
        match self {
            HostName::Wgpu => Host::Wgpu,
            HostName::Webgpu => Host::WebGpu,
            HostName::Cudarc => Host::Cudarc,
            HostName::CudaPython => Host::Python,
            HostName::Cuda => Host::Cuda,
        }
    }

    fn takes(self, language: Language) -> bool {
        match self {
            HostName::Wgpu | HostName::Webgpu => language == Language::Wgsl,
            HostName::Cudarc | HostName::CudaPython => language != Language::Wgsl,
            HostName::Cuda => language == Language::Cuda,
        }
    }
}

impl Vendor {
    pub fn run(self) -> Result<ExitCode> {
        if let Some(folder) = &self.verify {
            return verify(folder, self.json);
        }
        let (Some(op), Some(folder)) = (&self.op, &self.to) else { unreachable!("clap asks for both") };
        let language = match (self.lang, self.host) {
            (Some(Lang::Wgsl), _) | (None, None | Some(HostName::Wgpu | HostName::Webgpu)) => Language::Wgsl,
            (Some(Lang::Cuda), _) | (None, Some(HostName::Cuda)) => Language::Cuda,
            (Some(Lang::Ptx), _) | (None, Some(HostName::Cudarc | HostName::CudaPython)) => Language::Ptx,
        };
        let host = self.host.unwrap_or(match language {
            Language::Wgsl => HostName::Wgpu,
            Language::Cuda => HostName::Cuda,
            Language::Ptx => HostName::Cudarc,
        });
        if !host.takes(language) {
            return Err(Error::Usage(
                "this host does not launch that language: wgpu and webgpu take wgsl, cudarc and cuda-python ptx or cuda, cuda cuda".into(),
            ));
        }
        let part = vendor::part(op, language)?;
        let (file, entry) = self.chosen(&part)?;

        stop_flag(); // from here on ctrl-C waits for the golden vector at hand
        let bar = progress("golden vectors");
        let copied = vendor::copy(op, language, folder, self.force, &mut |done, all| advance(&bar, done, all));
        bar.finish_and_clear();
        let copied = copied?;
        let launch = snippet::launch(file, entry, host.host());
        if self.json {
            let text = serde_json::json!({ "folder": folder.to_string_lossy(), "files": copied.files, "golden": copied.golden, "entry": entry.name, "launch": launch });
            document(&(serde_json::to_string_pretty(&text).expect("strings and numbers") + "\n"));
            return Ok(ExitCode::SUCCESS);
        }
        for sum in copied.files.iter().filter(|sum| !sum.file.starts_with("golden/") && !sum.file.starts_with("self_test/")) {
            line(format!("{}  {}", &sum.sha256[..16], sum.file));
        }
        line(format!("{} golden vectors in golden/; SHA256SUMS has the hashes in full. Test them, in {}:", copied.golden, quoted(folder)));
        let mut ways = match language {
            Language::Wgsl => vec![
                ("cargo run --manifest-path self_test/wgpu/Cargo.toml -- .", "in Rust"),
                ("python3 -m http.server --bind 127.0.0.1", "in a browser: http://127.0.0.1:8000/self_test/web/"),
            ],
            _ => vec![("python3 self_test/replay.py .", "in Python"), ("cargo run --manifest-path self_test/cudarc/Cargo.toml -- .", "in Rust")],
        };
        if host == HostName::Webgpu {
            ways.reverse();
        }
        ways.into_iter().for_each(|(command, place)| line(format!("  {command:58}{place}")));
        let others: Vec<&str> = file.entries.iter().map(|e| e.name.as_str()).filter(|name| *name != entry.name).collect();
        if !others.is_empty() {
            line(format!("The launch of {}; --entry prints another's: {}", entry.name, others.join(" ")));
        }
        line("");
        print(&launch);
        Ok(ExitCode::SUCCESS)
    }

    /// The entry whose launch is printed, and its file.
    fn chosen<'a>(&self, part: &'a Catalog) -> Result<(&'a File, &'a Entry)> {
        let mut all = part.files.iter().flat_map(|file| file.entries.iter().map(move |entry| (file, entry)));
        let Some(name) = &self.entry else { return Ok(all.next().expect("a file has entries")) };
        all.find(|(_, entry)| entry.name == *name).ok_or_else(|| {
            let names: Vec<&str> = part.files.iter().flat_map(|f| f.entries.iter().map(|e| e.name.as_str())).collect();
            Error::Usage(format!("no entry {name:?}: expected one of {}", names.join(", ")))
        })
    }
}

fn verify(folder: &std::path::Path, json: bool) -> Result<ExitCode> {
    let files = vendor::verify(folder)?;
    let wrong = files.iter().filter(|file| file.state != State::Unchanged).count();
    let code = if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if json {
        document(&(serde_json::to_string_pretty(&files).expect("strings") + "\n"));
        return Ok(code);
    }
    let paint = Paint::stdout();
    for file in &files {
        let state = match file.state {
            State::Unchanged => "unchanged".to_string(),
            State::Changed => paint.bad("changed  "),
            State::Missing => paint.bad("missing  "),
        };
        let here = file.here.as_ref().map(|h| format!("  ({h})")).unwrap_or_default();
        painted(format!("{state}  {}{here}", shown(&file.file)));
    }
    line(match wrong {
        0 => format!("all {} files are as they were copied", files.len()),
        _ => format!("{wrong} of {} files are not as they were copied", files.len()),
    });
    Ok(code)
}
