//! Signals: what ctrl-C, a scheduler (SIGTERM; SIGUSR1, SIGUSR2 and SIGXCPU where it warns) and a closed terminal (SIGHUP) do.
//!
//! A command that has something to save looks at a flag after every step, and ends by itself: see [`stop_flag`]. Any other ends at once,
//! and so does every one at a second signal. The exit code is 128 + the signal's number; what is temporary is removed in any case.

use super::terminal::{note, warning};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use trimodal::files::temporary;

/// Somebody looks at [`STOP`].
static WATCHED: AtomicBool = AtomicBool::new(false);
static STOP: AtomicBool = AtomicBool::new(false);
/// The first signal, or 0.
static RECEIVED: AtomicI32 = AtomicI32::new(0);
/// For [`wait`].
static ARRIVED: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());

/// One wish to stop may arrive as two signals: the system tells a terminal's processes that it is closed, and so does its shell.
const SAME: Duration = Duration::from_millis(200);

/// A flag that the first signal raises, for a command that has something to save first: it looks at the flag after every step and ends
/// with [`trimodal::Error::Interrupted`].
pub fn stop_flag() -> &'static AtomicBool {
    WATCHED.store(true, Ordering::SeqCst);
    &STOP
}

/// Waits for the first signal; its number.
pub fn wait() -> i32 {
    stop_flag();
    let mut guard = ARRIVED.0.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if let Some(signal) = received() {
            return signal;
        }
        guard = ARRIVED.1.wait(guard).unwrap_or_else(PoisonError::into_inner);
    }
}

/// The signal that arrived, if one has.
pub fn received() -> Option<i32> {
    Some(RECEIVED.load(Ordering::SeqCst)).filter(|signal| *signal != 0)
}

/// The exit code of a command that a signal has ended.
pub fn code() -> ExitCode {
    ExitCode::from(128 + received().unwrap_or(INTERRUPT) as u8)
}

/// SIGINT's number, everywhere.
pub const INTERRUPT: i32 = 2;

/// How a person calls a signal.
pub fn name(signal: i32) -> &'static str {
    if signal == INTERRUPT {
        return "ctrl-C";
    }
    #[cfg(unix)]
    return signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
    #[cfg(not(unix))]
    return "a signal";
}

/// Whether the system repeats a signal by itself: that the time is used up, every second.
fn repeated(signal: i32) -> bool {
    #[cfg(unix)]
    return signal == signal_hook::consts::SIGXCPU;
    #[cfg(not(unix))]
    return signal < 0;
}

/// What happens at a signal, on the thread that listens for them.
fn arrived(signal: i32, first: &mut Option<Instant>) {
    match first {
        Some(at) if at.elapsed() < SAME || repeated(signal) => {}
        None if WATCHED.load(Ordering::SeqCst) => {
            *first = Some(Instant::now());
            RECEIVED.store(signal, Ordering::SeqCst);
            STOP.store(true, Ordering::SeqCst);
            let _guard = ARRIVED.0.lock().unwrap_or_else(PoisonError::into_inner);
            ARRIVED.1.notify_all();
            let said = match signal {
                INTERRUPT => "\nstopping after this step (press ctrl-C again to stop at once)".to_string(),
                _ => format!("{}: stopping after this step (a second signal stops at once)", name(signal)),
            };
            // By itself: whoever reads standard error may have stopped reading, and the next signal must be heard all the same.
            std::thread::spawn(move || note(said));
        }
        _ => end(128 + signal),
    }
}

/// Ends the process at once.
fn end(code: i32) -> ! {
    temporary::remove_all();
    // No destructor of a library runs while the other threads go on using it.
    #[cfg(unix)]
    signal_hook::low_level::exit(code);
    #[cfg(not(unix))]
    std::process::exit(code);
}

/// Listens from now on.
#[cfg(unix)]
pub fn install() {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU, SIGXFSZ};
    use signal_hook::iterator::Signals;
    // `nohup` has the system ignore a closed terminal, and that stays so.
    let mut wanted = vec![SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU, SIGHUP];
    wanted.retain(|signal| *signal != SIGHUP || !ignored(SIGHUP));
    let listening = Signals::new(wanted).and_then(|mut signals| {
        let listen = move || {
            let mut first = None;
            signals.forever().for_each(|signal| arrived(signal, &mut first));
        };
        std::thread::Builder::new().name("signals".into()).spawn(listen)
    });
    if let Err(e) = listening {
        warning(format!("ctrl-C will end the program at once, because its signal cannot be caught: {e}"));
    }
    // A file that may not grow further (`ulimit -f`) is then an error of the write, as a full disk is, and does not kill the process.
    let _ = signal_hook::flag::register(SIGXFSZ, std::sync::Arc::new(AtomicBool::new(false)));
}

#[cfg(unix)]
fn ignored(signal: i32) -> bool {
    let mut now = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: with no new action, the call only writes the present one to where it may, and `now` is read only if it did.
    unsafe { libc::sigaction(signal, std::ptr::null(), now.as_mut_ptr()) == 0 && now.assume_init().sa_sigaction == libc::SIG_IGN }
}

/// Listens from now on.
#[cfg(not(unix))]
pub fn install() {
    let first = Mutex::new(None);
    let listening = ctrlc::set_handler(move || arrived(INTERRUPT, &mut first.lock().unwrap_or_else(PoisonError::into_inner)));
    if let Err(e) = listening {
        warning(format!("ctrl-C will end the program at once, because its signal cannot be caught: {e}"));
    }
}
