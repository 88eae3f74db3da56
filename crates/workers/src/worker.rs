//! The worker's handle.
use std::sync::{Arc, Weak};
use pytoweb_engine::{Pool as EnginePool, PoolOptions, WorkerOptions};
use crate::dispatch::{Dispatch, Table, run_typed};
use crate::error::*;
use crate::kinds::{Registration, Signature};
use crate::reply::Reply;
use crate::send::{self, Engine, Room};

pub(crate) struct WorkerInner {
    engine: Engine,
}

/// W
#[derive(Clone)]
pub struct Worker(Arc<WorkerInner>);

impl Worker {
    /// n
    pub fn new(name: &str) -> Self {
        Self::make(name, WorkerOptions::default(), &EnginePool::new(PoolOptions::new(1)))
    }
    pub(crate) fn make(name: &str, options: WorkerOptions, pool: &EnginePool) -> Self {
        Self(Arc::new_cyclic(|owner| WorkerInner {
            engine: Engine::new(name, Dispatch { table: Arc::new(Table::new(name, owner.clone())) }, options, pool),
        }))
    }
    pub(crate) fn from_owner(owner: &Weak<WorkerInner>) -> Option<Self> {
        owner.upgrade().map(Self)
    }
    /// on
    pub fn on_message<T, R, E, F>(&self, kind: &str, mut handler: F) -> &Self
    where
        T: Send + 'static,
        R: Send + 'static,
        E: Into<BoxError>,
        F: FnMut(T) -> Result<R, E> + Send + 'static,
    {
        let registration = Registration::Exclusive(Box::new(move |table, parcel| run_typed(table, parcel, &mut handler)));
        self.0.engine.handler().table.kinds.register(kind, Signature::of::<T, R>(), registration);
        self
    }
    /// s
    pub fn start(&self) -> Result<(), StartError> {
        if self.0.engine.start()? { Ok(()) } else { Err(StartError::Stopped) }
    }
    /// s
    pub fn stop(&self) {
        let _ = self.0.engine.stop(pytoweb_engine::StopMode::Drain, None);
    }
    /// s
    pub fn ask<T: Send + 'static, R: Send + 'static>(&self, kind: &str, data: T) -> Result<Reply<R>, SendError<T>> {
        send::ask(&self.0.engine, kind, data, Room::Wait)
    }
    /// s
    pub fn post_message<T: Send + 'static>(&self, kind: &str, data: T) -> Result<(), SendError<T>> {
        send::post(&self.0.engine, kind, data, Room::Wait)
    }
}
/// p
#[derive(Clone)]
pub struct WorkerPool(EnginePool);
impl WorkerPool {
    /// n
    pub fn new(size: usize) -> Self { Self(EnginePool::new(PoolOptions::new(size))) }
    /// c
    pub fn create_worker(&self, name: &str) -> Result<Worker, CreateError> { Ok(Worker::make(name, WorkerOptions::default(), &self.0)) }
}
