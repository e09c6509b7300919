//! Foreign text on its way to a terminal: captions, tokens, names of files.
//!
//! A terminal obeys what it is sent: an escape sequence in a caption can change the window's title, hide lines, or answer as if
//! somebody had typed. So control characters are shown, not sent.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::Write;
use std::path::Path;

/// Control characters (C0, DEL, C1), and those of Unicode that end a line or turn the direction of what stands beside them.
fn acts(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escaped(text: &str, acts: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&acts) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if acts(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    Cow::Owned(shown)
}

/// One value, as a part of one line: every control character as Rust writes it, `\n`, `\u{1b}`.
pub fn shown(text: &str) -> Cow<'_, str> {
    escaped(text, acts)
}

/// A text of several lines: as [`shown`], but line breaks and tabs stay.
pub fn shown_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| acts(c) && c != '\n' && c != '\t')
}

/// A path, as [`shown`]; what is not UTF-8 in it as `�`.
pub fn shown_path(path: impl AsRef<Path>) -> String {
    shown(&path.as_ref().to_string_lossy()).into_owned()
}

/// A path as a word for a shell, quoted where it has to be. Where a byte of it cannot be shown, `$'…'` has it as an escape (bash, zsh,
/// POSIX of 2024).
pub fn quoted(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes();
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains(acts));
    // `-x` would be an option, and zsh looks up `=x`.
    let ahead = if bytes.starts_with(b"-") || bytes.starts_with(b"=") { "./" } else { "" };
    let Some(text) = text else {
        let mut word = format!("$'{ahead}");
        for chunk in bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\'' | '\\' => word.extend(['\\', c]),
                    // Octal: a hexadecimal escape may take in the digits after it.
                    c if acts(c) => c.to_string().bytes().for_each(|b| word += &format!("\\{b:03o}")),
                    c => word.push(c),
                }
            }
            chunk.invalid().iter().for_each(|b| word += &format!("\\{b:03o}"));
        }
        return word + "'";
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) { format!("{ahead}{text}") } else { format!("'{ahead}{}'", text.replace('\'', "'\\''")) }
}

/// Prints `warning: …` to standard error. Where that cannot be written (a full disk, a closed terminal), nothing happens: `eprintln!`
/// would panic.
pub fn warn(text: impl Display) {
    let text = text.to_string();
    let _ = std::io::stderr().write_all(format!("warning: {}\n", shown(&text)).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown() {
        assert_eq!(shown("a cat"), "a cat");
        assert_eq!(shown("\x1b]0;title\x07 \x7f\u{9b}31m a\nb\tc\r"), "\\u{1b}]0;title\\u{7} \\u{7f}\\u{9b}31m a\\nb\\tc\\r");
        assert_eq!(shown("\u{202e}gnp.exe\u{2028}"), "\\u{202e}gnp.exe\\u{2028}");
        assert_eq!(shown("naïve 猫 \u{200d}👩\u{200d}🚀"), "naïve 猫 \u{200d}👩\u{200d}🚀", "what is no control character stays");
        assert_eq!(shown_lines("a\n\tb\r\x1b"), "a\n\tb\\r\\u{1b}");
    }

    #[test]
    fn paths_are_quoted_for_a_shell() {
        let of = |text: &str| quoted(Path::new(text));
        assert_eq!((of("a/b-1.x"), of("my data"), of("it's"), of("")), ("a/b-1.x".into(), "'my data'".into(), "'it'\\''s'".into(), "''".into()));
        assert_eq!((of("-rf"), of("-r f"), of("=x"), of("~")), ("./-rf".into(), "'./-r f'".into(), "./=x".into(), "'~'".into()));
        assert_eq!((of("a\x1b1'\\"), of("$(x)`y`")), ("$'a\\0331\\'\\\\'".into(), "'$(x)`y`'".into()));
    }

    /// What a shell makes of the word is the path again, byte for byte.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_shell_reads_the_path_again() {
        use std::os::unix::ffi::OsStrExt;
        for bytes in [&b"caf\xe9/x1"[..], b"a b\xff\xfe7'\\\n\x1b[0m", b"-n", "ü 猫\u{202e}".as_bytes(), b"$HOME"] {
            let path = Path::new(std::ffi::OsStr::from_bytes(bytes));
            let said = std::process::Command::new("bash").args(["-c", &format!("printf %s {}", quoted(path))]).output().expect("bash");
            let expected = if bytes.starts_with(b"-") { [b"./", bytes].concat() } else { bytes.to_vec() };
            assert_eq!(said.stdout, expected, "{}", quoted(path));
        }
    }
}
