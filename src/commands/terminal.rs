//! The terminal: output that ends quietly when its reader has gone, colours for people only, ctrl-C.

use std::io::{self, IsTerminal, Write};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

/// Prints to standard output. `trimodal … | head` closes the pipe early: then there is nothing left to do, and that is not an
/// error (`println!` would panic).
pub fn print(text: &str) {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(e) => {
            eprintln!("error: cannot write to standard output: {e}");
            std::process::exit(1);
        }
        Ok(()) => {}
    }
}

/// As [`print`], with a line break.
pub fn line(text: impl AsRef<str>) {
    print(&format!("{}\n", text.as_ref()));
}

/// Colours where a person reads: a terminal, and `NO_COLOR` not set.
#[derive(Clone, Copy)]
pub struct Paint(bool);

impl Paint {
    /// For standard output.
    pub fn stdout() -> Self {
        Paint(io::stdout().is_terminal() && Self::wanted())
    }

    /// For standard error.
    pub fn stderr() -> Self {
        Paint(io::stderr().is_terminal() && Self::wanted())
    }

    fn wanted() -> bool {
        std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()) && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }

    /// Green: right.
    pub fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// Red: wrong.
    pub fn bad(self, text: &str) -> String {
        self.wrap("31;1", text)
    }

    /// One of the 256 colours of a terminal.
    pub fn tint(self, colour: u8, text: &str) -> String {
        self.wrap(&format!("38;5;{colour}"), text)
    }

    /// Bold.
    pub fn strong(self, text: &str) -> String {
        self.wrap("1", text)
    }
}

static STOP: AtomicBool = AtomicBool::new(false);

/// A flag that ctrl-C raises, for a command that has something to save first: it looks at the flag after every
/// step and ends with [`trimodal::Error::Interrupted`]. A second ctrl-C ends the program at once.
pub fn stop_flag() -> &'static AtomicBool {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let installed = ctrlc::set_handler(|| {
            if STOP.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
            eprintln!("\nstopping after this step (press ctrl-C again to stop at once)");
        });
        if let Err(e) = installed {
            eprintln!("warning: ctrl-C will end the program at once, because its signal cannot be caught: {e}");
        }
    });
    &STOP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_off_where_nobody_looks() {
        assert_eq!(Paint(false).bad("x"), "x");
        assert_eq!(Paint(true).bad("x"), "\x1b[31;1mx\x1b[0m");
    }
}
