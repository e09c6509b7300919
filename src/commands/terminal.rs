//! The terminal: output that never ends what is being made, foreign text that it does not obey, colours for people only.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use trimodal::files::shown::{shown, shown_lines};
use trimodal::files::temporary;

/// Whether the program goes on when its output cannot be written: there is something that it makes besides.
static GO_ON: AtomicBool = AtomicBool::new(false);
/// Whether that has happened.
static GONE: AtomicBool = AtomicBool::new(false);

/// From here on, output that cannot be written (`trimodal train … | head -1`, a full disk) is left out, and the work goes on. Without
/// this, a closed pipe ends the program: there is nobody to print for.
pub fn go_on_without_output() {
    GO_ON.store(true, Ordering::Relaxed);
}

/// Prints to standard output. Control characters, which only foreign text has, are shown and not sent.
pub fn print(text: &str) {
    send(&shown_lines(text));
}

/// As [`print`], with a line break.
pub fn line(text: impl AsRef<str>) {
    print(&format!("{}\n", text.as_ref()));
}

/// As [`line`], for text with colours of [`Paint`] in it. Foreign text in it has to be [`shown`]: its colours would pass too.
pub fn painted(text: impl AsRef<str>) {
    let text = text.as_ref();
    if !Paint::stdout().0 {
        return line(text);
    }
    let mut parts = text.split('\x1b');
    let mut out = shown_lines(parts.next().unwrap_or_default()).into_owned();
    for part in parts {
        let own = part.strip_prefix('[').and_then(|rest| rest.split_once('m')).filter(|(code, _)| code.bytes().all(|b| b.is_ascii_digit() || b == b';'));
        match own {
            Some((code, rest)) => out += &format!("\x1b[{code}m{}", shown_lines(rest)),
            None => out += &format!("{}{}", shown("\x1b"), shown_lines(part)),
        }
    }
    send(&(out + "\n"));
}

/// Prints JSON or TOML for programs to standard output: exact, but what of it a terminal would obey is written as an escape of theirs.
pub fn document(text: &str) {
    let acts = |c: char| matches!(c, '\x7f'..='\u{9f}');
    if !text.contains(acts) {
        return send(text);
    }
    // In both languages these only stand within a string.
    send(&text.chars().map(|c| if acts(c) { format!("\\u{:04x}", c as u32) } else { c.to_string() }).collect::<String>());
}

/// The columns of a terminal that does not say how many it has.
const USUAL_WIDTH: usize = 80;
/// What is believed of `COLUMNS`: less holds no table, more is no terminal's.
const WIDTHS: std::ops::RangeInclusive<usize> = 20..=1000;

/// The columns that a line of standard output may take: those of its terminal; where it is none (or does not say), `COLUMNS`; else 80.
pub fn width() -> usize {
    let terminal = terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| width.0.into());
    width_of(terminal, std::env::var("COLUMNS").ok().as_deref())
}

fn width_of(terminal: Option<usize>, columns: Option<&str>) -> usize {
    let said = || columns.and_then(|text| text.trim().parse().ok()).filter(|columns| WIDTHS.contains(columns));
    terminal.filter(|&columns| columns > 0).or_else(said).unwrap_or(USUAL_WIDTH)
}

fn send(text: &str) {
    if GONE.load(Ordering::Relaxed) {
        return;
    }
    let mut out = io::stdout().lock();
    let Err(e) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) else { return };
    GONE.store(true, Ordering::Relaxed);
    let closed = e.kind() == io::ErrorKind::BrokenPipe;
    if GO_ON.load(Ordering::Relaxed) {
        let why = if closed { "nobody reads the output any more".into() } else { format!("cannot write to standard output: {e}") };
        return warning(format!("{why}; going on without it"));
    }
    if !closed {
        error(format!("cannot write to standard output: {e}"));
    }
    temporary::remove_all();
    std::process::exit(!closed as i32);
}

/// Prints a line to standard error. Where that cannot be written, there is nobody left to tell.
pub fn note(text: impl Display) {
    say("", &text.to_string());
}

/// As [`note`], after `warning:`.
pub fn warning(text: impl Display) {
    say(&Paint::stderr().bad("warning:"), &text.to_string());
}

/// As [`note`], after `error:`.
pub fn error(text: impl Display) {
    say(&Paint::stderr().bad("error:"), &text.to_string());
}

/// One write, so that lines of several threads do not mix.
fn say(mark: &str, text: &str) {
    let space = if mark.is_empty() { "" } else { " " };
    let _ = io::stderr().lock().write_all(format!("{mark}{space}{}\n", shown_lines(text)).as_bytes());
}

/// Colours where a person reads: a terminal, and `NO_COLOR` not set.
#[derive(Clone, Copy)]
pub struct Paint(bool);

impl Paint {
    /// Colours, whoever looks.
    #[cfg(test)]
    pub const ALWAYS: Paint = Paint(true);
    /// None.
    #[cfg(test)]
    pub const NEVER: Paint = Paint(false);

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
        let text = shown(text);
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into_owned() }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_terminal_knows_its_width_best() {
        assert_eq!(width_of(Some(132), Some("100")), 132);
        assert_eq!(width_of(None, Some("100")), 100);
        assert_eq!(width_of(Some(0), Some("100")), 100, "a terminal that does not say");
        for columns in [None, Some(""), Some("wide"), Some("0"), Some("3"), Some("-1"), Some("99999999")] {
            assert_eq!(width_of(None, columns), 80, "{columns:?}");
        }
    }

    #[test]
    fn colour_is_off_where_nobody_looks() {
        assert_eq!(Paint(false).bad("x"), "x");
        assert_eq!(Paint(true).bad("x"), "\x1b[31;1mx\x1b[0m");
        assert_eq!(Paint(true).good("a\x1b[0mb\n"), "\x1b[32ma\\u{1b}[0mb\\n\x1b[0m", "foreign text inside is shown");
    }
}
