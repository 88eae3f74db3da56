//! What a caller asks of the mailbox for one message, as a plan of the engine: priority, key, delay, replacement; and whether
//! it is tried again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyInt, PyString, PyTuple};
use pytoweb_engine::{Clock, Key, MonotonicClock, Plan, Priority};

use crate::arguments;
use crate::error::class_name;
use crate::host::kinds::OfKind;
use crate::host::retrying::{Policy, Retrying};

/// The plan of a message.
#[derive(Clone, Debug)]
pub(crate) enum Planned {
    /// A priority and nothing else: all messages of one share it.
    OfLevel(Priority),
    Own(Arc<Plan>),
}

impl Planned {
    pub(crate) fn get(&self) -> &Plan {
        static OF_LEVELS: LazyLock<[Plan; Priority::LEVELS]> = LazyLock::new(|| {
            std::array::from_fn(|level| {
                let mut plan = Plan::default();
                if let Some(priority) = u8::try_from(level).ok().and_then(Priority::new) {
                    plan.priority = priority;
                }
                plan
            })
        });
        match self {
            Self::OfLevel(priority) => &OF_LEVELS[priority.level()],
            Self::Own(plan) => plan,
        }
    }
}

/// The keywords of a post, as they were given.
#[derive(Clone, Copy, Default)]
pub(crate) struct Wishes<'a, 'py> {
    pub(crate) priority: Option<&'a Bound<'py, PyAny>>,
    pub(crate) key: Option<&'a Bound<'py, PyAny>>,
    pub(crate) delay: Option<&'a Bound<'py, PyAny>>,
    pub(crate) at: Option<&'a Bound<'py, PyAny>>,
    pub(crate) keep_latest: Option<&'a Bound<'py, PyAny>>,
    pub(crate) retry: Option<&'a Bound<'py, PyAny>>,
    /// It is answered with a stream.
    pub(crate) streams: bool,
}

impl<'py> Wishes<'_, 'py> {
    /// Whether none was given.
    #[inline]
    pub(crate) const fn is_nothing(&self) -> bool {
        self.leaves_order() && self.retry.is_none()
    }

    /// Whether none was given that the order of messages depends on.
    #[inline]
    const fn leaves_order(&self) -> bool {
        self.priority.is_none()
            && self.key.is_none()
            && self.delay.is_none()
            && self.at.is_none()
            && self.keep_latest.is_none()
    }

    /// Whether nothing but a priority or a key was given.
    const fn asks_for_order_alone(&self) -> bool {
        self.delay.is_none() && self.at.is_none() && self.keep_latest.is_none()
    }

    /// The plan of a message of the type `kind`, or of a call. `of_kind`: what is asked for all of its type. `None`: it asks
    /// for nothing.
    #[inline]
    pub(crate) fn plan(
        &self,
        kind: Option<&Bound<'py, PyString>>,
        timeout: Option<Duration>,
        of_kind: Option<OfKind>,
        clock: &dyn Clock,
    ) -> PyResult<Option<Planned>> {
        if self.leaves_order() {
            match of_kind.as_ref().map(OfKind::plan) {
                None => return Ok(None),
                Some(Some(plan)) => return Ok(Some(Planned::Own(plan.clone()))),
                Some(None) => {}
            }
        } else if of_kind.is_none() && self.asks_for_order_alone() {
            return self.in_order().map(Some);
        }
        self.checked(kind, timeout, of_kind.unwrap_or_default(), clock)
            .map(|plan| Some(Planned::Own(Arc::new(plan))))
    }

    /// The plan of a message with a priority or a key alone. Made where it stays: moves of it would be a part of what a message
    /// with a key costs.
    #[inline]
    fn in_order(&self) -> PyResult<Planned> {
        let priority = self.priority.filter(|priority| !priority.is_none());
        let priority = priority.map(checked_priority).transpose()?;
        let priority = priority.unwrap_or_default();
        let Some(key) = self.key.filter(|key| !key.is_none()) else {
            return Ok(Planned::OfLevel(priority));
        };
        let mut plan = Arc::<Plan>::default();
        let place = Arc::make_mut(&mut plan);
        place.priority = priority;
        place.key = Some(key_of(key)?);
        Ok(Planned::Own(plan))
    }

    #[inline(never)]
    fn checked(
        &self,
        kind: Option<&Bound<'py, PyString>>,
        timeout: Option<Duration>,
        of_kind: OfKind,
        clock: &dyn Clock,
    ) -> PyResult<Plan> {
        let mut plan = Plan::default();
        if let Some(priority) = self.priority.filter(|priority| !priority.is_none()) {
            plan.priority = checked_priority(priority)?;
        }
        let key = self.key.filter(|key| !key.is_none());
        plan.key = key.map(key_of).transpose()?;
        if self.keeps_latest()? {
            let Some(key) = &plan.key else {
                return Err(PyValueError::new_err(
                    "keep_latest needs a key: a message replaces the queued one of its type with the same key",
                ));
            };
            let kind = kind.map(|kind| kind.to_string_lossy());
            let replaces = key.with(kind.as_deref().unwrap_or_default());
            plan.more_mut().replaces = Some(replaces);
        }
        if let Some(delay) = self.wait()? {
            if timeout.is_some_and(|timeout| timeout <= delay) {
                return Err(PyValueError::new_err(format!(
                    "timeout must be longer than the delay of {} s: it counts from the post, so the message would \
                     expire before its time",
                    delay.as_secs_f64()
                )));
            }
            if !delay.is_zero() {
                plan.more_mut().not_before = Some(clock.now().after(delay));
            }
        }
        of_kind.apply(&mut plan, || clock.now());
        Ok(plan)
    }

    fn keeps_latest(&self) -> PyResult<bool> {
        arguments::flag(self.keep_latest, "keep_latest", false)
    }

    /// How long the message is to wait from now.
    fn wait(&self) -> PyResult<Option<Duration>> {
        let delay = arguments::seconds(self.delay, "delay")?;
        let given = self.delay.is_some_and(|delay| !delay.is_none());
        if given && delay.is_none() {
            return Err(PyValueError::new_err(
                "delay must be a time that comes: a finite number of seconds",
            ));
        }
        let Some(at) = self.at.filter(|at| !at.is_none()) else {
            return Ok(delay);
        };
        if given {
            return Err(PyValueError::new_err(
                "give delay (seconds from now) or at (a point in time), not both",
            ));
        }
        Ok(Some(until(at)?))
    }
}

/// The keywords of a call from Python, as a tuple in their order; the tuple is `None` where none was given.
pub(crate) fn with_wishes<'py, R>(
    given: Option<&Bound<'py, PyTuple>>,
    then: impl FnOnce(Wishes<'_, 'py>) -> PyResult<R>,
) -> PyResult<R> {
    let Some(given) = given else {
        return then(Wishes::default());
    };
    let [priority, key, delay, at, keep_latest, retry]: [Bound<'py, PyAny>; 6] = given.extract()?;
    then(Wishes {
        priority: Some(&priority),
        key: Some(&key),
        delay: Some(&delay),
        at: Some(&at),
        keep_latest: Some(&keep_latest),
        retry: Some(&retry),
        streams: false,
    })
}

impl Wishes<'_, '_> {
    /// Whether the message is tried again when it fails: as the caller says, or else as is laid down for its type.
    pub(crate) fn retrying(&self, of_type: Option<Arc<Policy>>) -> PyResult<Option<Box<Retrying>>> {
        let policy = match self.retry.filter(|retry| !retry.is_none()) {
            Some(retry) => Policy::of(retry)?,
            None => of_type,
        };
        Ok(policy.map(|policy| Box::new(Retrying::new(policy))))
    }
}

/// Refuses what a post would refuse, for options that are given before it.
#[pyfunction]
pub(crate) fn check_wishes(wishes: &Bound<'_, PyTuple>) -> PyResult<()> {
    with_wishes(Some(wishes), |wishes| {
        wishes
            .plan(None, None, None, &MonotonicClock::new())
            .map(drop)
    })
}

fn checked_priority(priority: &Bound<'_, PyAny>) -> PyResult<Priority> {
    let is_int = priority.is_instance_of::<PyInt>() && !priority.is_instance_of::<PyBool>();
    if !is_int {
        return Err(PyTypeError::new_err(format!(
            "priority must be an int from 0 to 9, not {}",
            class_name(priority)
        )));
    }
    let level = priority.extract::<u8>().ok().and_then(Priority::new);
    level.ok_or_else(|| {
        PyValueError::new_err(format!(
            "priority must be from 0 (least urgent) to 9, not {priority}"
        ))
    })
}

/// The key that is made of an object: another one for objects that are not equal, or are of different types.
fn key_of(key: &Bound<'_, PyAny>) -> PyResult<Key> {
    if let Ok(text) = key.cast::<PyString>() {
        return match text.to_str() {
            Ok(text) => Ok(tagged(b's', text.as_bytes())),
            // Lone surrogates.
            Err(_) => Ok(tagged(
                b'u',
                text.call_method1("encode", ("utf-8", "surrogatepass"))?
                    .cast::<PyBytes>()?
                    .as_bytes(),
            )),
        };
    }
    if let Ok(bytes) = key.cast::<PyBytes>() {
        return Ok(tagged(b'b', bytes.as_bytes()));
    }
    // A bool is an int, and True equals 1: a key that is one by mistake would be that of others.
    if key.is_instance_of::<PyInt>() && !key.is_instance_of::<PyBool>() {
        if let Ok(number) = key.extract::<i64>() {
            return Ok(Key::from(number.cast_unsigned()));
        }
        // Not `str`, which an enumeration overrides and long numbers refuse.
        let number = key.call_method1("__format__", ("x",))?;
        return Ok(tagged(
            b'i',
            number.cast::<PyString>()?.to_str()?.as_bytes(),
        ));
    }
    Err(PyTypeError::new_err(format!(
        "a key must be a str, an int or bytes, not {}",
        class_name(key)
    )))
}

/// The key of these bytes of an object of a type.
fn tagged(of_type: u8, bytes: &[u8]) -> Key {
    // As many as lie in a key.
    let mut short = [of_type; 14];
    match short.get_mut(1..=bytes.len()) {
        Some(place) => {
            place.copy_from_slice(bytes);
            Key::new(&short[..=bytes.len()])
        }
        None => Key::new(&[&[of_type], bytes].concat()),
    }
}

/// How long until `at`, an aware datetime; nothing where that is over.
fn until(at: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let py = at.py();
    let datetime = py
        .import(intern!(py, "datetime"))?
        .getattr(intern!(py, "datetime"))?;
    if !at.is_instance(&datetime)? {
        return Err(PyTypeError::new_err(format!(
            "at must be a datetime with a time zone, not {}",
            class_name(at)
        )));
    }
    if at.call_method0(intern!(py, "utcoffset"))?.is_none() {
        return Err(PyValueError::new_err(
            "at must be a datetime with a time zone, such as datetime.now(timezone.utc): this one has none, and \
             could mean any",
        ));
    }
    let at: f64 = at.call_method0(intern!(py, "timestamp"))?.extract()?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Ok(Duration::try_from_secs_f64(at - now.as_secs_f64()).unwrap_or_default())
}

/// What is laid down for message types.
#[derive(Debug)]
pub(crate) struct ByType<T> {
    any: AtomicBool,
    by_type: Mutex<HashMap<String, Arc<T>>>,
}

impl<T> Default for ByType<T> {
    fn default() -> Self {
        Self {
            any: AtomicBool::new(false),
            by_type: Mutex::default(),
        }
    }
}

impl<T> ByType<T> {
    pub(crate) fn set(&self, kind: &str, value: Option<Arc<T>>) {
        let mut by_type = self.lock();
        let before = match value {
            Some(value) => by_type.insert(kind.to_owned(), value),
            None => by_type.remove(kind),
        };
        // ORDERING: Relaxed, a post at the same time may come before or after.
        self.any.store(!by_type.is_empty(), Ordering::Relaxed);
        drop(by_type);
        drop(before);
    }

    /// Whether anything is laid down.
    #[inline]
    pub(crate) fn are_there(&self) -> bool {
        // ORDERING: Relaxed, see `set`.
        self.any.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn of(&self, kind: &Bound<'_, PyString>) -> Option<Arc<T>> {
        if !self.are_there() {
            return None;
        }
        self.lock().get(kind.to_str().ok()?).cloned()
    }

    /// The same for an endpoint that is made anew; `renew` is what becomes of each.
    pub(crate) fn again(&self, renew: impl Fn(&Arc<T>) -> Arc<T>) -> Self {
        let by_type = self.lock();
        let anew = by_type
            .iter()
            .map(|(kind, known)| (kind.clone(), renew(known)));
        let anew = anew.collect::<HashMap<_, _>>();
        Self {
            any: AtomicBool::new(!anew.is_empty()),
            by_type: Mutex::new(anew),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<T>>> {
        self.by_type.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
