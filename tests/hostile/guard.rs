//! What a reader may do to the machine while it reads one file: panic (never), take time, take memory. All three are measured here.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

/// One file may take this long to read, in time of the processor: how busy the machine is with other things is not the file's doing.
/// Without optimisation and with every addition checked, scaling the largest pictures takes three times as long.
pub const TIME: Duration = Duration::from_secs(if cfg!(debug_assertions) { 3 } else { 1 });
/// A picture at the limit of what may be decoded may take this long: its size is what the user allowed.
pub const LARGEST: Duration = Duration::from_secs(3);
/// And this much memory, in bytes, the file itself included.
pub const MEMORY: usize = 256 << 20;
/// Where a reader is not merely slow but stuck: the program ends, and says with which file.
const STUCK: Duration = Duration::from_secs(60);

thread_local! {
    static NOW: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
    static MEASURING: Cell<bool> = const { Cell::new(false) };
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// The system's allocator, with what the present thread holds and has held at most.
pub struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; the counters are thread-local cells without destructors, which
// never allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract is the system's.
        let block = unsafe { System.alloc(layout) };
        count(block, layout.size());
        block
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let block = unsafe { System.alloc_zeroed(layout) };
        count(block, layout.size());
        block
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        NOW.with(|now| now.set(now.get().wrapping_sub(layout.size())));
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Old and new may both be there for a moment: both are counted.
        // SAFETY: as above.
        let new = unsafe { System.realloc(block, layout, size) };
        if !new.is_null() {
            count(new, size);
            NOW.with(|now| now.set(now.get().wrapping_sub(layout.size())));
        }
        new
    }
}

fn count(block: *mut u8, size: usize) {
    if !block.is_null() {
        let now = NOW.with(|now| {
            now.set(now.get().wrapping_add(size));
            now.get()
        });
        // What other threads allocated and this one frees may take it below zero, which is not a peak.
        PEAK.with(|peak| peak.set(if now < isize::MAX as usize { peak.get().max(now) } else { peak.get() }));
    }
}

/// What reading one file came to.
pub struct Outcome {
    /// `None`: taken. Else the error's sentence.
    pub refused: Option<String>,
    /// Panics that reached the caller.
    pub escaped: Option<String>,
    /// Panics that the reader caught and turned into its error.
    pub contained: Vec<String>,
    /// What was allocated at most beyond what was there before, in bytes.
    pub peak: usize,
    /// How long the thread computed.
    pub time: Duration,
}

/// Runs a reader and sees what it does.
pub fn measure<T>(read: impl FnOnce() -> trimodal::Result<T>) -> Outcome {
    quiet_while_measuring();
    let before = NOW.get();
    PEAK.set(before);
    MEASURING.set(true);
    let watched = Watched::start();
    let start = thread_time();
    let result = catch_unwind(AssertUnwindSafe(|| read().map(drop)));
    let time = thread_time().saturating_sub(start);
    drop(watched);
    MEASURING.set(false);
    let peak = PEAK.get().saturating_sub(before);
    let mut panics = PANICS.take();
    let (refused, escaped) = match result {
        Ok(result) => (result.err().map(|error| error.to_string()), None),
        Err(_) => (None, Some(panics.pop().unwrap_or_default())),
    };
    Outcome { refused, escaped, contained: panics, peak, time }
}

/// How long this thread has computed (POSIX `CLOCK_THREAD_CPUTIME_ID`).
#[cfg(target_os = "linux")]
fn thread_time() -> Duration {
    #[repr(C)]
    struct Timespec {
        seconds: std::ffi::c_long,
        nanoseconds: std::ffi::c_long,
    }
    unsafe extern "C" {
        fn clock_gettime(clock: std::ffi::c_int, time: *mut Timespec) -> std::ffi::c_int;
    }
    let mut time = Timespec { seconds: 0, nanoseconds: 0 };
    // SAFETY: the struct is the C library's on 64-bit Linux; the call writes it and keeps nothing.
    let code = unsafe { clock_gettime(3, &mut time) };
    assert_eq!(code, 0, "every thread has a clock");
    Duration::new(time.seconds as u64, time.nanoseconds as u32)
}

/// Elsewhere by the clock on the wall.
#[cfg(not(target_os = "linux"))]
fn thread_time() -> Duration {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    START.elapsed()
}

/// A panic hook that records what a measured reader says; other panics are printed as usual.
fn quiet_while_measuring() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if MEASURING.get() {
                MEASURING.set(false); // the hook's own allocations and failures are not the reader's
                PANICS.with_borrow_mut(|panics| panics.push(panic.to_string().replace('\n', " ")));
                MEASURING.set(true);
            } else {
                usual(panic);
            }
        }));
    });
}

/// Whether arithmetic that overflows panics, as it must while fuzzing: it does in the dev profile.
pub fn overflow_is_checked() -> bool {
    let one = std::hint::black_box(1u8);
    measure(|| Ok(std::hint::black_box(u8::MAX) + one)).escaped.is_some()
}

// ── the watchdog ─────────────────────────────────────────────────────────────────────────────────────────────────────

thread_local! {
    /// The file that this thread reads, for the watchdog's last words.
    static READING: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
}

/// Names the file whose reading [`measure`] is about to time.
pub fn reading(path: &std::path::Path) {
    READING.set(Some(path.to_path_buf()));
}

static RUNNING: Mutex<Vec<(u64, Instant, PathBuf)>> = Mutex::new(Vec::new());

/// While it lives, the watchdog counts the time.
struct Watched(u64);

impl Watched {
    fn start() -> Self {
        static ONCE: Once = Once::new();
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        ONCE.call_once(|| drop(std::thread::spawn(watch)));
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = READING.with_borrow(|path| path.clone().unwrap_or_default());
        RUNNING.lock().unwrap_or_else(|e| e.into_inner()).push((number, Instant::now(), path));
        Watched(number)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        RUNNING.lock().unwrap_or_else(|e| e.into_inner()).retain(|(number, ..)| *number != self.0);
    }
}

fn watch() {
    loop {
        std::thread::sleep(Duration::from_millis(500));
        for (_, start, path) in RUNNING.lock().unwrap_or_else(|e| e.into_inner()).iter() {
            if start.elapsed() > STUCK {
                eprintln!("stuck for {STUCK:?} with {} (kept there)", path.display());
                std::process::abort();
            }
        }
    }
}
