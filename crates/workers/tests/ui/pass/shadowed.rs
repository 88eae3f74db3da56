//! The expansion does not care what names mean where it stands.

#![deny(warnings)]

mod inner {
    #![allow(dead_code)]
    struct Result;
    struct Ok;
    struct Option;
    struct Send;
    mod core {}
    mod std {}

    #[pytoweb_workers::run_in_worker("shadowed")]
    pub(super) fn seven() -> u64 {
        7
    }

    pub(super) struct Service;

    #[pytoweb_workers::worker]
    impl Service {
        #[pytoweb_workers::worker_method("seven")]
        fn seven(&self) -> u64 {
            7
        }
    }
}

fn main() {
    assert_eq!(inner::seven(), 7);
    let worker = pytoweb_workers::Service::spawn(inner::Service, "shadowed").expect("it starts");
    assert_eq!(worker.ask::<(), u64>("seven", ()).expect("it is accepted").wait().expect("a reply"), 7);
}
