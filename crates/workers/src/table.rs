//! What belongs to a worker besides its mailbox: its handlers, and what is told of failures.

use std::any::Any;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use pytoweb_engine::{Message, Outcome, ReplyState, Tally, TypeStats, contained};

use crate::batch::Batch;
use crate::dead_letter::{DeadLetter, DeadLetters};
use crate::error::{AskError, WorkerError};
use crate::kept::Kept;
use crate::kind_id::KindId;
use crate::kind_plans::KindPlans;
use crate::kinds::{Kind, Kinds, Registration, Signature};
use crate::lock::lock;
use crate::message::{Ended, Envelope, Route};
use crate::noted;
use crate::strays::Strays;
use crate::unseen;

/// What a worker runs when it has ended.
pub(crate) type StopHook = Box<dyn FnOnce() + Send>;

/// What the handle of a worker holds: known above here alone.
pub(crate) type Owner = Weak<dyn Any + Send + Sync>;

type ErrorHandler = Arc<dyn Fn(&WorkerError) + Send + Sync>;

/// What belongs to a worker besides its mailbox: its handlers.
pub(crate) struct Table {
    pub(crate) name: Box<str>,
    pub(crate) kinds: Kinds<Self>,
    pub(crate) plans: KindPlans,
    pub(crate) dead: DeadLetters,
    strays: Strays,
    on_error: RwLock<Option<ErrorHandler>>,
    on_stop: Mutex<Vec<StopHook>>,
    /// What the worker's handle holds; `None` for a pool.
    pub(crate) owner: Option<Owner>,
    /// What belongs to the worker's pool; dangling for one of its own, and for a pool. Weak: handlers of a pool may hold
    /// its workers.
    pool: Weak<Self>,
}

impl Table {
    pub(crate) fn new(name: &str, owner: Option<Owner>, pool: Weak<Self>) -> Self {
        Self {
            name: name.into(),
            kinds: Kinds::default(),
            plans: KindPlans::default(),
            dead: DeadLetters::default(),
            strays: Strays::default(),
            on_error: RwLock::new(None),
            on_stop: Mutex::default(),
            owner,
            pool,
        }
    }

    /// Registers a handler of messages, or of batches of them.
    pub(crate) fn register(
        &self,
        kind: &str,
        signature: Signature,
        registration: Registration<Self>,
        batch: Option<Batch>,
    ) {
        self.plans.set_batch(kind, batch);
        self.kinds.register(kind, signature, registration);
    }

    pub(crate) fn set_on_error(&self, handler: impl Fn(&WorkerError) + Send + Sync + 'static) {
        let handler = Kept::new(handler);
        let handler: ErrorHandler = Arc::new(move |error| {
            if let Some(handler) = handler.get() {
                handler(error);
            }
        });
        let old = self
            .on_error
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(handler);
        drop(old);
    }

    pub(crate) fn add_on_stop(&self, hook: impl FnOnce() + Send + 'static) {
        let mut hook = Kept::new(hook);
        lock(&self.on_stop).push(Box::new(move || {
            if let Some(hook) = hook.take() {
                hook();
            }
        }));
    }

    /// What is to run when the worker has ended, the one that was registered last first.
    pub(crate) fn take_on_stop(&self) -> Vec<StopHook> {
        let mut hooks = mem::take(&mut *lock(&self.on_stop));
        hooks.reverse();
        hooks
    }

    /// Lets go of the handlers, and of what they hold. That of errors stays with a pool, which tells it of its workers.
    pub(crate) fn let_go(&self) {
        drop(self.kinds.let_go(|table, envelope| table.unknown(envelope)));
        drop(self.take_on_stop());
        self.dead.let_go();
        if self.owner.is_none() {
            return;
        }
        let on_error = self
            .on_error
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(on_error);
    }

    /// What a message is called.
    pub(crate) fn kind_of(&self, envelope: &Envelope) -> String {
        match envelope.route() {
            Route::Known(id) => self.kinds.get(id).map_or("", Kind::name),
            Route::Named(name) => name,
            Route::Itself(name) => name,
        }
        .to_owned()
    }

    /// The place of the handler of a message.
    #[inline]
    pub(crate) fn find(&self, envelope: &Envelope) -> Option<KindId> {
        match envelope.route() {
            Route::Known(id) => Some(id),
            Route::Named(name) => self.kinds.find(name).map(|(id, _)| id),
            Route::Itself(_) => None,
        }
    }

    /// Counts with the tally of a message that has no kind at hand.
    pub(crate) fn tally(&self, envelope: &Envelope, count: impl FnOnce(&Tally)) {
        if cfg!(pytoweb_without_numbers) {
            return;
        }
        let name = match envelope.route() {
            Route::Known(id) => match self.kinds.get(id) {
                Some(kind) => return count(kind.tally()),
                None => "",
            },
            Route::Named(name) => match self.kinds.find(name) {
                Some((_, kind)) => return count(kind.tally()),
                None => name,
            },
            Route::Itself(name) => name,
        };
        count(&self.strays.tally(name))
    }

    /// Calls `see` for the tally of each kind.
    pub(crate) fn each_tally(&self, see: &mut dyn FnMut(&Tally)) {
        self.kinds.all().for_each(|kind| see(kind.tally()));
        self.strays.each_tally(see);
    }

    /// What became of the messages of each kind.
    pub(crate) fn type_stats(&self) -> BTreeMap<String, TypeStats> {
        let kinds = self.kinds.all();
        let mut all: BTreeMap<_, _> = kinds
            .map(|kind| (kind.name().to_owned(), kind.tally().stats()))
            .collect();
        for (name, stats) in self.strays.stats() {
            match all.entry(name) {
                Entry::Vacant(entry) => drop(entry.insert(stats)),
                Entry::Occupied(mut entry) => entry.get_mut().add(&stats),
            }
        }
        all
    }

    fn error_handler(&self) -> Option<ErrorHandler> {
        self.on_error
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Tells `on_error`, that of the pool, or the hook of the program where a failure would go unseen.
    #[cold]
    fn report(&self, envelope: &Envelope, error: AskError) -> AskError {
        let error = WorkerError::new(&self.name, self.kind_of(envelope), error);
        let of_pool = || self.pool.upgrade()?.error_handler();
        match self.error_handler().or_else(of_pool) {
            Some(handler) => {
                // The panic hook has reported a handler that panics here; the worker goes on.
                let _ = noted::during(envelope, || contained(|| handler(&error)));
            }
            None if envelope.state().is_none() => unseen::report(&error),
            None => {}
        }
        error.into_cause()
    }

    /// Ends a message that failed.
    #[cold]
    pub(crate) fn fail(&self, envelope: &Envelope, error: AskError) -> Ended {
        let error = self.report(envelope, error);
        Ended::of(Outcome::Failed, envelope.settle_error(error.into()))
    }

    /// Ends a message of a kind that is tried again, and that is tried no more: its attempts before the last one came to
    /// `errors`. It is a dead letter, unless its caller gave it up.
    #[cold]
    pub(crate) fn fail_for_good(
        &self,
        envelope: &Envelope,
        mut errors: Vec<AskError>,
        last: AskError,
    ) -> Ended {
        let last = self.report(envelope, last);
        let given_up = |state: &ReplyState| state.is_over() || state.is_cancel_requested();
        let kind = self.kind_of(envelope);
        let post = match envelope.state() {
            Some(state) if given_up(state) => None,
            _ => envelope.message().and_then(|message| message.repost(&kind)),
        };
        let of_ask = envelope.state().is_some();
        let (kept, told) = if of_ask {
            (last.as_text(), Some(last))
        } else {
            (last, None)
        };
        errors.push(kept);
        if let Some(post) = post {
            let letter = DeadLetter::new(&self.name, kind, errors, post);
            noted::during(envelope, || self.dead.add(letter));
        }
        let settled = told.is_none_or(|error| envelope.settle_error(error.into()));
        Ended::of(Outcome::Failed, settled)
    }

    /// Ends a message that has no handler.
    #[cold]
    pub(crate) fn unknown(&self, envelope: &Envelope) -> Ended {
        let kind = self.kind_of(envelope);
        self.fail(envelope, AskError::Unknown { kind })
    }
}
