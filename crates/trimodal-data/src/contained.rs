//! Decoders are other people's, and the files are anybody's: where a decoder panics, that file is refused and the program continues.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is inside a decoder whose panic will become an error: a panic hook has nothing to report then.
pub fn inside() -> bool {
    INSIDE.get()
}

/// What a panic says, where it says something.
pub fn said(panic: &(dyn Any + Send)) -> Option<&str> {
    panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str))
}

/// Runs a decoder. A panic in it becomes an error like any other; whatever it was working on is dropped.
pub(crate) fn contained<T>(decode: impl FnOnce() -> std::result::Result<T, String>) -> std::result::Result<T, String> {
    let outer = INSIDE.replace(true);
    // What `decode` borrowed is only read, or made again by its caller: nothing half-changed can be seen afterwards.
    let result = catch_unwind(AssertUnwindSafe(decode));
    INSIDE.set(outer);
    result.unwrap_or_else(|panic| {
        let text = said(&*panic).unwrap_or("without a reason");
        Err(format!("the decoder gave up: {}", text.replace('\n', " ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_and_only_within() {
        assert!(!inside());
        assert_eq!(contained(|| Ok(inside())), Ok(true));
        let overflow = || Ok(std::hint::black_box([1u8, 2])[std::hint::black_box(2)]);
        let error = contained(overflow).unwrap_err();
        assert!(error.starts_with("the decoder gave up: index out of bounds"), "{error}");
        assert!(!inside());
        assert_eq!(contained(|| Err::<(), _>("as usual".to_string())), Err("as usual".to_string()));
    }
}
