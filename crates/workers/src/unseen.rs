//! Failures that no handler, reply or caller is told of, and handlers that are stuck: the one place where this crate says
//! something by itself.

use std::sync::{Arc, PoisonError, RwLock};

use pytoweb_engine::{Overrun, Stuck, contained};

use crate::error::WorkerError;
use crate::kept::Kept;

type Hook = Arc<dyn Fn(&WorkerError) + Send + Sync>;

static HOOK: RwLock<Option<Hook>> = RwLock::new(None);

/// Has `hook` told of each failed message that was posted (not asked) to a worker without `on_error`, in a pool without
/// one, in the place of the line on standard error; or of the event `ERROR` of target `pytoweb_workers`, with the feature
/// `tracing`. For the whole program; replaces an earlier hook.
///
/// It is called on the worker's thread. One that panics is reported by the panic hook and changes nothing.
///
/// # Examples
/// ```
/// use std::sync::mpsc;
/// use std::time::Duration;
/// use pytoweb_workers::{Worker, set_error_hook};
///
/// let (tell, told) = mpsc::channel();
/// set_error_hook(move |error| {
///     let _ = tell.send(format!("{}: {}", error.worker(), error.kind()));
/// });
/// let worker = Worker::new("parser");
/// worker.on_message("parse", |text: String| text.parse::<u64>());
/// worker.start()?;
/// worker.post_message("parse", "seven".to_owned())?;
/// assert_eq!(told.recv_timeout(Duration::from_secs(5))?, "parser: parse");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn set_error_hook(hook: impl Fn(&WorkerError) + Send + Sync + 'static) {
    let hook = Kept::new(hook);
    let hook: Hook = Arc::new(move |error| {
        if let Some(hook) = hook.get() {
            hook(error);
        }
    });
    let old = HOOK
        .write()
        .unwrap_or_else(PoisonError::into_inner)
        .replace(hook);
    // Outside the lock: it is a user's value.
    drop(old);
}

/// Says that a handler of `worker` is stuck: on standard error, or as the event `WARN` of target `pytoweb_workers`, with
/// the feature `tracing`.
pub(crate) fn report_stuck(worker: &str, stuck: &Stuck) {
    let seconds = stuck.lasted.as_secs_f64();
    let of = match &stuck.name {
        Some(kind) => format!(" of `{kind}`"),
        None => String::new(),
    };
    let text = match stuck.why {
        Overrun::Limit(after) => format!(
            "worker `{worker}`: a handler{of} has run for {seconds:.1} s; it counts as stuck after {} s",
            after.as_secs_f64()
        ),
        _ => format!(
            "worker `{worker}`: a handler still runs {seconds:.1} s after its message's deadline"
        ),
    };
    // A subscriber is a user's code.
    let _ = contained(|| warn(worker, &text));
}

#[cfg(feature = "tracing")]
fn warn(worker: &str, text: &str) {
    tracing::warn!(target: "pytoweb_workers", worker, "{text}");
}

#[cfg(not(feature = "tracing"))]
fn warn(_worker: &str, text: &str) {
    write_line(text);
}

/// Reports `error`, whose text is a user's code, as is a hook. Never panics.
pub(crate) fn report(error: &WorkerError) {
    let hook = HOOK.read().unwrap_or_else(PoisonError::into_inner).clone();
    // The panic hook has reported one that panics here.
    let _ = contained(|| match hook {
        Some(hook) => hook(error),
        None => say(error),
    });
}

/// The text of `error`, or that there is none.
fn text_of(error: &WorkerError) -> String {
    contained(|| error.to_string()).unwrap_or_else(|panic| {
        format!(
            "worker `{}`, message `{}`: it failed, and to say how panicked: {}",
            error.worker(),
            error.kind(),
            panic.into_text()
        )
    })
}

#[cfg(feature = "tracing")]
fn say(error: &WorkerError) {
    let text = text_of(error);
    tracing::error!(target: "pytoweb_workers", worker = error.worker(), kind = error.kind(), "{text}");
}

/// Not with `eprintln!`, which panics where standard error is closed or full.
#[cfg(not(feature = "tracing"))]
fn say(error: &WorkerError) {
    write_line(&text_of(error));
}

#[cfg(not(feature = "tracing"))]
fn write_line(text: &str) {
    use std::io::{self, Write};

    let line = format!("pytoweb: {text}\n");
    // In one write, so that the lines of several threads do not mix. There is no place to tell that this failed.
    let _ = io::stderr().lock().write_all(line.as_bytes());
}
