//! Under another name the macros are told where the crate is.

#![deny(warnings, missing_debug_implementations)]

mod facade {
    pub(crate) mod workers {
        pub(crate) use pytoweb_workers::*;
    }
}

use facade::workers::{Service, run_in_worker, worker};

#[run_in_worker("renamed", crate = crate::facade::workers)]
fn double(x: u64) -> u64 {
    2 * x
}

struct Echo;

#[worker(crate = crate::facade::workers)]
impl Echo {
    #[worker_method("echo")]
    fn echo(&self, text: String) -> String {
        text
    }
}

fn main() {
    assert_eq!(double(21), 42);
    let worker = Echo.spawn("echo").expect("it starts");
    let reply = worker.ask::<String, String>("echo", "hello".to_owned()).expect("it is accepted");
    assert_eq!(reply.wait().expect("a reply"), "hello");
}
