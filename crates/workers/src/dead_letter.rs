//! Dead letters: messages that have failed for good, although they were tried again.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use pytoweb_engine::contained;

use crate::error::AskError;
use crate::kept::Kept;
use crate::lock::lock;
use crate::message::{AnyMessage, Post};

/// Dead letters that a worker keeps; the oldest one goes for one more.
pub const DEAD_LETTERS: usize = 1_000;

/// A message that has failed for good, although its kind is tried again: with its payload, and with what came of each
/// attempt. A clone is the same letter.
///
/// ```
/// use pytoweb_workers::{Retry, Worker};
///
/// let worker = Worker::new("parser");
/// worker.on_message_retry("parse", Retry::new(1), |text: &String| text.parse::<u64>());
/// worker.on_error(|_| ());
/// worker.start()?;
/// worker.post_message("parse", "seven".to_owned())?;
/// worker.stop();
/// let letters = worker.dead_letters();
/// assert_eq!((letters[0].worker(), letters[0].kind()), ("parser", "parse"));
/// assert_eq!(letters[0].errors()[0].to_string(), "the handler failed: invalid digit found in string");
/// assert_eq!(letters[0].take::<String>(), Some("seven".to_owned()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct DeadLetter(Arc<Letter>);

struct Letter {
    worker: Box<str>,
    kind: Box<str>,
    errors: Vec<AskError>,
    /// `None` once its payload has gone elsewhere.
    post: Mutex<Option<Arc<dyn AnyMessage>>>,
}

impl fmt::Debug for DeadLetter {
    /// Without the payload, so that it need not implement `Debug`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetter")
            .field("worker", &self.worker())
            .field("kind", &self.kind())
            .field("errors", &self.errors())
            .finish_non_exhaustive()
    }
}

impl DeadLetter {
    pub(crate) fn new(
        worker: &str,
        kind: String,
        errors: Vec<AskError>,
        post: Arc<dyn AnyMessage>,
    ) -> Self {
        Self(Arc::new(Letter {
            worker: worker.into(),
            kind: kind.into(),
            errors,
            post: Mutex::new(Some(post)),
        }))
    }

    /// The worker whose message it was.
    #[must_use]
    pub fn worker(&self) -> &str {
        &self.0.worker
    }

    /// The kind of the message.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.0.kind
    }

    /// What came of each attempt, the last one last: [`AskError::Failed`] or [`AskError::Panicked`].
    ///
    /// The reply of an ask owns the error of the last attempt; here is its text then.
    #[must_use]
    pub fn errors(&self) -> &[AskError] {
        &self.0.errors
    }

    /// Lends the payload to `look`. `None`: it is no `T`, it was taken or posted again, or another thread looks at it.
    ///
    /// ```
    /// # use pytoweb_workers::{Retry, Worker};
    /// # let worker = Worker::new("parser");
    /// # worker.on_message_retry("parse", Retry::new(1), |text: &String| text.parse::<u64>());
    /// # worker.on_error(|_| ());
    /// # worker.start()?;
    /// # worker.post_message("parse", "seven".to_owned())?;
    /// # worker.stop();
    /// let letter = worker.dead_letters().remove(0);
    /// assert_eq!(letter.inspect(String::len), Some(5));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn inspect<T: 'static, R>(&self, look: impl FnOnce(&T) -> R) -> Option<R> {
        let post = lock(&self.0.post).clone()?;
        post.as_any().downcast_ref::<Post<T>>()?.payload.lend(look)
    }

    /// Moves the payload out. `None`: it is no `T`, it was taken or posted again, or another thread looks at it.
    #[must_use]
    pub fn take<T: 'static>(&self) -> Option<T> {
        let post = lock(&self.0.post).clone()?;
        post.as_any().downcast_ref::<Post<T>>()?.payload.take()
    }

    /// The payload as a message, to be posted; and a place to put it back into.
    pub(crate) fn take_post(&self) -> Option<Arc<dyn AnyMessage>> {
        let mut post = lock(&self.0.post);
        let again = post.as_ref()?.repost(self.kind())?;
        *post = None;
        Some(again)
    }

    /// Takes back what [`DeadLetter::take_post`] gave, and was refused.
    pub(crate) fn put_back(&self, post: Arc<dyn AnyMessage>) {
        *lock(&self.0.post) = Some(post);
    }
}

type Handler = Arc<dyn Fn(&DeadLetter) + Send + Sync>;

/// The dead letters of a worker, and what is told of each.
#[derive(Default)]
pub(crate) struct DeadLetters {
    letters: Mutex<VecDeque<DeadLetter>>,
    /// How many there ever were.
    count: AtomicU64,
    handler: RwLock<Option<Handler>>,
}

impl DeadLetters {
    pub(crate) fn set_handler(&self, handler: impl Fn(&DeadLetter) + Send + Sync + 'static) {
        let handler = Kept::new(handler);
        self.replace_handler(Some(Arc::new(move |letter| {
            if let Some(handler) = handler.get() {
                handler(letter);
            }
        })));
    }

    /// Lets go of the handler, and keeps the letters.
    pub(crate) fn let_go(&self) {
        self.replace_handler(None);
    }

    fn replace_handler(&self, handler: Option<Handler>) {
        let mut current = self.handler.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *current, handler);
        drop(current);
        drop(old);
    }

    /// Keeps `letter`, and tells the handler.
    pub(crate) fn add(&self, letter: DeadLetter) {
        // ORDERING: Relaxed, only the sum matters.
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut letters = lock(&self.letters);
        let oldest = (letters.len() >= DEAD_LETTERS).then(|| letters.pop_front());
        letters.push_back(letter.clone());
        drop(letters);
        drop(oldest);
        let handler = self
            .handler
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        // The panic hook has reported a handler that panics here; the worker goes on.
        let _ = contained(|| handler.map(|handler| handler(&letter)));
    }

    /// How many there ever were.
    pub(crate) fn count(&self) -> u64 {
        // ORDERING: Relaxed, only the sum matters.
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn all(&self) -> Vec<DeadLetter> {
        lock(&self.letters).iter().cloned().collect()
    }

    pub(crate) fn forget(&self, letter: &DeadLetter) {
        lock(&self.letters).retain(|kept| !Arc::ptr_eq(&kept.0, &letter.0));
    }
}
