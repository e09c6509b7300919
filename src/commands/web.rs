//! `trimodal web`: a page on which the kernels run in the browser's own WebGPU.

use super::signals;
use super::terminal::line;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use trimodal::Result;
use trimodal::files::shown::{quoted, shown_path};
use trimodal::numbers::bytes;
use trimodal::web::{Site, server};

const EXAMPLES: &str = "\
Examples:
  trimodal web                                   the page alone: the self-test and the benchmark
  trimodal web trimodal-demo/model               with the demo's model, which describes what you drop
  trimodal web my-model --to page                as a folder, for any static server:
  python3 -m http.server --bind 127.0.0.1 --directory page

The page needs a browser with WebGPU (Chrome, Edge, Safari 26, Firefox 141) and no network. It holds three things: a self-test, in which \
every entry point of every shader is compared with the float64 oracle on the browser's GPU; a small benchmark of this browser and GPU, \
with a score card to copy; and the model, in a few hundred lines of JavaScript: it says what is in a picture or a sound that you drop, \
choose or record, and shows what each word was made from. Nothing leaves the page.

The server answers this machine only, and serves the page, the shaders, golden vectors that it makes on request, and the \
three files of the model in RUN; it serves no other file. Ctrl-C ends it. Browsers do not let a page use WebGPU that comes from another \
machine by plain HTTP: to use the page on a phone, write it to a folder with --to and serve it by HTTPS.";

/// Serve a page on which the kernels run in your browser: a self-test, a benchmark, and a model that describes what you drop
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Web {
    /// A run or a model folder, as `train` and `demo` write them; the page can also be given one later
    #[arg(value_name = "RUN")]
    run: Option<PathBuf>,
    /// The port on 127.0.0.1; 0 takes any that is free
    #[arg(long, value_name = "N", default_value_t = 8765)]
    port: u16,
    /// Write the page into this folder instead of serving it
    #[arg(long, value_name = "DIR", conflicts_with = "port")]
    to: Option<PathBuf>,
}

impl Web {
    pub fn run(self) -> Result<ExitCode> {
        let site = Site::new(self.run.as_deref())?;
        if let Some(folder) = &self.to {
            let (files, size) = site.write(folder)?;
            line(format!("{files} files ({}) in {}: serve them from a static server, for example", bytes(size), shown_path(folder)));
            line(format!("  python3 -m http.server --bind 127.0.0.1 --directory {}", quoted(folder)));
            return Ok(ExitCode::SUCCESS);
        }
        let site = Arc::new(site);
        let address = server::spawn(site.clone(), self.port)?;
        line(format!("open http://{address}/ in a browser; ctrl-C ends it"));
        let signal = signals::wait();
        site.close();
        // Ctrl-C is how a person ends it.
        Ok(if signal == signals::INTERRUPT { ExitCode::SUCCESS } else { signals::code() })
    }
}
