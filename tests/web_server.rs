//! `trimodal web` as a server, without a browser: silent connections, signals, what it leaves behind.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The server, its address, and a temporary folder of its own.
struct Served {
    child: Child,
    host: String,
    temporary: tempfile::TempDir,
}

impl Served {
    fn new() -> Self {
        let temporary = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_trimodal"));
        let mut child = command.args(["web", "--port", "0"]).env("TMPDIR", temporary.path()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("web");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let host = line.split_whitespace().find_map(|word| word.strip_prefix("http://")).expect("the address").trim_end_matches('/').to_string();
        Served { child, host, temporary }
    }

    /// Asks for a file; its answer is read by the second call.
    fn ask(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.host).expect("a connection");
        write!(stream, "GET /{path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.host).expect("to ask");
        stream
    }

    fn get(&self, path: &str) -> String {
        let mut answer = Vec::new();
        self.ask(path).read_to_end(&mut answer).expect("an answer");
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn signalled(&mut self, signal: &str) -> Option<i32> {
        assert!(Command::new("kill").args([&format!("-{signal}"), &self.child.id().to_string()]).status().expect("kill").success());
        self.child.wait().expect("its end").code()
    }

    fn left(&self) -> Vec<String> {
        fs::read_dir(self.temporary.path()).expect("it is there").map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn made(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

#[test]
fn silent_connections_keep_nobody_out() {
    let served = Served::new();
    assert!(served.get("index.html").starts_with("HTTP/1.1 200"));
    // More than it takes at a time, some of which begin to ask and stop.
    let mut silent: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(&served.host).expect("a connection")).collect();
    silent.iter_mut().step_by(3).for_each(|stream| stream.write_all(b"GET / HT").expect("to begin"));
    let begin = Instant::now();
    assert!(served.get("index.html").starts_with("HTTP/1.1 200"));
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    // And they are closed, not only outnumbered.
    for stream in &mut silent {
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
        let _ = stream.read_to_end(&mut Vec::new()).map_err(|e| assert!(e.kind() == std::io::ErrorKind::ConnectionReset, "still open: {e}"));
    }
}

#[test]
fn a_signal_leaves_nothing_behind() {
    for (signal, code) in [("TERM", 143), ("HUP", 129), ("INT", 0)] {
        let mut served = Served::new();
        assert!(served.get("golden/golden.json").starts_with("HTTP/1.1 200"));
        assert!(!served.left().is_empty(), "the golden vectors are somewhere");
        assert_eq!(served.signalled(signal), Some(code), "{signal}");
        assert_eq!(served.left(), Vec::<String>::new(), "{signal}");
        // While they are being made.
        for wait in [0, 60, 300] {
            let mut served = Served::new();
            let _asked = served.ask("golden/golden.json");
            let begin = Instant::now();
            while !made(served.temporary.path()) && begin.elapsed() < Duration::from_secs(30) {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(wait));
            assert_eq!(served.signalled(signal), Some(code), "{signal}");
            assert_eq!(served.left(), Vec::<String>::new(), "{signal} after {wait} ms");
        }
    }
}
