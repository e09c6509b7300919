//! Work on all threads while the caller draws a progress bar.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rayon::prelude::*;

use trimodal_base::{Error, Result};

/// Computes `work(0..total)` on all threads, in order; stops early at the first error or when `progress` says so.
///
/// The calling thread only reports (about ten times a second), so `progress` needs no lock and may draw.
pub(crate) fn parallel<T: Send>(
    total: usize,
    work: impl Fn(usize) -> Result<T> + Sync,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Vec<T>> {
    let (done, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let result = std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let results: Vec<Option<Result<T>>> = (0..total)
                .into_par_iter()
                .with_max_len(64)
                .map(|i| {
                    if stop.load(Ordering::Relaxed) {
                        return None;
                    }
                    let result = work(i);
                    if result.is_err() {
                        stop.store(true, Ordering::Relaxed);
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                    Some(result)
                })
                .collect();
            // An error comes before the rows that were left out because of it, or after some of them: look for it.
            let mut samples = Vec::with_capacity(total);
            for result in results.into_iter().flatten() {
                samples.push(result?);
            }
            Ok(samples)
        });
        while !worker.is_finished() {
            if progress(done.load(Ordering::Relaxed), total).is_break() {
                stop.store(true, Ordering::Relaxed);
            }
            // The worker wakes this thread when it ends; short jobs should not wait for a tenth of a second.
            for _ in 0..20 {
                if worker.is_finished() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    if result.len() < total {
        return Err(Error::Interrupted { step: 0 });
    }
    let _ = progress(total, total);
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parallel_keeps_order_and_stops() {
        let mut last = (0, 0);
        let squares = parallel(1000, |i| Ok(i * i), &mut |done, total| {
            last = (done, total);
            ControlFlow::Continue(())
        });
        assert_eq!(squares.unwrap(), (0..1000).map(|i| i * i).collect::<Vec<_>>());
        assert_eq!(last, (1000, 1000));
        let error = parallel(1000, |i| if i == 500 { Err(Error::Usage("five hundred".into())) } else { Ok(i) }, &mut |_, _| ControlFlow::Continue(()));
        assert!(matches!(error, Err(Error::Usage(_))));
        let slow = |_| {
            std::thread::sleep(Duration::from_millis(5));
            Ok(())
        };
        assert!(matches!(parallel(10_000, slow, &mut |_, _| ControlFlow::Break(())), Err(Error::Interrupted { .. })));
        assert_eq!(parallel(0, Ok, &mut |_, _| ControlFlow::Continue(())).unwrap(), Vec::<usize>::new());
    }
}
