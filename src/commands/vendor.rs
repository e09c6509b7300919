//! `trimodal vendor`: copies one kernel, with its contract, golden vectors and a self-test.

use super::progress::{advance, progress};
use super::signals::stop_flag;
use super::terminal::{self, Paint, document, line, painted};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;
use trimodal::files::shown::{quoted, shown};
use trimodal::vendor::snippet::Host;
use trimodal::vendor::{self, Language, Request, State};
use trimodal::{Error, Result, report};

const EXAMPLES: &str = "\
Examples:
  trimodal vendor rms_norm --to third_party/rms_norm               the shader, and its launch in Rust with wgpu
  trimodal vendor rms_norm --host webgpu --to public/rms_norm      the same for a browser
  trimodal vendor matmul --lang ptx --entry mma_nt_bf16 --to k     PTX, and the launch of one entry with cudarc
  trimodal vendor attention --lang cuda --to kernels               CUDA C++ (with the header of its Hopper kernels) and PTX
  trimodal vendor all --to kernels                                 every shader
  trimodal vendor --verify third_party/rms_norm                    what has been changed since

The folder explains itself: README.md says what the kernel computes, which files are there, how it is launched, with the numbers of one call, \
and where each of its scalars comes from: a size, a formula, or a free choice and what to take. launch.rs (.js, .py, .cu, by the host) is that launch as a file that \
compiles and runs. Beside them: the files, under the paths that they have here, their part of kernels.json, both licences and a notice, SHA256SUMS \
(`sha256sum --check` reads it), golden vectors in golden/, and self_test/, which replays them in plain wgpu and in a browser, or in plain cudarc and plain \
Python. CHANGELOG.md says what a version of a kernel promises.";

/// Copy a kernel into another engine: files, contract, licence, golden vectors, and a launch that compiles
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
    /// The host whose launch to write [default: wgpu for wgsl, cudarc for ptx, cuda for cuda]
    #[arg(long, value_name = "H", value_enum)]
    host: Option<HostName>,
    /// The entry whose launch to write [default: the first]
    #[arg(long, value_name = "NAME")]
    entry: Option<String>,
    /// Replace a copy that is already there
    #[arg(long)]
    force: bool,
    /// Compare the copy in this folder with its hashes; exit code 1 if a file is changed, missing or added. What the self-test builds does not count
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
        let request = Request { op, language, host: host.host(), entry: self.entry.as_deref() };
        let part = vendor::part(op, language)?;
        let (file, entry) = vendor::chosen(&part, self.entry.as_deref())?;

        stop_flag(); // from here on ctrl-C waits for the golden vector at hand
        let bar = progress("golden vectors");
        let copied = vendor::copy(&request, folder, self.force, &mut |done, all| advance(&bar, done, all));
        bar.finish_and_clear();
        let copied = copied?;
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).map_err(Error::io(&folder.join(name), "read"));
        if self.json {
            let text = serde_json::json!({ "folder": folder.to_string_lossy(), "files": copied.files, "golden": copied.golden, "entry": copied.entry, "file": copied.launch, "launch": read(&copied.launch)? });
            document(&(serde_json::to_string_pretty(&text).expect("strings and numbers") + "\n"));
            return Ok(ExitCode::SUCCESS);
        }
        for sum in copied.files.iter().filter(|sum| !sum.file.starts_with("golden/") && !sum.file.starts_with("self_test/")) {
            line(format!("{}  {}", &sum.sha256[..16], sum.file));
        }
        let folder = quoted(folder);
        line(format!("{} golden vectors in golden/; SHA256SUMS has the hashes in full.", copied.golden));
        line(format!("\nRead {folder}/README.md. {} launches {} of {}.", copied.launch, entry.name, file.file));
        line(format!("\nTest them, in {folder}:"));
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
        ways.into_iter().for_each(|(command, place)| line(format!("  {command:60}{place}")));
        let others: Vec<&str> = file.entries.iter().map(|e| e.name.as_str()).filter(|name| *name != entry.name).collect();
        if !others.is_empty() {
            line(report::wrapped(&format!("\n--entry NAME writes another entry's launch: {}", others.join(" ")), terminal::width(), 2));
        }
        Ok(ExitCode::SUCCESS)
    }
}
fn verify(folder: &std::path::Path, json: bool) -> Result<ExitCode> {
    let files = vendor::verify(folder)?;
    let all = files.len();
    let wrong = files.iter().filter(|file| file.state != State::Unchanged).count();
    let code = if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if json {
        document(&(serde_json::to_string_pretty(&files).expect("strings") + "\n"));
        return Ok(code);
    }
    let paint = Paint::stdout();
    // What is as it was written is counted; it is named only where this crate has another text by now.
    for file in files.iter().filter(|file| file.state != State::Unchanged || file.here.is_some()) {
        let state = match file.state {
            State::Unchanged => "as written".to_string(),
            State::Changed => paint.bad("changed   "),
            State::Missing => paint.bad("missing   "),
            State::Added => paint.bad("added     "),
        };
        let here = file.here.as_ref().map(|h| format!("  ({h})")).unwrap_or_default();
        painted(format!("{state}  {}{here}", shown(&file.file)));
    }
    let files = |n: usize| format!("{n} file{}", if n == 1 { "" } else { "s" });
    line(match wrong {
        0 => format!("{} as written", files(all)),
        _ => format!("{} as written, {} not", files(all - wrong), wrong),
    });
    Ok(code)
}
